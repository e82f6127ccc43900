//! Requests per second around a long outage of the store: of many followers of one leader, and of many elections.

use std::time::Duration;

use fastrand::Rng;

use super::{Scenario, World};
use crate::timing::Timing;

/// Requests per second, each attempt of the SDK being one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    /// The busiest second when all start within two seconds.
    pub(crate) start: u32,
    /// The busiest second before the outage.
    pub(crate) calm: u32,
    /// The busiest of the first seconds in which nothing works, of the rest of them, and of the second half.
    pub(crate) onset: u32,
    pub(crate) outage: u32,
    pub(crate) settled: u32,
    /// The busiest second after it.
    pub(crate) recovery: u32,
}

impl Rates {
    /// In the order in which they come.
    pub(crate) fn all(self) -> [u32; 6] {
        [self.start, self.calm, self.onset, self.outage, self.settled, self.recovery]
    }
}

/// Before the outage, and after it.
const CALM: Duration = Duration::from_secs(120);

/// An outage of this length, which so many candidates of each of so many elections meet at the same time.
pub(crate) fn storm(outage: Duration, timing: Timing, candidates: usize, elections: u64) -> Rates {
    let mut rates = Vec::new();
    for election in 1..=elections {
        for (second, of_one) in one(outage, timing, candidates, election).into_iter().enumerate() {
            if rates.len() <= second {
                rates.resize(second + 1, 0);
            }
            rates[second] += of_one;
        }
    }
    let most = |from: Duration, to: Duration| {
        let second = |at: Duration| usize::try_from(at.as_secs()).unwrap_or(usize::MAX).min(rates.len());
        rates[second(from)..second(to)].iter().copied().max().unwrap_or_default()
    };
    let first = Duration::from_secs(20);
    Rates {
        start: most(Duration::ZERO, first),
        calm: most(CALM / 2, CALM),
        onset: most(CALM, CALM + first),
        outage: most(CALM + first, CALM + outage),
        settled: most(CALM + outage / 2, CALM + outage),
        recovery: most(CALM + outage, CALM + outage + CALM),
    }
}

/// The requests of one election in each second.
fn one(outage: Duration, timing: Timing, candidates: usize, seed: u64) -> Vec<u32> {
    let mut scenario = Scenario::calm(candidates, timing);
    scenario.quiet = CALM + outage;
    scenario.end = scenario.quiet + CALM;
    let mut world = World::new(scenario, Rng::with_seed(seed), false);
    world.fails_between(CALM, CALM + outage);
    world.rates = Some(Vec::new());
    let (result, _, _, rates) = world.run_counting_requests();
    if let Err(broken) = result {
        panic!("{}", broken.what);
    }
    rates
}
