//! What must hold, at every step.

use super::*;

impl World {
    /// I1, as the theorem puts it: no other acquisition is applied while a holder's work may still run.
    pub(super) fn check_takeover(&mut self, by: Option<Acquisition>) {
        for index in 0..NODES {
            let holds = match &self.nodes[index].activity {
                Activity::Tenure(tenure) => Some(tenure.acquisition) != by,
                Activity::Down | Activity::Following(_) => false,
            };
            let (local, until) = (self.local(index), self.nodes[index].untouchable_until());
            if holds && until.is_some_and(|until| local < until) {
                self.fail(format!("I1: taken over from node {index} at {local:?}, whose work may run until {until:?}"));
            }
        }
        if self.foreign_is_valid() && by.is_some() {
            self.fail("I1: taken over from a foreign client that still believes in its lease".into());
        }
    }

    /// R3 and R4, from outside: what the evidence says decides what it may have led to.
    pub(super) fn after_refusal(&mut self, index: usize, write: &Write, seen: &Seen, noted: Noted, now: Moment) {
        let Some(tenure) = self.nodes[index].tenure() else { return };
        let phase = tenure.holder.phase();
        if phase == Phase::Refused {
            tenure.candidate.refused(noted, now);
        }
        let (acquisition, attempted) = (tenure.acquisition, tenure.attempted.clone());
        let Seen::Record(found) = seen else { return };
        // A deleted record forgets: there a late creation may come back, owned by nobody, for one lease.
        if self.store.author_of(&found.version) != Some(acquisition) || found.released || self.scenario.forgets() {
            return;
        }
        self.seldom.adopted += 1;
        let gone = matches!(phase, Phase::Lost(Loss::TakenOver) | Phase::Refused | Phase::Ended(Release::AlreadyGone));
        if gone {
            self.fail(format!("R4: node {index} gave up on a record of its own: {found:?}, {phase:?}"));
        }
        let back = attempted.iter().rev().position(|version| *version == found.version);
        if back.is_some_and(|back| (1..=2).contains(&back)) {
            self.fail(format!("R3: node {index} was refused by its own latest writes: {write:?}"));
        }
    }

    pub(super) fn check(&mut self) {
        let now = self.now;
        let ours = self.nodes.iter().filter(|node| node.is_valid(now)).count();
        let foreign = self.foreign_is_valid();
        if ours + usize::from(foreign) > 1 {
            self.fail(format!("I1: {ours} valid holders of ours, foreign: {foreign}"));
        }
        if now < nanos(QUIET + self.scenario.liveness_bound()) {
            return;
        }
        // I6: somebody leads by now, and nothing deposes a healthy leader.
        let holder = self.nodes.iter().find(|node| node.is_valid(now)).map(|node| match &node.activity {
            Activity::Tenure(tenure) => tenure.acquisition,
            Activity::Down | Activity::Following(_) => 0,
        });
        match (holder, self.steady) {
            (None, _) => self.fail("I6: nobody leads although all faults have stopped".into()),
            (Some(holder), Some(steady)) if holder != steady => {
                self.fail(format!("I6: a healthy leader was replaced: {steady} by {holder}"));
            }
            (holder, _) => self.steady = holder,
        }
    }

    /// I7: nobody asks more than its timing allows: polls or heartbeats, retries at a quarter of a heartbeat.
    pub(super) fn check_budget(&mut self) {
        for index in 0..NODES {
            let node = &self.nodes[index];
            let fastest = node.timing.poll().min(node.timing.heartbeat() / 4) / 2;
            let allowed = nanos(END) / nanos(fastest) + PER_TERM * node.led + 50;
            let requests = node.requests;
            if requests > allowed {
                self.fail(format!("I7: node {index} sent {requests} requests, {allowed} are allowed"));
            }
        }
    }
}
