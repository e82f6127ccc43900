//! A seeded simulator: three nodes with clocks of their own, one store, a network that loses, delays and repeats,
//! processes that freeze and crash, machines that sleep, operators that meddle. Everything is drawn from the seed.

mod foreign;
mod node;
mod queue;
mod scenario;
mod store;
mod storm;
mod tally;
mod world;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;

pub(crate) use self::scenario::{Judged, Scenario, profiles};
pub(crate) use self::storm::storm;
pub(crate) use self::tally::{Tally, grouped};
pub(crate) use self::world::{Broken, World};
use crate::protocol::{Mutant, run_with};

/// How much of the log is shown when something breaks.
const TAIL: usize = 40;

/// A run that broke, and which seed it had.
pub(crate) type Found = (u64, Broken);

/// The first of `seeds` that breaks something, and what; or what happened in all of them. On so many threads.
pub(crate) fn search(
    seeds: Range<u64>,
    mutant: Option<Mutant>,
    threads: usize,
    world: impl Fn(u64, bool) -> World + Sync,
) -> Result<Tally, Found> {
    let next = AtomicU64::new(seeds.start);
    let first_bad = AtomicU64::new(u64::MAX);
    let total = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut mine = Tally::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let before = processor_time();
                    let (result, mut tally, _) = run_with(mutant, || world(seed, false).run());
                    if tally.default_seconds > 0 {
                        tally.default_cost = processor_time().saturating_sub(before);
                    }
                    mine.add(&tally);
                    if result.is_err() {
                        // Nothing after it is looked at; a lower seed that is still running may replace it.
                        next.store(seeds.end, Ordering::Relaxed);
                        first_bad.fetch_min(seed, Ordering::Relaxed);
                    }
                }
                total.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(&mine);
            });
        }
    });
    match first_bad.into_inner() {
        u64::MAX => Ok(total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)),
        // Once more, with its log.
        seed => match run_with(mutant, || world(seed, true).run()) {
            (Err(broken), ..) => Err((seed, broken)),
            (Ok(()), ..) => Err((seed, Broken { what: "a seed that does not replay".into(), log: Vec::new() })),
        },
    }
}

/// What this thread has cost so far: a busy machine does not make it slower.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// All cores of this machine.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The swarm, in these seeds.
pub(crate) fn swarm(seeds: Range<u64>, mutant: Option<Mutant>) -> Result<Tally, Found> {
    search(seeds, mutant, threads(), World::swarm)
}

/// A seed of its own for each run of a fixed scenario.
pub(crate) fn fixed(scenario: &Scenario) -> impl Fn(u64, bool) -> World + Sync + use<'_> {
    move |seed, logging| World::new(scenario.clone(), Rng::with_seed(seed), logging)
}

/// The swarm with clocks off by this share of what its profiles bear.
pub(crate) fn beyond_tolerance(excess: f64, judged: Judged) -> impl Fn(u64, bool) -> World + Sync {
    move |seed, logging| {
        let mut rng = Rng::with_seed(seed);
        let scenario = Scenario { judged, ..Scenario::swarm(&mut rng).with_clocks_off_by(excess) };
        World::new(scenario, rng, logging)
    }
}

pub(crate) fn report((seed, broken): &Found) -> String {
    let tail = broken.log.len().saturating_sub(TAIL);
    format!(
        "SEED={seed} breaks {}\n{}\nreplay: cargo run --release -p dynamo-elector-sim -- one {seed}",
        broken.what,
        broken.log[tail..].join("\n")
    )
}

#[cfg(test)]
mod tests;
