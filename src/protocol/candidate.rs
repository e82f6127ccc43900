//! One campaign for a key: when to look at the record, when to claim it.

use std::time::Duration;

use super::follower::{Absence, Noted, Observation, Verdict};
use super::message::{Consistency, Moment, SentAt, Version};
use super::pace::Pace;

/// What a candidate does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Poll the record (R13: followers poll with reads, never with writes).
    Read(Consistency),
    /// Start a [`Holder`](super::holder::Holder) with these.
    Claim { base: Option<Version>, token: u64 },
    /// Nothing before this moment.
    Wait(Moment),
}

/// What a candidate lets pass before it claims what it may claim: others go first. It only delays a take-over, so it
/// cannot harm safety; liveness is bounded by what stands here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Restraint {
    /// Claims nothing before this moment.
    pub(crate) not_before: Moment,
    /// Claims only what it has seen free for so long.
    pub(crate) delay: Duration,
    /// Claims nothing before this moment, unless it has seen somebody hold it: for whoever has handed it over. A moment, so that one
    /// campaign after the other does not put it off.
    pub(crate) courteous_until: Moment,
}

/// One campaign for a key: when to read, when to claim.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Candidate {
    pace: Pace,
    /// What was seen last, to tell what is new to this campaign.
    seen: Option<Version>,
    own_lease: Duration,
    absence: Absence,
    create_first: bool,
    restraint: Restraint,
    paused: bool,
    free_since: Option<Moment>,
    not_before: Moment,
    failures: u32,
}

/// How much slower a candidate polls a record that it must not take over, or a table it can't use.
const SLOWDOWN: u32 = 10;

impl Candidate {
    /// `create_first`: at first contact write before reading, for tables whose records are deleted on release.
    pub(crate) fn new(poll: Duration, own_lease: Duration, absence: Absence, create_first: bool) -> Self {
        Self {
            pace: Pace::new(poll, false),
            seen: None,
            own_lease,
            absence,
            create_first,
            restraint: Restraint::default(),
            paused: false,
            free_since: None,
            not_before: Moment::default(),
            failures: 0,
        }
    }

    pub(crate) fn restrained(self, restraint: Restraint) -> Self {
        Self { restraint, ..self }
    }

    /// Follows its holder's heartbeats instead of polling. A release that is not announced is seen later by that, by a heartbeat
    /// at most.
    pub(crate) fn phase_locked(self) -> Self {
        let pace = Pace::new(self.pace.poll(), true);
        Self { pace, ..self }
    }

    /// A paused candidate goes on reading, and claims nothing.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Since when the record could be claimed, as far as this campaign has looked.
    fn note_free(&mut self, verdict: &Verdict, now: Moment) {
        match verdict {
            Verdict::Free { .. } => _ = self.free_since.get_or_insert(now),
            Verdict::HeldUntil(_) => {
                self.free_since = None;
                self.restraint.courteous_until = Moment::default();
            }
            Verdict::Unknown | Verdict::Blocked(_) => self.free_since = None,
        }
    }

    /// When this candidate may claim what is free.
    fn claims_from(&self, now: Moment) -> Moment {
        if self.paused {
            return Moment::NEVER;
        }
        let Restraint { not_before, delay, courteous_until } = self.restraint;
        not_before.max(courteous_until).max(self.free_since.unwrap_or(now).after(delay))
    }

    pub(crate) fn next(&mut self, known: &Observation, now: Moment) -> Next {
        let verdict = known.verdict(now, self.absence, self.own_lease);
        self.note_free(&verdict, now);
        let paced = |next: Next| {
            if now < self.not_before { Next::Wait(self.not_before) } else { next }
        };
        let read = || Next::Read(if known.is_doubtful() { Consistency::Strong } else { Consistency::Eventual });
        let claims_from = self.claims_from(now);
        match verdict {
            Verdict::Unknown if self.create_first && now >= claims_from => {
                paced(Next::Claim { base: None, token: known.next_token() })
            }
            Verdict::Unknown | Verdict::Blocked(_) => paced(read()),
            // Others go first; meanwhile it is looked at, since one of them may have come.
            Verdict::Free { .. } if now < claims_from && now < self.not_before => {
                Next::Wait(claims_from.min(self.not_before))
            }
            Verdict::Free { .. } if now < claims_from => read(),
            // After a failure even what looks free waits for the pace, and is looked at first: a read costs least while the
            // store fails, and leaves nothing behind that must be taken back.
            Verdict::Free { base } if self.failures == 0 => Next::Claim { base, token: known.next_token() },
            Verdict::Free { .. } => paced(read()),
            // The take-over is fired by its own timer, not at the next poll.
            Verdict::HeldUntil(at) if now < self.not_before => Next::Wait(at.min(self.not_before)),
            Verdict::HeldUntil(_) => read(),
        }
    }

    /// A read that was sent then was answered.
    pub(crate) fn answered(&mut self, known: &Observation, sent: SentAt, now: Moment) {
        self.failures = 0;
        let is_new = known.version() != self.seen.as_ref();
        if is_new {
            self.seen = known.version().cloned();
        }
        let blocked = matches!(known.verdict(now, self.absence, self.own_lease), Verdict::Blocked(_));
        let next = self.pace.looked(sent, now, known.held(), is_new);
        self.not_before = if blocked { now.after(self.poll().saturating_mul(SLOWDOWN)) } else { next };
    }

    fn poll(&self) -> Duration {
        self.pace.poll()
    }

    /// Something that only a human can mend keeps it from being claimed: it is looked at rarely.
    pub(crate) fn blocked(&mut self, now: Moment) {
        self.failures = 1;
        self.not_before = now.after(self.poll().saturating_mul(SLOWDOWN));
    }

    /// A claim was refused. Evidence that changed nothing must not lead to the same claim at once.
    pub(crate) fn refused(&mut self, noted: Noted, now: Moment) {
        self.failures = u32::from(noted == Noted::Same || noted == Noted::Stale);
        self.not_before = now.after(self.poll());
    }

    /// A request failed. Backs off to the poll period (ten of them where only a human can help).
    pub(crate) fn failed(&mut self, transient: bool, now: Moment, spread: f64) {
        self.failures = self.failures.saturating_add(1);
        let cap = if transient { self.poll() } else { self.poll().saturating_mul(SLOWDOWN) };
        let pause = (self.poll() / 8).saturating_mul(1 << self.failures.min(10)).min(cap);
        self.not_before = now.after(pause.mul_f64(0.5 + 0.5 * spread.clamp(0.0, 1.0)));
    }
}
