//! Faults at random: seeds of four minutes on three replicas, and what must hold all along.
//!
//! `L2_SEEDS=n` runs so many seeds; `L2_SEED=n` runs one and prints all that happened in it.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dynamo_elector::Timing;

use super::world::{Stage, World};
use crate::support::{millis, simulated};

const REPLICAS: usize = 3;
const MINUTES: u64 = 4;
const SEEDS: u64 = 2;

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
struct Tale {
    journal: String,
    broken: Vec<String>,
    terms: usize,
    writes: usize,
    rejected: u64,
    faults: u64,
}

/// I6: `(L or 1.25 L)/(1-rho) + P + 4A`, and the retry cap of `P`; none of these records is foreign.
fn liveness_bound() -> Duration {
    let timing = Timing::default();
    timing.lease().div_f64(1.0 - timing.max_drift()) + timing.poll() * 2 + timing.operation_timeout() * 4
}

async fn tale(seed: u64) -> Tale {
    let mut world = World::new(seed, REPLICAS).await;
    world.run(Stage::Everything, millis(MINUTES * 60_000)).await;
    // What was late is let arrive, and what was denied is asked for again, before the bound begins to count.
    world.run(Stage::Prompt, millis(60_000)).await;
    world.run(Stage::Transient, Timing::default().poll() * 10).await;
    world.settle(liveness_bound()).await;
    let shared = &world.shared;
    Tale {
        journal: shared.journal.text(),
        broken: world.broken(),
        terms: shared.terms(),
        writes: shared.writes(),
        rejected: shared.rejected.load(Ordering::Relaxed),
        faults: shared.faults.load(Ordering::Relaxed),
    }
}

/// Everything of a seed, or how to see why not.
fn run(seed: u64) -> Tale {
    let told = std::panic::catch_unwind(AssertUnwindSafe(|| simulated(seed, tale)));
    let how = format!("SEED={seed}: L2_SEED={seed} cargo test --test behaviour faults::random::no_seed -- --nocapture");
    let Ok(tale) = told else { panic!("it panicked, see above. {how}") };
    assert!(tale.broken.is_empty(), "{:#?}\n{how}", tale.broken);
    tale
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn no_seed_of_random_faults_breaks_an_invariant() {
    if let Some(seed) = number("L2_SEED") {
        let tale = simulated(seed, tale);
        println!("{}", tale.journal);
        assert!(tale.broken.is_empty(), "SEED={seed}: {:#?}", tale.broken);
        return;
    }
    let seeds = number("L2_SEEDS").unwrap_or(SEEDS);
    let (mut terms, mut writes, mut rejected, mut faults) = (0, 0, 0, 0);
    for seed in 1..=seeds {
        let tale = run(seed);
        // A run in which nothing happens shows nothing.
        assert!(tale.terms >= 3 && tale.writes >= 50 && tale.faults >= 100, "SEED={seed} is too quiet");
        (terms, writes) = (terms + tale.terms, writes + tale.writes);
        (rejected, faults) = (rejected + tale.rejected, faults + tale.faults);
    }
    println!("{seeds} seeds: {faults} faults, {terms} terms, {writes} fenced writes accepted and {rejected} refused");
    assert!(rejected >= seeds, "the fence had work to do: {rejected}");
}

#[test]
fn a_seed_of_random_faults_replays_to_the_byte() {
    let (once, again) = (run(3), run(3));
    let differs = once.journal.lines().zip(again.journal.lines()).find(|(one, two)| one != two);
    assert!(once.journal == again.journal, "first at {differs:#?}");
    assert!(once == again && once.journal.len() > 400_000, "{} bytes", once.journal.len());
}
