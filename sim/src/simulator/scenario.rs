//! What one seed is about: which faults happen, how often, on which clocks and timings.

use std::time::Duration;

use fastrand::Rng;

use crate::timing::Timing;

pub(crate) const NODES: usize = 3;
/// Simulated time of a run, and when all faults stop.
pub(crate) const END: Duration = Duration::from_secs(600);
pub(crate) const QUIET: Duration = Duration::from_secs(480);

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) timings: [Timing; NODES],
    /// Clock rates, in parts per million off the true one.
    pub(crate) drifts: [i64; NODES + 1],
    pub(crate) lose_request: f64,
    pub(crate) lose_reply: f64,
    pub(crate) duplicate: f64,
    /// How many messages are slow, and how slow.
    pub(crate) slow: f64,
    pub(crate) max_delay: Duration,
    pub(crate) stale: f64,
    /// Mean time between faults of each kind, over all nodes.
    pub(crate) pause_every: Option<Duration>,
    pub(crate) crash_every: Option<Duration>,
    pub(crate) cut_every: Option<Duration>,
    pub(crate) resign_every: Option<Duration>,
    /// How much work does not stop when it is told to.
    pub(crate) stubborn: f64,
    pub(crate) deletes: bool,
    pub(crate) foreign: bool,
    /// The foreign client releases by deleting the record.
    pub(crate) foreign_deletes: bool,
    /// Mean time between changes of a held lease, to once or twice its usual length.
    pub(crate) extend_every: Option<Duration>,
    /// How long each node lets others go first.
    pub(crate) delays: [Duration; NODES],
    /// Whoever has led stays out until somebody else has, for a lease at most.
    pub(crate) courteous: bool,
}

fn timing(rng: &mut Rng) -> Timing {
    match rng.u8(0..6) {
        0 => Timing::economy(),
        1 | 2 => Timing::default(),
        3 => Timing::fast(),
        _ => Timing::aggressive(),
    }
}

/// Every fault is off in half of the seeds: what only shows in a calm network is seen too.
fn maybe(rng: &mut Rng, most: f64) -> f64 {
    if rng.bool() { rng.f64() * most } else { 0.0 }
}

fn every(rng: &mut Rng, least: u64, most: u64) -> Option<Duration> {
    rng.bool().then(|| Duration::from_secs(rng.u64(least..most)))
}

impl Scenario {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let common = timing(rng);
        let mixed = rng.u8(0..4) == 0;
        let timings = std::array::from_fn(|_| if mixed { timing(rng) } else { common });
        #[allow(clippy::cast_possible_truncation, reason = "at most half a million")]
        let bound = (common.max_drift() * 1e6) as i64;
        let extreme = rng.u8(0..3) == 0;
        let drifts = std::array::from_fn(|_| {
            if extreme { *rng.choice(&[-bound, bound]).unwrap_or(&0) } else { rng.i64(-bound..=bound) }
        });
        let longest = common.operation_timeout() * rng.u32(1..5);
        // Twice an economic lease would not fit into the quiet end of a run.
        let extends = timings.iter().all(|timing: &Timing| timing.lease() <= Timing::default().lease());
        Self {
            timings,
            drifts,
            lose_request: maybe(rng, 0.3),
            lose_reply: maybe(rng, 0.3),
            duplicate: maybe(rng, 0.2),
            slow: maybe(rng, 0.4),
            max_delay: longest,
            stale: maybe(rng, 0.5),
            pause_every: every(rng, 5, 60),
            crash_every: every(rng, 10, 120),
            cut_every: every(rng, 5, 60),
            resign_every: every(rng, 3, 60),
            stubborn: maybe(rng, 0.2),
            deletes: rng.u8(0..8) == 0,
            foreign: rng.u8(0..5) == 0,
            foreign_deletes: rng.u8(0..4) == 0,
            extend_every: every(rng, 2, 20).filter(|_| extends),
            delays: std::array::from_fn(|_| common.poll().mul_f64(maybe(rng, 4.0))),
            courteous: rng.u8(0..4) == 0,
        }
    }

    /// Whether records may vanish: versions may come back then, and tokens start anew.
    pub(crate) fn forgets(&self) -> bool {
        self.deletes || (self.foreign && self.foreign_deletes)
    }

    /// Tokens can be vouched for only where records stay. (A foreign client that keeps them does no harm.)
    pub(crate) fn has_tokens(&self) -> bool {
        !self.forgets()
    }

    /// The bound on the time to a holder once faults have stopped: lease of a foreign holder, poll, four
    /// operations, the retry cap, what is still in the network, work that winds down, and how long others go first.
    pub(crate) fn liveness_bound(&self) -> Duration {
        let longest = |of: fn(&Timing) -> Duration| self.timings.iter().map(of).max().unwrap_or_default();
        let extended = if self.extend_every.is_some() { EXTENSION } else { 1 };
        longest(Timing::lease).mul_f64(1.25 / 0.99) * extended
            + longest(Timing::poll) * 2
            + longest(Timing::operation_timeout) * 4
            + self.max_delay
            + DRAIN * 2
            + self.delays.iter().max().copied().unwrap_or_default()
            + if self.courteous { longest(Timing::lease) } else { longest(Timing::poll) * 2 }
    }
}

/// How long work may wind down after a voluntary end.
pub(crate) const DRAIN: Duration = Duration::from_secs(3);

/// How many times its usual length a held lease may have.
pub(crate) const EXTENSION: u32 = 2;
