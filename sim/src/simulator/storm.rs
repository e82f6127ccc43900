//! Many followers of one leader, when the store comes back after a long outage.

use std::time::Duration;

use fastrand::Rng;

use super::{Scenario, World};
use crate::timing::Timing;

/// Requests per second, each attempt of the SDK being one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) candidates: usize,
    /// The busiest second before the outage.
    pub(crate) calm: u32,
    /// The busiest of the first seconds in which nothing works, of the rest of them, and of the second half.
    pub(crate) onset: u32,
    pub(crate) outage: u32,
    pub(crate) settled: u32,
    /// The busiest second after it.
    pub(crate) recovery: u32,
}

/// An outage of this length after two calm minutes, and two minutes after it.
pub(crate) fn storm(outage: Duration, candidates: usize) -> Rates {
    let calm = Duration::from_secs(120);
    let mut scenario = Scenario::calm(candidates, Timing::default());
    scenario.quiet = calm + outage;
    scenario.end = scenario.quiet + calm;
    let mut world = World::new(scenario, Rng::with_seed(1), false);
    world.fails_between(calm, calm + outage);
    world.rates = Some(Vec::new());
    let (result, _, _, rates) = world.run_counting_requests();
    if let Err(broken) = result {
        panic!("{}", broken.what);
    }
    let most = |from: Duration, to: Duration| {
        let second = |at: Duration| usize::try_from(at.as_secs()).unwrap_or(usize::MAX).min(rates.len());
        rates[second(from)..second(to)].iter().copied().max().unwrap_or_default()
    };
    let first = Duration::from_secs(20);
    Rates {
        candidates,
        calm: most(first, calm),
        onset: most(calm, calm + first),
        outage: most(calm + first, calm + outage),
        settled: most(calm + outage / 2, calm + outage),
        recovery: most(calm + outage, calm + outage + calm),
    }
}
