//! What one run is about: which faults happen, how often, on which clocks and timings.
//!
//! Swarm testing: every seed switches a random half of the faults on, so that each is also seen without the others.

use std::time::Duration;

use fastrand::Rng;

use crate::protocol::MOST_PAUSE;
use crate::timing::Timing;

/// Three candidates, as most users have.
pub(crate) const NODES: usize = 3;

/// What happens to a node, to the store or to the record, now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process stands still; its clock and its timers run on.
    Pause,
    /// The machine stands still; its clock runs on, its timers do not.
    Suspend,
    /// The machine and its clock stand still. Exclusion may fail, the fence must not.
    StopClock,
    /// The process is gone with its memory, and comes back under the same name.
    Crash,
    Cut,
    CutRequests,
    CutReplies,
    /// The store fails for everybody.
    Outage,
    Resign,
    /// The lease becomes longer or shorter while it is held.
    Extend,
    DeleteRecord,
    RestoreRecord,
    ForgeRecord,
}

impl Fault {
    pub(crate) const ALL: [Self; 13] = [
        Self::Pause,
        Self::Suspend,
        Self::StopClock,
        Self::Crash,
        Self::Cut,
        Self::CutRequests,
        Self::CutReplies,
        Self::Outage,
        Self::Resign,
        Self::Extend,
        Self::DeleteRecord,
        Self::RestoreRecord,
        Self::ForgeRecord,
    ];
}

/// One candidate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) timing: Timing,
    /// Parts per million off the true rate.
    pub(crate) drift: i64,
    /// How long it lets others go first.
    pub(crate) delay: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) settings: Vec<Setting>,
    /// What a restarted candidate may come back with.
    pub(crate) rollout: Option<Timing>,
    /// Clocks are further off than `max_drift`, up to what the profile bears: work's hard limit is not covered there.
    pub(crate) at_tolerance: bool,
    pub(crate) foreign_drift: i64,
    pub(crate) lose_request: f64,
    pub(crate) lose_reply: f64,
    pub(crate) duplicate: f64,
    /// How many of the duplicates arrive very late.
    pub(crate) old_duplicate: f64,
    /// How many messages are slow, and how slow.
    pub(crate) slow: f64,
    pub(crate) max_delay: Duration,
    pub(crate) stale: f64,
    pub(crate) throttle: f64,
    /// Mean time between faults of each kind, over all nodes; `None`: it never happens.
    pub(crate) every: Vec<(Fault, Duration)>,
    /// How much work does not stop when it is told to.
    pub(crate) stubborn: f64,
    pub(crate) deletes: bool,
    pub(crate) foreign: bool,
    /// The foreign client releases by deleting the record.
    pub(crate) foreign_deletes: bool,
    /// Candidates follow heartbeats instead of polling, and leaders announce their end.
    pub(crate) phase_locked: bool,
    /// Whoever has led stays out until somebody else has, for a lease at most.
    pub(crate) courteous: bool,
    /// When faults stop, and when the run ends.
    pub(crate) quiet: Duration,
    pub(crate) end: Duration,
    pub(crate) judged: Judged,
}

/// What must hold in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    Everything,
    /// Clocks are further off than anything bears: no exclusion, but all else, and the fence before all.
    AllButExclusion,
    /// Rivals in a comparison break rules on purpose: they are counted, not judged.
    Nothing,
}

