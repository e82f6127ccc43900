//! What must hold, at every step.

use super::*;

/// I7: requests of one node in the whole run stay below what its timing allows, and this for each term.
const PER_TERM: u64 = 12;
/// The same for each end that somebody announces: followers look often then.
const PER_END: u64 = 20;
/// How late a timer may fire, and the keeper's look after a suspend.
const LATE: u64 = 2_000_000;

impl World {
    /// The theorem's assumptions hold: clocks are within their bounds, and only this protocol writes the record.
    pub(super) fn is_sheltered(&self) -> bool {
        self.scenario.judged == Judged::Everything && !self.scenario.has_operator()
    }

    /// I1, as the theorem puts it: no other acquisition is applied while a holder's work may still run.
    pub(super) fn check_takeover(&mut self, by: Option<Acquisition>) {
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let local = node.clock.local(self.now);
            let is_other = node.held().is_some_and(|tenure| Some(tenure.acquisition) != by);
            if let Some(until) = node.untouchable_until().filter(|until| is_other && local < *until)
                && self.is_sheltered()
            {
                self.fail(format!("I1: taken over from node {index} at {local:?}, whose work may run until {until:?}"));
            }
        }
        if self.foreign_is_valid() && by.is_some() && self.is_sheltered() {
            self.fail("I1: taken over from a foreign client that still believes in its lease".into());
        }
    }

    /// I2: in the order in which the store applied the acquisitions.
    pub(super) fn check_token(&mut self, token: u64) {
        let counted = self.scenario.has_tokens() || on(Mutant::TokenInDeletedRecord);
        if counted && token <= self.last_token {
            self.fail(format!("I2: token {token} after {}", self.last_token));
        }
        self.last_token = token;
    }

    /// R3 and R4, from outside: what the evidence says decides what it may have led to.
    pub(super) fn after_refusal(&mut self, index: usize, write: &Write, seen: &Seen, noted: Noted, now: Moment) {
        let Some(tenure) = self.nodes[index].tenure() else { return };
        let phase = tenure.holder.phase();
        if phase == Phase::Refused {
            tenure.candidate.refused(noted, now);
        }
        let (acquisition, stopped) = (tenure.acquisition, tenure.stopped);
        let Seen::Record(found) = seen else { return };
        let back = tenure.attempted.iter().rev().position(|version| *version == found.version);
        // A deleted record forgets: there a late creation may come back, owned by nobody, for one lease.
        if self.store.author_of(&found.version) != Some(acquisition)
            || found.released
            || self.scenario.forgets()
            || stopped.is_some()
        {
            return;
        }
        self.tally.counts.adopted += 1;
        let gone = matches!(phase, Phase::Lost(Loss::TakenOver) | Phase::Refused | Phase::Ended(Release::AlreadyGone));
        if gone {
            self.fail(format!("R4: node {index} gave up on a record of its own: {found:?}, {phase:?}"));
        }
        if back.is_some_and(|back| (1..=2).contains(&back)) {
            self.fail(format!("R3: node {index} was refused by its own latest writes: {write:?}"));
        }
    }

    /// After everything that happens.
    pub(super) fn check(&mut self) {
        let now = self.now;
        let (mut valid, mut stopped) = (usize::from(self.foreign_is_valid()), 0);
        for node in self.nodes.iter().filter(|node| node.is_valid(now)) {
            valid += 1;
            stopped += usize::from(node.held().is_some_and(|tenure| tenure.stopped.is_some()));
        }
        // A5 does not hold where a clock stood still: this is what the fence is for. The others exclude each other.
        if valid - stopped > 1 && self.is_sheltered() {
            self.fail(format!("I1: {valid} valid holders"));
        }
        let several = valid > 1 && stopped > 0;
        self.tally.counts.exclusion_lost_to_hypervisor += u64::from(several && !self.several_valid);
        self.several_valid = several;
        if now >= self.quiet {
            self.check_liveness(now);
        }
    }

    /// R9: a running process is told of the end of its validity: on time, or, after a suspend, at the keeper's next look.
    pub(super) fn check_told(&mut self, index: usize, valid_until: u64) {
        let node = &self.nodes[index];
        let from = valid_until.max(node.paused_until);
        // Timers stood still as long as the machine did: until the keeper has looked at the clock they are late.
        let looked = if node.stands_until > 0 { node.stands_until + COMPARE_EVERY } else { 0 };
        if self.now > from.max(looked) + LATE {
            self.fail(format!("R9: node {index} was told {} ns after the end of its validity", self.now - from));
        }
    }

    /// I6: somebody leads by now, and nothing deposes a healthy leader.
    fn check_liveness(&mut self, now: u64) {
        let holder = self.nodes.iter().find(|node| node.is_valid(now)).and_then(|node| node.held());
        let holder = holder.map(|tenure| tenure.acquisition);
        if holder.is_some() && !self.recovered {
            self.recovered = true;
            let (took, bound) = (now - self.quiet, self.led_from - self.quiet);
            self.tally.recovery.note(took);
            self.tally.worst_recovery = took.saturating_mul(1_000_000) / bound.max(1);
        }
        if now < self.led_from {
            self.nodes.iter_mut().for_each(|node| node.unsettled_requests = node.requests);
            return;
        }
        match (holder, self.steady) {
            (None, _) => self.fail("I6: nobody leads although all faults have stopped".into()),
            (Some(holder), Some(steady)) if holder != steady => {
                self.fail(format!("I6: a healthy leader was replaced: {steady} by {holder}"));
            }
            (holder, _) => self.steady = holder,
        }
    }

    /// I7: nobody sends anything but polls or heartbeats once nothing fails any more.
    pub(super) fn check_calm_budget(&mut self) {
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let period = if node.held().is_some() { node.timing.heartbeat() } else { node.timing.poll() };
            let settled = node.requests - node.unsettled_requests;
            // A follower may look sooner now and then than it would poll.
            let burst = if node.held().is_some() { 2 } else { 10 };
            let due = self.end.saturating_sub(self.led_from) / node.clock.span(period).max(1) + burst;
            if settled > due {
                self.fail(format!("I7: node {index} sent {settled} requests in a calm time, {due} were due"));
            }
        }
    }

    /// I7: nobody asks more than its timing allows: polls or heartbeats, retries at a quarter of a heartbeat; and more around an
    /// announced end.
    pub(super) fn check_budget(&mut self) {
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let timings = [Some(node.timing), Some(self.scenario.settings[index].timing), self.scenario.rollout];
            let fastest = |timing: Timing| timing.poll().min(timing.heartbeat() / 4) / 2;
            let fastest = timings.into_iter().flatten().map(fastest).min().unwrap_or_default();
            let often = PER_TERM * node.led + PER_END * self.tally.counts.announced;
            let allowed = self.end / nanos(fastest).max(1) + often + 50;
            let requests = node.requests;
            if requests > allowed {
                self.fail(format!("I7: node {index} sent {requests} requests, {allowed} are allowed"));
            }
        }
    }
}
