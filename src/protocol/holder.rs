//! The holder's side: claim, renew until told otherwise, stop in time, release.
//!
//! The driver asks [`Holder::poll`] what to do, sends what [`Holder::begin`] makes, and hands every
//! answer back. One request is in flight at most (R11). Nothing here waits or reads a clock.

use std::time::Duration;

use super::memory::Memory;
use super::message::{
    HeldUntil, Loss, Moment, Release, Reply, Seen, SentAt, Sighting, Version, Write, WriteKind, Writer,
};
use super::mutant;
use super::pace::Plan;

/// The first pause after a failed write. Doubles, up to a quarter of the heartbeat; for a release, which saves no lease, up to
/// the heartbeat.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// By how long after a heartbeat those who follow it have read it, unless reads fail.
const LOOKED: Duration = Duration::from_millis(250);

/// Who decides when a heartbeat is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Renewal {
    /// The holder, on its absolute schedule.
    Scheduled,
    /// The user: nothing is sent, or tried again, without being asked for.
    OnDemand,
}

/// The part of the timing that a holder needs. Every write sets the whole of it (R1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Terms {
    pub(crate) lease: Duration,
    pub(crate) validity: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) renewal: Renewal,
    /// From the send, how long work may drain after a forced end (R7).
    pub(crate) hard_limit: Duration,
}

/// Everything a holder can be. One enum is the state; only this file changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// The claim is not acknowledged yet.
    Claiming,
    /// The claim was refused: somebody else was faster. Final.
    Refused,
    /// The lease is held, by this clock, until the deadline.
    Holding,
    /// A voluntary end: the token has fired, renewals go on while work winds down (R7).
    Draining,
    /// A forced end: no renewals, work winds down until the hard limit (R7). Never revived (R8).
    Lost(Loss),
    /// Work has ended; the release is on its way.
    Releasing,
    /// Final.
    Ended(Release),
}

/// What the driver does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make a fresh version, read the clock, call [`Holder::begin`], send what it returns.
    Send,
    /// Read the record strongly consistent and hand it to [`Holder::on_read`].
    Read,
    /// Nothing to send before this moment; call again then, or when an answer arrives.
    Wait(Moment),
    /// Nothing will ever happen again without an input.
    Idle,
}

/// Two ends of one lease, both counted from a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Deadlines {
    /// The holder believes in the lease until here.
    held: HeldUntil,
    /// Work that winds down after a forced end must be over by here.
    hard: HeldUntil,
}

impl Deadlines {
    fn from_send(sent: SentAt, terms: Terms) -> Self {
        Self { held: HeldUntil::from_send(sent, terms.validity), hard: HeldUntil::from_send(sent, terms.hard_limit) }
    }

