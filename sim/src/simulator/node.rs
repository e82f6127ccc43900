//! A node: the real machines, driven the way the lock layer drives them.

use std::rc::Rc;
use std::time::Duration;

use crate::clock::LocalClock;
use crate::protocol::{Candidate, Consistency, Holder, Moment, Mutant, Observation, SentAt, Version, Write, on};
use crate::timing::Timing;

use super::store::Acquisition;

pub(crate) const NEVER: u64 = u64::MAX;

/// The SDK's retry bucket, as it comes.
pub(crate) const RETRY_TOKENS: u32 = 500;

/// The one request that is under way.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    /// Of its latest attempt: what earlier ones are answered reaches nobody.
    pub(crate) id: u64,
    pub(crate) sent: SentAt,
    pub(crate) request: Request,
    pub(crate) attempts: u32,
    /// What the latest repetition took from the bucket.
    pub(crate) paid: u32,
    /// Between two attempts.
    pub(crate) pauses: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Request {
    Read(Consistency),
    /// Shared by the request, its second attempt and its duplicates.
    Write(Rc<Write>),
}

/// What a `Leadership` shares with its keeper: validity, token, work.
#[derive(Debug)]
pub(crate) struct Cell {
    /// Until when `is_valid()` says yes.
    pub(crate) valid_until: Option<Moment>,
    pub(crate) token_fired: bool,
    pub(crate) working: bool,
    pub(crate) work_ends: Option<Moment>,
    pub(crate) drain_until: Option<Moment>,
    /// Its end has been announced for then.
    pub(crate) lets_go: Option<Moment>,
    pub(crate) was_over: bool,
}

#[derive(Debug)]
pub(crate) struct Tenure {
    pub(crate) holder: Holder,
    pub(crate) acquisition: Acquisition,
    pub(crate) candidate: Candidate,
    pub(crate) cell: Option<Cell>,
    /// Versions this acquisition sent, oldest first.
    pub(crate) attempted: Vec<Version>,
    /// Its clock stood still, at this moment: nothing is promised of it but the fence, until a write is applied that was
    /// sent later.
    pub(crate) stopped: Option<Moment>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one of each node")]
pub(crate) enum Activity {
    Down,
    Following(Candidate),
    Tenure(Box<Tenure>),
}

/// When each of a node's timers fires, in true time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timers {
    pub(crate) wake: u64,
    /// The SDK's own: the end of an attempt or of the pause after it, and the end of the operation.
    pub(crate) retry: u64,
    pub(crate) timeout: u64,
    /// The keeper compares its timers with the clock.
    pub(crate) compare: u64,
}

impl Timers {
    pub(crate) const NONE: Self = Self { wake: NEVER, retry: NEVER, timeout: NEVER, compare: NEVER };

    pub(crate) fn next(&self) -> u64 {
        self.wake.min(self.retry).min(self.timeout).min(self.compare)
    }

    /// They stood still for so long.
    pub(crate) fn stood_still(&mut self, length: u64) {
        for timer in [&mut self.wake, &mut self.retry, &mut self.timeout] {
            *timer = timer.saturating_add(length);
        }
    }
}

/// The end of the last term of a node, as the next holder's arrival is measured against it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastTerm {
    pub(crate) acquisition: Acquisition,
    /// The true time at which `is_valid()` began to say no.
    pub(crate) valid_until: u64,
    /// When the token fired.
    pub(crate) fired: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) clock: LocalClock,
    pub(crate) timing: Timing,
    pub(crate) at_tolerance: bool,
    pub(crate) observation: Observation,
    pub(crate) activity: Activity,
    pub(crate) flight: Option<Flight>,
    pub(crate) timers: Timers,
    /// The SDK's time limits, in true time.
    pub(crate) attempt_timeout: u64,
    pub(crate) operation_timeout: u64,
    /// Events of an earlier life are dropped.
    pub(crate) life: u32,
    pub(crate) paused_until: u64,
    /// The machine itself stands, and with it the timers.
    pub(crate) stands_until: u64,
    pub(crate) requests_cut_until: u64,
    pub(crate) replies_cut_until: u64,
    pub(crate) requests: u64,
    /// Of them, those before the last faults were over and their effects gone.
    pub(crate) unsettled_requests: u64,
    /// What the SDK may still spend on further attempts.
    pub(crate) retry_tokens: u32,
    /// How many terms it has led.
    pub(crate) led: u64,
    pub(crate) last_term: Option<LastTerm>,
}

impl Node {
    pub(crate) fn new(clock: LocalClock, timing: Timing, at_tolerance: bool) -> Self {
        let mut node = Self {
            clock,
            timing,
            attempt_timeout: 0,
            operation_timeout: 0,
            at_tolerance,
            observation: Observation::default(),
            activity: Activity::Down,
            flight: None,
            timers: Timers::NONE,
            life: 0,
            paused_until: 0,
            stands_until: 0,
            requests_cut_until: 0,
            replies_cut_until: 0,
            requests: 0,
            unsettled_requests: 0,
            retry_tokens: RETRY_TOKENS,
            led: 0,
            last_term: None,
        };
        node.set_timing(timing);
        node
    }

    pub(crate) fn set_timing(&mut self, timing: Timing) {
        self.timing = timing;
        self.attempt_timeout = self.clock.span(timing.attempt_timeout());
        self.operation_timeout = self.clock.span(timing.operation_timeout());
    }

    /// The machine stands until then; its timers stand still with it.
    pub(crate) fn stand_still(&mut self, now: u64, until: u64) {
        // What falls into a time in which it stands already adds the rest alone.
        let from = now.max(self.stands_until);
        self.timers.stood_still(until.saturating_sub(from));
        self.stands_until = until.max(self.stands_until);
    }

    /// When it acts next by itself: a timer, as soon as it runs.
    pub(crate) fn due(&self) -> u64 {
        self.timers.next().max(self.paused_until)
    }

    pub(crate) fn tenure(&mut self) -> Option<&mut Tenure> {
        match &mut self.activity {
            Activity::Tenure(tenure) => Some(tenure),
            Activity::Down | Activity::Following(_) => None,
        }
    }

    pub(crate) fn held(&self) -> Option<&Tenure> {
        match &self.activity {
            Activity::Tenure(tenure) => Some(tenure),
            Activity::Down | Activity::Following(_) => None,
        }
    }

    pub(crate) fn cell(&self) -> Option<&Cell> {
        self.held().and_then(|tenure| tenure.cell.as_ref())
    }

    /// Whether `is_valid()` would say yes at this true time, were the process running or not.
    pub(crate) fn is_valid(&self, time: u64) -> bool {
        let Some(cell) = self.cell() else { return false };
        if on(Mutant::ValidUntilToldOtherwise) {
            return !cell.token_fired;
        }
        cell.valid_until.is_some_and(|until| self.clock.local(time) < until)
    }

    /// No acquisition of another may be applied before this moment of the node's clock: the end of what work may still use
    /// after a forced end, and the guard. Where clocks are further off than promised, the guard alone, up to the
    /// profile's tolerance.
    pub(crate) fn untouchable_until(&self) -> Option<Moment> {
        let tenure = self.held()?;
        // Without work nothing is to be protected: what was let go of voluntarily is released only then.
        let cell = tenure.cell.as_ref().filter(|cell| cell.working && tenure.stopped.is_none())?;
        let until = if self.at_tolerance { cell.valid_until? } else { tenure.holder.hard_deadline()? };
        Some(until.after(self.timing.guard()).before(ROUNDING))
    }
}

/// Conversions between clocks round, each by less than a nanosecond.
const ROUNDING: Duration = Duration::from_micros(1);
