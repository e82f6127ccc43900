//! A seeded simulator: three nodes with clocks of their own, one store, a network that loses, delays
//! and repeats, processes that freeze and crash. Everything is drawn from the seed.
//!
//! One seed, with all that happens in it:
//! `SIM_SEED=<n> cargo test -p dynamo-elector-sim --lib simulator -- --nocapture`

mod foreign;
mod node;
mod scenario;
mod seldom;
mod store;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use self::seldom::Seldom;
use self::world::{Broken, World};
use crate::protocol::{Mutant, run_with};

/// How much of the log is shown when something breaks.
const TAIL: usize = 40;

/// The first of `seeds` that breaks something, and what; or what happened in all of them.
pub(crate) fn search(seeds: std::ops::Range<u64>, mutant: Option<Mutant>) -> Result<Seldom, (u64, Broken)> {
    let next = AtomicU64::new(seeds.start);
    let first_bad = AtomicU64::new(u64::MAX);
    let total = Mutex::new(Seldom::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let (result, seldom, _) = run_with(mutant, || World::new(seed, false).run());
                    total.lock().unwrap().add(&seldom);
                    if result.is_err() {
                        // Nothing after it is looked at; a lower seed that is still running may replace it.
                        next.store(seeds.end, Ordering::Relaxed);
                        first_bad.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    match first_bad.into_inner() {
        u64::MAX => Ok(total.into_inner().unwrap()),
        // Once more, with its log.
        seed => {
            let (result, ..) = run_with(mutant, || World::new(seed, true).run());
            Err((seed, result.expect_err("the same seed breaks the same")))
        }
    }
}

fn report(seed: u64, broken: &Broken) -> String {
    let tail = broken.log.len().saturating_sub(TAIL);
    format!(
        "seed {seed} breaks {}\n{}\nreplay: SIM_SEED={seed} cargo test -p dynamo-elector-sim --lib simulator -- --nocapture",
        broken.what,
        broken.log[tail..].join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen_seed() -> Option<u64> {
        std::env::var("SIM_SEED").ok().map(|seed| seed.parse().expect("SIM_SEED is a number"))
    }

    /// `SIM_SEEDS=50000` runs more of them.
    fn seeds() -> u64 {
        std::env::var("SIM_SEEDS").map_or(1_200, |seeds| seeds.parse().expect("SIM_SEEDS is a number"))
    }

    /// Each seed is an election of three candidates for ten minutes of simulated time.
    #[test]
    fn nothing_breaks_in_any_seed_and_everything_interesting_happens() {
        if let Some(seed) = chosen_seed() {
            let (result, seldom, log) = World::new(seed, true).run();
            println!("{}", result.as_ref().err().map_or(&log, |broken| &broken.log).join("\n"));
            println!("{seldom:?}");
            if let Err(broken) = result {
                panic!("{}", report(seed, &broken));
            }
            return;
        }
        let seldom = search(0..seeds(), None).unwrap_or_else(|(seed, broken)| panic!("{}", report(seed, &broken)));
        println!("{} seeds: {seldom:#?}", seeds());
        for (what, count) in seldom.fields() {
            // Fewer seeds than usual may miss the rarest.
            assert!(count > 0 || seeds() < 1_000, "the simulator never shows this: {what}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_log_to_the_byte() {
        for seed in 0..20 {
            let logs = [(); 2].map(|()| World::new(seed, true).run().2.join("\n"));
            assert!(logs[0].len() > 10_000, "seed {seed} is empty");
            assert!(logs[0] == logs[1], "seed {seed} differs between two runs");
        }
    }
}
