//! A node: the real machines, driven the way the lock layer drives them.

use std::time::Duration;

use crate::protocol::{Candidate, Holder, Moment, Observation, SentAt, Write};
use crate::timing::Timing;

use super::store::Acquisition;

/// A clock that is off by a few parts per million, and started whenever it did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalClock {
    offset: u64,
    rate: u128,
}

const MILLION: u128 = 1_000_000;

impl LocalClock {
    pub(crate) fn new(offset: u64, drift: i64) -> Self {
        Self { offset, rate: MILLION.saturating_add_signed(drift.into()) }
    }

    pub(crate) fn local(self, time: u64) -> Moment {
        let run = u128::from(time) * self.rate / MILLION;
        Moment::from_nanos(self.offset + u64::try_from(run).unwrap_or(u64::MAX / 2))
    }

    /// The first true time at which the clock shows `moment`.
    pub(crate) fn true_time(self, moment: Moment) -> u64 {
        let run = u128::from(moment.nanos().saturating_sub(self.offset)) * MILLION;
        u64::try_from(run.div_ceil(self.rate)).unwrap_or(u64::MAX)
    }
}

/// The one request that is under way.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub(crate) id: u64,
    pub(crate) sent: SentAt,
    pub(crate) request: Request,
}

#[derive(Debug, Clone)]
pub(crate) enum Request {
    Read(crate::protocol::Consistency),
    Write(Write),
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
    pub(crate) was_over: bool,
}

#[derive(Debug)]
pub(crate) struct Tenure {
    pub(crate) holder: Holder,
    pub(crate) acquisition: Acquisition,
    pub(crate) candidate: Candidate,
    pub(crate) cell: Option<Cell>,
    /// Versions this acquisition sent, oldest first.
    pub(crate) attempted: Vec<crate::protocol::Version>,
    /// The lease was changed: which guard belongs to its hard limit is not told from outside.
    pub(crate) extended: bool,
}

#[derive(Debug)]
pub(crate) enum Activity {
    Down,
    Following(Candidate),
    Tenure(Box<Tenure>),
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) clock: LocalClock,
    pub(crate) timing: Timing,
    pub(crate) observation: Observation,
    pub(crate) activity: Activity,
    pub(crate) flight: Option<Flight>,
    /// Events of an earlier life are dropped.
    pub(crate) life: u32,
    pub(crate) paused_until: u64,
    pub(crate) cut_until: u64,
    pub(crate) requests: u64,
    /// How many terms it has led.
    pub(crate) led: u64,
}

impl Node {
    pub(crate) fn tenure(&mut self) -> Option<&mut Tenure> {
        match &mut self.activity {
            Activity::Tenure(tenure) => Some(tenure),
            Activity::Down | Activity::Following(_) => None,
        }
    }

    pub(crate) fn cell(&self) -> Option<&Cell> {
        match &self.activity {
            Activity::Tenure(tenure) => tenure.cell.as_ref(),
            Activity::Down | Activity::Following(_) => None,
        }
    }

    /// Whether `is_valid()` would say yes at this true time, were the process running or not.
    pub(crate) fn is_valid(&self, time: u64) -> bool {
        let now = self.clock.local(time);
        self.cell().is_some_and(|cell| cell.valid_until.is_some_and(|until| now < until))
    }

    /// No acquisition of another may be applied before this moment of the node's clock: the end of
    /// what work may still use after a forced end, and the guard.
    pub(crate) fn untouchable_until(&self) -> Option<Moment> {
        let Activity::Tenure(tenure) = &self.activity else { return None };
        // Without work nothing is to be protected: what was let go of voluntarily is released only then.
        tenure.cell.as_ref().filter(|cell| cell.working)?;
        let hard = tenure.holder.hard_deadline()?;
        let guard = if tenure.extended { ROUNDING } else { self.timing.guard() };
        Some(hard.after(guard - ROUNDING))
    }
}

/// Conversions between clocks round, each by less than a nanosecond.
const ROUNDING: Duration = Duration::from_micros(1);