/// All of them, by name.
pub(crate) fn profiles() -> [(&'static str, Timing); 4] {
    [
        ("economy", Timing::economy()),
        ("default", Timing::default()),
        ("fast", Timing::fast()),
        ("aggressive", Timing::aggressive()),
    ]
}

fn other_timing(rng: &mut Rng) -> Timing {
    match rng.u8(0..4) {
        0 => Timing::economy(),
        1 => Timing::fast(),
        _ => Timing::aggressive(),
    }
}

/// Every fault is off in half of the seeds: what only shows in a calm network is seen too.
fn maybe(rng: &mut Rng, most: f64) -> f64 {
    if rng.bool() { rng.f64() * most } else { 0.0 }
}

/// The rate error up to which `V + g <= L (1 - rho) / (1 + rho)` holds for all of these, in parts per million.
fn tolerance(timings: impl Iterator<Item = Timing>) -> i64 {
    #[allow(clippy::cast_possible_truncation, reason = "less than a million")]
    let bears = |timing: Timing| {
        let (lease, ends) = (timing.lease().as_secs_f64(), (timing.validity() + timing.guard()).as_secs_f64());
        ((lease - ends) / (lease + ends) * 1e6).floor() as i64
    };
    timings.map(bears).min().unwrap_or_default()
}

impl Scenario {
    /// Nothing goes wrong.
    pub(crate) fn calm(nodes: usize, timing: Timing) -> Self {
        Self {
            settings: vec![Setting { timing, drift: 0, delay: Duration::ZERO }; nodes],
            rollout: None,
            at_tolerance: false,
            foreign_drift: 0,
            lose_request: 0.0,
            lose_reply: 0.0,
            duplicate: 0.0,
            old_duplicate: 0.0,
            slow: 0.0,
            max_delay: Duration::from_millis(1),
            stale: 0.0,
            throttle: 0.0,
            every: Vec::new(),
            stubborn: 0.0,
            deletes: false,
            foreign: false,
            foreign_deletes: false,
            phase_locked: true,
            courteous: false,
            quiet: Duration::ZERO,
            end: Duration::from_secs(600),
            judged: Judged::Everything,
        }
    }

    /// A lossy network and nothing else: the healthy leader's every loss is needless.
    pub(crate) fn lossy(loss: f64) -> Self {
        let hour = Duration::from_secs(3_600);
        Self {
            lose_request: loss,
            lose_reply: loss,
            quiet: hour,
            end: hour,
            judged: Judged::Nothing,
            ..Self::calm(NODES, Timing::default())
        }
    }

    /// A random half of all faults on random clocks, for ten minutes, of which the last two are quiet.
    pub(crate) fn swarm(rng: &mut Rng) -> Self {
        let usual = rng.u8(0..20) < 17;
        let common = if usual { Timing::default() } else { other_timing(rng) };
        let mixed = !usual && rng.u8(0..3) == 0;
        let rollout = (!usual && rng.bool()).then(|| other_timing(rng));
        let timings: [Timing; NODES] = std::array::from_fn(|_| if mixed { other_timing(rng) } else { common });
        let foreign = rng.u8(0..6) == 0;
        // A client of another make keeps no margin for such clocks.
        let at_tolerance = !foreign && rng.u8(0..4) == 0;
        #[allow(clippy::cast_possible_truncation, reason = "at most half a million")]
        let promised = (common.max_drift() * 1e6) as i64;
        let bears = tolerance(timings.into_iter().chain(rollout));
        let bound = if at_tolerance { bears } else { promised };
        let extreme = at_tolerance || rng.u8(0..3) == 0;
        let drift = |rng: &mut Rng| {
            if extreme { *rng.choice(&[-bound, bound]).unwrap_or(&0) } else { rng.i64(-bound..=bound) }
        };
        // Twice an economic lease would not fit into the quiet end of a run.
        let extends = timings.iter().chain(&rollout).all(|timing| timing.lease() <= Timing::default().lease());
        let deletes = rng.u8(0..8) == 0;
        let foreign_deletes = foreign && rng.u8(0..4) == 0;
        // Both void assumptions of the theorem, and with them some of what is checked.
        let (stops_clocks, has_operator) = (rng.u8(0..8) == 0, !foreign && !deletes && rng.u8(0..8) == 0);
        let mut every = Vec::new();
        for fault in Fault::ALL {
            let (possible, least, most) = match fault {
                Fault::Crash | Fault::Outage => (true, 10, 120),
                Fault::Resign => (true, 3, 60),
                Fault::Extend => (extends, 2, 20),
                Fault::StopClock => (stops_clocks, 5, 60),
                Fault::DeleteRecord | Fault::RestoreRecord | Fault::ForgeRecord => (has_operator, 10, 120),
                _ => (true, 5, 90),
            };
            if rng.bool() && possible {
                every.push((fault, Duration::from_secs(rng.u64(least..most))));
            }
        }
        let delays = common.poll().mul_f64(maybe(rng, 4.0));
        Self {
            settings: timings
                .map(|timing| Setting { timing, drift: drift(rng), delay: delays.mul_f64(rng.f64()) })
                .into(),
            rollout,
            at_tolerance,
            foreign_drift: drift(rng),
            lose_request: maybe(rng, 0.3),
            lose_reply: maybe(rng, 0.3),
            duplicate: maybe(rng, 0.2),
            old_duplicate: maybe(rng, 0.5),
            slow: maybe(rng, 0.4),
            max_delay: common.operation_timeout() * rng.u32(1..5),
            stale: maybe(rng, 0.5),
            throttle: maybe(rng, 0.2),
            every,
            stubborn: maybe(rng, 0.2),
            deletes,
            foreign,
            foreign_deletes,
            phase_locked: rng.u8(0..4) > 0,
            courteous: rng.u8(0..4) == 0,
            quiet: Duration::from_secs(480),
            end: Duration::from_secs(600),
            judged: Judged::Everything,
        }
    }

    /// The same with the leader's clock slow and all others fast, by this share of what the profiles bear.
    pub(crate) fn with_clocks_off_by(mut self, excess: f64) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "parts per million")]
        let drift = (tolerance(self.timings()) as f64 * excess) as i64;
        self.settings.iter_mut().for_each(|setting| setting.drift = drift);
        self.settings[0].drift = -drift;
        self.at_tolerance = true;
        self
    }

    /// Of every candidate, now or later.
    fn timings(&self) -> impl Iterator<Item = Timing> {
        self.settings.iter().map(|setting| setting.timing).chain(self.rollout)
    }

    pub(crate) fn is_default(&self) -> bool {
        self.rollout.is_none() && self.settings.iter().all(|setting| setting.timing == Timing::default())
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.every.iter().any(|(kind, _)| *kind == fault)
    }

    /// Somebody writes the record who must not (A6 does not hold).
    pub(crate) fn has_operator(&self) -> bool {
        [Fault::DeleteRecord, Fault::RestoreRecord, Fault::ForgeRecord].into_iter().any(|fault| self.has(fault))
    }

    /// Whether versions may come back: records may vanish, or be restored.
    pub(crate) fn forgets(&self) -> bool {
        self.deletes || self.foreign_deletes || self.has_operator()
    }

    /// Tokens can be vouched for only where records stay. (A foreign client that keeps them does no harm.)
    pub(crate) fn has_tokens(&self) -> bool {
        !self.forgets()
    }

    /// The bound on the time to a holder once faults have stopped: lease of a foreign holder, poll, four operations, the
    /// retry cap, what is still in the network, work that winds down, and how long others go first; by the slowest clock.
    pub(crate) fn liveness_bound(&self) -> Duration {
        let longest = |of: fn(&Timing) -> Duration| self.timings().map(|timing| of(&timing)).max().unwrap_or_default();
        let slowest = self.settings.iter().map(|setting| -setting.drift).chain([-self.foreign_drift, 0]).max();
        #[allow(clippy::cast_precision_loss, reason = "parts per million")]
        let slowness = 1.0 / (1.0 - slowest.unwrap_or_default() as f64 / 1e6);
        let extended = if self.has(Fault::Extend) { EXTENSION } else { 1 };
        let foreign = if self.foreign || self.has(Fault::ForgeRecord) { 1.25 } else { 1.0 };
        let counted = longest(Timing::lease).mul_f64(foreign) * extended
            + longest(Timing::poll) * 2
            + longest(Timing::operation_timeout) * 4
            + MOST_PAUSE + DRAIN * 2
            + self.settings.iter().map(|setting| setting.delay).max().unwrap_or_default()
            + if self.courteous { longest(Timing::lease) } else { longest(Timing::poll) * 2 }
            // What only a human can mend is looked at ten times as rarely.
            + if self.has_operator() { longest(Timing::poll) * 10 + longest(Timing::lease) } else { Duration::ZERO };
        counted.mul_f64(slowness) + self.max_delay
    }
}

/// How long work may wind down after a voluntary end.
pub(crate) const DRAIN: Duration = Duration::from_secs(3);

/// How many times its usual length a held lease may have.
pub(crate) const EXTENSION: u32 = 2;
