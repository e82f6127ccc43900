//! How far a check goes: the faults that may happen, each so many times, and until when.

use std::fmt;
use std::time::Duration;

use crate::timing::{Timing, TimingError};

/// What the election begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// No record, nobody holds.
    Cold,
    /// One node holds, freshly acknowledged; the others have not looked yet.
    Held,
    /// The same, with a lease twice as long as everybody's setting.
    HeldLong,
}

/// How long a holder believes in its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    /// As long as the theorem allows, to the nanosecond: `V + g = L (1 - rho) / (1 + rho)`.
    Longest,
    /// The usual share of the lease.
    Usual,
}

/// How many times each may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Faults {
    /// A node gives a request up: it, or its reply, was lost or will be late. A write may arrive at any time after.
    pub(crate) losses: u8,
    /// A write reaches the store once more: at once, as a retry inside the SDK does, or at any time after.
    pub(crate) duplicates: u8,
    /// An eventually consistent read shows the past.
    pub(crate) stale: u8,
    /// A process ends and is started again; what it knew is lost.
    pub(crate) crashes: u8,
    /// A leader resigns.
    pub(crate) resigns: u8,
    /// A lease is set back to its usual length while it is held.
    pub(crate) shortenings: u8,
    /// A valid leader sends an effect that carries its token to a resource outside, where it arrives at any time after.
    pub(crate) effects: u8,
}

/// What one check covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Candidates. The first has a slow clock, the others have fast ones.
    pub(crate) nodes: usize,
    pub(crate) start: Start,
    pub(crate) validity: Validity,
    pub(crate) lease: Duration,
    /// How far clocks are off, and how far the timing takes them to be off at most; in parts per million.
    pub(crate) drift: u32,
    pub(crate) assumed_drift: u32,
    /// In true time.
    pub(crate) horizon: Duration,
    /// Acquisitions begun.
    pub(crate) claims: u8,
    pub(crate) faults: Faults,
}

/// A lease of which 1 % faster and 1 % slower clocks show whole milliseconds. Five seconds of true time on a fast one.
const LEASE: Duration = Duration::from_millis(5_050);
const LEASE_ON_A_FAST_CLOCK: Duration = Duration::from_secs(5);
/// The same for 200 parts per million: ten seconds on a fast clock, and 4 ms more than a slow one may count on.
const LEASE_OF_QUARTZ: Duration = Duration::from_millis(10_002);

const PER_MILLION: u64 = 1_000_000;

impl Default for Bounds {
    /// Three nodes for one lease, a message that is lost or late, and one that arrives twice.
    fn default() -> Self {
        Self {
            nodes: 3,
            start: Start::Held,
            validity: Validity::Longest,
            lease: LEASE,
            drift: 10_000,
            assumed_drift: 10_000,
            horizon: LEASE_ON_A_FAST_CLOCK,
            claims: 3,
            faults: Faults { losses: 1, duplicates: 1, ..Faults::default() },
        }
    }
}

impl Bounds {
    /// Clocks that are off by 200 parts per million, and a timing that takes them to be off by `assumed`.
    pub(crate) fn quartz(assumed: u32) -> Self {
        let horizon = Duration::from_secs(10);
        let common = Self { nodes: 2, claims: 2, faults: Faults::default(), ..Self::default() };
        Self { lease: LEASE_OF_QUARTZ, drift: 200, assumed_drift: assumed, horizon, ..common }
    }

    /// What a check of some minutes covers: half a million states to some millions each.
    pub(crate) fn thorough() -> [Self; 6] {
        let (none, base) = (Faults::default(), Self::default());
        let pair = Self { nodes: 2, claims: 2, faults: none, ..base };
        let leases = |halves: u32| LEASE_ON_A_FAST_CLOCK * halves / 2;
        [
            base,
            Self { horizon: leases(3), faults: none, ..base },
            Self { start: Start::Cold, faults: none, ..base },
            Self { horizon: leases(4), faults: Faults { losses: 1, duplicates: 1, ..none }, ..pair },
            Self { validity: Validity::Usual, faults: Faults { losses: 2, duplicates: 1, ..none }, ..pair },
            Self { claims: 3, faults: Faults { losses: 1, duplicates: 1, stale: 1, crashes: 1, ..none }, ..pair },
        ]
    }

    /// The part of the lease that has certainly not passed on another clock: `L (1 - rho) / (1 + rho)`.
    fn safe_lease(&self) -> Duration {
        let (lease, off) = (self.lease.as_nanos(), u128::from(self.assumed_drift));
        let million = u128::from(PER_MILLION);
        Duration::from_nanos(u64::try_from(lease * (million - off) / (million + off)).unwrap_or(u64::MAX))
    }

    /// The settings of every node. Heartbeats of the slow clock and polls of the fast ones fall on the same instants,
    /// two in a lease, which keeps the number of states small and the coincidences many.
    pub(crate) fn timing(&self) -> Result<Timing, TimingError> {
        let usual = Timing::builder()
            .lease(self.lease)
            .heartbeat(self.safe_lease() / 2)
            .operation_timeout(self.lease / 10)
            .poll(self.lease / 2)
            .max_drift(f64::from(self.assumed_drift) / 1e6)
            .build()?;
        match self.validity {
            Validity::Usual => Ok(usual),
            Validity::Longest => usual.to_builder().validity(self.safe_lease() - usual.guard()).build(),
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Faults { losses, duplicates, stale, crashes, resigns, shortenings, effects } = self.faults;
        let validity = match self.validity {
            Validity::Longest => "as long as it is safe",
            Validity::Usual => "for the usual share of it",
        };
        let start = match self.start {
            Start::Cold => "no record yet",
            Start::Held => "one holds",
            Start::HeldLong => "one holds, for twice the usual lease",
        };
        write!(
            f,
            "{} nodes, {start}, lease {:?}, believed in {validity}, clocks off by ±{} ppm ({} assumed), {:?} of true time; at most {} claims",
            self.nodes, self.lease, self.drift, self.assumed_drift, self.horizon, self.claims
        )?;
        let faults = [
            (losses, "lost"),
            (duplicates, "duplicated"),
            (stale, "read from the past"),
            (crashes, "crashed"),
            (resigns, "resigned"),
            (shortenings, "shortened"),
            (effects, "effects"),
        ];
        faults.iter().filter(|(count, _)| *count > 0).try_for_each(|(count, what)| write!(f, ", {count} {what}"))
    }
}