    fn earlier(self, other: Self) -> Self {
        Self { held: self.held.min(other.held), hard: self.hard.min(other.hard) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum InFlight {
    Nothing,
    Write(WriteKind),
    Read,
}

/// The state of one acquisition, from its claim to its release.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Holder {
    terms: Terms,
    token: u64,
    phase: Phase,
    memory: Memory,
    deadlines: Option<Deadlines>,
    /// When the last write that extends the lease was sent.
    last_sent: Option<SentAt>,
    /// When the last lease that any of these writes promised is over: releases are retried until then.
    over: Moment,
    in_flight: InFlight,
    next_send: Moment,
    /// The heartbeat schedule is absolute: send to send, whatever the replies take.
    scheduled: Moment,
    misses: u32,
    release_tried: bool,
    /// When it lets go, once that has been announced.
    ends: Option<Moment>,
}

impl Holder {
    /// A claim of a record seen absent (`base` is `None`), released, or expired at version `base`.
    pub(crate) fn claim(base: Option<Version>, token: u64, terms: Terms, now: Moment) -> Self {
        Self {
            terms,
            token,
            phase: Phase::Claiming,
            memory: Memory::new(base),
            deadlines: None,
            last_sent: None,
            over: now,
            in_flight: InFlight::Nothing,
            next_send: now,
            scheduled: now,
            misses: 0,
            release_tried: false,
            ends: None,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    /// The token of the term, where something else than the claim decides it: before it is handed out.
    pub(crate) fn set_token(&mut self, token: u64) {
        self.token = token;
    }

    /// Until when this clock may believe in the lease; `None` once it is over, for good (R8).
    pub(crate) fn held_until(&self) -> Option<Moment> {
        match self.phase {
            Phase::Holding | Phase::Draining => self.deadlines.map(|until| until.held.moment()),
            Phase::Claiming | Phase::Refused | Phase::Lost(_) | Phase::Releasing | Phase::Ended(_) => None,
        }
    }

    /// The last moment at which work may still run after a forced end (R7).
    pub(crate) fn hard_deadline(&self) -> Option<Moment> {
        self.deadlines.map(|until| until.hard.moment())
    }

    /// Consecutive heartbeats that did not come through. The first one puts the lease at risk (R5).
    pub(crate) fn misses(&self) -> u32 {
        self.misses
    }

    /// Whether a claim that was given up may have been applied, so that a release is owed.
    pub(crate) fn has_attempts(&self) -> bool {
        self.memory.has_attempts()
    }

    /// What to do now. Ends the term itself when the deadline has passed.
    pub(crate) fn poll(&mut self, now: Moment) -> Step {
        self.expire(now);
        if self.in_flight != InFlight::Nothing {
            return self.held_until().map_or(Step::Idle, Step::Wait);
        }
        match self.phase {
            Phase::Claiming | Phase::Holding | Phase::Draining => {
                if now < self.next_send {
                    Step::Wait(self.held_until().map_or(self.next_send, |until| until.min(self.next_send)))
                } else if self.memory.is_full() {
                    Step::Read
                } else {
                    Step::Send
                }
            }
            Phase::Releasing => self.poll_release(now),
            Phase::Refused | Phase::Lost(_) | Phase::Ended(_) => Step::Idle,
        }
    }

    /// A release is retried until it is confirmed or the lease is over; it is tried at least once,
    /// at any time, since it names only our own versions (R7).
    fn poll_release(&mut self, now: Moment) -> Step {
        if self.release_tried && now >= self.over {
            self.phase = Phase::Ended(Release::Unknown);
            Step::Idle
        } else if now < self.next_send {
            Step::Wait(self.next_send)
        } else {
            Step::Send
        }
    }

    /// R8: what is past its deadline is over, whatever the network says later.
    pub(crate) fn expire(&mut self, now: Moment) {
        let live = matches!(self.phase, Phase::Holding | Phase::Draining);
        if live && self.deadlines.is_some_and(|until| now >= until.held.moment()) {
            self.phase = Phase::Lost(Loss::Deadline);
        }
    }

    /// Makes the write that [`Step::Send`] asked for. `version` must never have been used before.
    pub(crate) fn begin(&mut self, sent: SentAt, version: Version) -> Write {
        let kind = match self.phase {
            Phase::Claiming => WriteKind::Claim { token: self.token },
            Phase::Holding | Phase::Draining => WriteKind::Renew,
            Phase::Releasing | Phase::Refused | Phase::Lost(_) | Phase::Ended(_) => WriteKind::Release,
        };
        self.in_flight = InFlight::Write(kind);
        // A release of nothing would leave half a record behind: only a claim creates.
        let or_absent = self.memory.base().is_none() && matches!(kind, WriteKind::Claim { .. });
        let names = self.memory.begin(&version, sent, self.terms);
        match kind {
            WriteKind::Release => self.release_tried = true,
            WriteKind::Claim { .. } | WriteKind::Renew => {
                self.last_sent = Some(sent);
                self.over = self.over.max(sent.0.after(self.terms.lease));
                self.lower(sent, self.terms);
            }
        }
        let plan = Plan {
            heartbeat: (self.terms.renewal == Renewal::Scheduled).then_some(self.terms.heartbeat),
            ending: self.ends.map(|ends| ends.since(sent.0)),
        };
        Write { kind, version, names, or_absent, lease: self.terms.lease, plan }
    }

    /// R1: a write that promises a shorter lease counts from its send, answered or not: it may be
    /// applied, and others may take over when its lease is over. One that promises as much lowers nothing.
    fn lower(&mut self, sent: SentAt, terms: Terms) {
        if !mutant::on(mutant::Mutant::LeaseNotLowered)
            && let Some(until) = &mut self.deadlines
        {
            *until = until.earlier(Deadlines::from_send(sent, terms));
        }
    }

    /// The answer to the write in flight. `spread` in `0.0..1.0` scatters retries of many clients.
    pub(crate) fn on_reply(&mut self, reply: &Reply, now: Moment, spread: f64) {
        let InFlight::Write(kind) = std::mem::replace(&mut self.in_flight, InFlight::Nothing) else {
            return;
        };
        self.expire(now);
        match reply {
            Reply::Applied => self.on_applied(kind, now, spread),
            Reply::Refused(seen) => self.on_evidence(seen, now, spread),
            Reply::Unknown => self.on_miss(now, spread),
        }
    }

    fn on_applied(&mut self, kind: WriteKind, now: Moment, spread: f64) {
        if let Some(latest) = self.memory.latest() {
            self.settle(latest, now, spread);
        }
        self.misses = 0;
        if kind == WriteKind::Release {
            self.phase = Phase::Ended(Release::Released);
        }
    }

    /// The attempt at `index` is, or was, the record's current version.
    fn settle(&mut self, index: usize, now: Moment, spread: f64) {
        let Some(settled) = self.memory.settle(index) else { return };
        let from = if mutant::on(mutant::Mutant::DeadlineFromReply) { SentAt(now) } else { settled.sent };
        let until = Deadlines::from_send(from, settled.terms);
        match self.phase {
            Phase::Claiming | Phase::Holding | Phase::Draining => {
                // R1: those sent after it may still be applied, and may promise less.
                let open = self.memory.open().iter().filter(|_| !mutant::on(mutant::Mutant::LeaseNotLowered));
                let until = open.fold(until, |until, open| until.earlier(Deadlines::from_send(open.sent, open.terms)));
                self.deadlines = Some(until);
                self.schedule(now, spread);
                if self.phase == Phase::Claiming {
                    // A claim so slow that its validity is over is not handed out (R1): nobody ever
                    // held it, so it can be released at once.
                    self.phase = if now < until.held.moment() { Phase::Holding } else { Phase::Releasing };
                    self.next_send = if self.phase == Phase::Holding { self.next_send } else { now };
                }
                self.expire(now);
            }
            // R8: a late reply to a heartbeat tells which version to release, and revives nothing.
            Phase::Lost(_) if mutant::on(mutant::Mutant::ReviveAfterDeadline) => {
                self.deadlines = Some(until);
                self.phase = Phase::Holding;
            }
            Phase::Lost(_) | Phase::Releasing | Phase::Refused | Phase::Ended(_) => {}
        }
    }

    /// The next beat of the absolute schedule `t0 + k H` that lies in the future.
    fn schedule(&mut self, now: Moment, spread: f64) {
        if self.terms.renewal == Renewal::OnDemand {
            self.next_send = Moment::NEVER;
            return;
        }
        if self.phase == Phase::Claiming {
            // Locks acquired at the same moment must not beat at the same moment for ever: the first
            // beat comes up to half a period early, but not so early that a slow claim has missed it.
            let sent = self.last_sent.map_or(now, |sent| sent.0);
            let left = self.terms.heartbeat.saturating_sub(now.since(sent).saturating_add(Duration::from_nanos(1)));
            let early = self.terms.heartbeat.mul_f64(0.5 * spread.clamp(0.0, 1.0)).min(left);
            self.scheduled = sent.before(early);
        }
        // A beat off the schedule leaves the next one where it is: each would put it off by a period otherwise,
        // and a few of them past the deadline.
        self.scheduled = self.scheduled.next_after(now, self.terms.heartbeat);
        self.next_send = self.scheduled;
    }

    /// The record as it is: of a refused write, or of the read that settles too many unknowns.
    fn on_evidence(&mut self, seen: &Seen, now: Moment, spread: f64) {
        let found = match seen {
            Seen::Absent if self.memory.base().is_none() && self.phase == Phase::Claiming => {
                return self.on_miss(now, spread);
            }
            Seen::Absent | Seen::Malformed => return self.on_foreign(Loss::RecordGone),
            Seen::Record(found) => found,
        };
        let mine = self.memory.find(&found.version);
        match mine {
            // Our own release, whose reply was lost.
            Some(_) if found.released && self.phase == Phase::Releasing => self.phase = Phase::Ended(Release::Released),
            // Marked released under a live holder: that is how others force a step-down (R3).
            Some(_) if found.released => self.on_foreign(Loss::ReleasedByAnother),
            // R4: a failed condition is not proof of loss. This very acquisition wrote it: adopt it.
            Some(index) if !mutant::on(mutant::Mutant::FailedConditionIsLoss) => {
                self.settle(index, now, spread);
                self.next_send = now;
            }
            _ if self.memory.base() == Some(&found.version) => match self.phase {
                Phase::Claiming => self.on_miss(now, spread),
                _ if found.released => self.on_foreign(Loss::ReleasedByAnother),
                _ => self.on_base(now),
            },
            _ if self.is_of_an_earlier_term(found) => self.on_foreign(Loss::TokenRegressed),
            _ => self.on_foreign(Loss::TakenOver),
        }
    }

    /// R6: tokens rise with every take-over, so a lower one, written by this crate, was brought back by hand.
    fn is_of_an_earlier_term(&self, found: &Sighting) -> bool {
        found.writer == Writer::Ours && found.token.is_some_and(|token| token < self.token)
    }

    fn on_foreign(&mut self, loss: Loss) {
        self.phase = match self.phase {
            Phase::Claiming => Phase::Refused,
            Phase::Holding | Phase::Draining => Phase::Lost(loss),
            Phase::Releasing => Phase::Ended(Release::AlreadyGone),
            phase @ (Phase::Lost(_) | Phase::Refused | Phase::Ended(_)) => phase,
        };
    }

    /// R5: unknown is not lost. Try again soon; the deadline stands where it was.
    fn on_miss(&mut self, now: Moment, spread: f64) {
        if mutant::on(mutant::Mutant::TimeoutIsSuccess) {
            return self.settle(self.memory.latest().unwrap_or_default(), now, spread);
        }
        self.misses = self.misses.saturating_add(1);
        let cap = if self.phase == Phase::Releasing { self.terms.heartbeat } else { self.terms.heartbeat / 4 };
        let pause = FIRST_BACKOFF.saturating_mul(1 << self.misses.min(10)).min(cap);
        let on_demand = self.terms.renewal == Renewal::OnDemand;
        self.next_send = match self.phase {
            // Whoever asked for it hears of the failure, and asks again.
            Phase::Holding | Phase::Draining if on_demand => Moment::NEVER,
            _ => now.after(pause.mul_f64(0.5 + 0.5 * spread.clamp(0.0, 1.0))),
        };
    }

    /// [`Step::Read`] is on its way.
    pub(crate) fn begin_read(&mut self) {
        self.in_flight = InFlight::Read;
    }

    /// What the read showed, `None` if it failed.
    pub(crate) fn on_read(&mut self, seen: Option<&Seen>, now: Moment, spread: f64) {
        self.in_flight = InFlight::Nothing;
        self.expire(now);
        // Past the read the condition may leave out all but the latest attempts: the memory of the
        // others lasts, and a refusal that shows one of them is adopted (R4).
        match seen {
            Some(Seen::Absent) if self.phase == Phase::Claiming && self.memory.base().is_none() => self.on_base(now),
            Some(seen) if self.phase == Phase::Claiming && self.shows_base(seen) => self.on_base(now),
            Some(seen) => self.on_evidence(seen, now, spread),
            None => self.on_miss(now, spread),
        }
    }

    fn shows_base(&self, seen: &Seen) -> bool {
        matches!(seen, Seen::Record(found) if self.memory.base() == Some(&found.version))
    }

    /// The base is current: none of the attempts has been applied so far, so send on.
    fn on_base(&mut self, now: Moment) {
        self.memory.base_stands();
        self.next_send = now;
    }

    /// What every write from now on promises. It holds from the send of the first of them where it is
    /// less, and from its acknowledgement where it is more (R1).
    pub(crate) fn set_terms(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// A heartbeat now instead of on schedule.
    pub(crate) fn beat_now(&mut self, now: Moment) {
        self.next_send = self.next_send.min(now);
    }

    /// A voluntary end is planned: every write from here on tells followers of it, so that they are there when the lease is let
    /// go. Nothing else changes; gives when to [`resign`](Self::resign). `None` if nothing is held, or no heartbeat comes through at present:
    /// nobody would hear of it then.
    ///
    /// Followers have looked once by then: those who poll within a `poll`, those who follow heartbeats after the next one of the
    /// schedule. It takes no longer than `most`.
    pub(crate) fn announce(&mut self, now: Moment, poll: Duration, most: Duration) -> Option<Moment> {
        // A heartbeat that is not answered at once will not tell anybody soon either.
        let waits =
            self.in_flight != InFlight::Nothing && self.last_sent.is_some_and(|sent| now.since(sent.0) > LOOKED);
        if self.phase != Phase::Holding || self.misses > 0 || waits || most.is_zero() {
            return None;
        }
        let scheduled = match self.terms.renewal {
            Renewal::OnDemand => now,
            // The one that is under way does not tell of it yet.
            Renewal::Scheduled => self.scheduled.next_after(now, self.terms.heartbeat),
        };
        let ends = scheduled.max(now.after(poll)).after(LOOKED).min(now.after(most));
        self.ends = Some(ends);
        Some(ends)
    }

    /// A voluntary end begins: the token fires now, renewals go on until work has ended (R7).
    pub(crate) fn resign(&mut self) {
        if self.phase == Phase::Holding {
            self.phase = Phase::Draining;
        }
    }

    /// Work has ended, or was dropped: from here on the lease is over for us (R8), release it (I5).
    /// A claim that is given up comes here too.
    pub(crate) fn work_ended(&mut self, now: Moment) {
        match self.phase {
            Phase::Claiming if !self.has_attempts() => self.phase = Phase::Refused,
            // Nothing of ours is left in the record.
            Phase::Lost(Loss::TakenOver | Loss::RecordGone | Loss::ReleasedByAnother | Loss::TokenRegressed) => {
                self.phase = Phase::Ended(Release::AlreadyGone);
            }
            Phase::Claiming | Phase::Holding | Phase::Draining | Phase::Lost(Loss::Deadline) => {
                self.phase = Phase::Releasing;
                self.next_send = now;
                self.misses = 0;
            }
            Phase::Releasing | Phase::Refused | Phase::Ended(_) => {}
        }
    }

    /// Work did not end within its bound and could not be dropped: no release, the lease runs out (R7).
    pub(crate) fn abandon(&mut self) {
        if !matches!(self.phase, Phase::Refused | Phase::Ended(_)) {
            self.phase = Phase::Ended(Release::Expired);
        }
    }

    /// Tries once more what could not be released: allowed at any time, since a release names only
    /// our own versions (R7).
    pub(crate) fn release_again(&mut self, now: Moment) {
        if self.phase == Phase::Ended(Release::Unknown) && self.in_flight == InFlight::Nothing {
            self.phase = Phase::Releasing;
            self.release_tried = false;
            self.next_send = now;
            self.misses = 0;
        }
    }
}
