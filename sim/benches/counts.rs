//! How many instructions steps of the core take: counted by Valgrind, so that noise can't fail it. `just counts`.
//!
//! Another compiler makes other code of them, hence the room below each limit; a step that has become dearer is known by more.

#![allow(missing_docs, reason = "the macros make functions without")]

#[allow(dead_code, reason = "what only others of those that share it ask")]
mod common;
#[allow(dead_code, unused_imports, reason = "the drivers that use all of it live in the published crate")]
#[path = "../../src/protocol/mod.rs"]
mod protocol;

use common::{Follower, Leader};
use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};

/// So many of each, lest what surrounds them counts.
const STEPS: u32 = 100;

fn at_most(each: u64) -> LibraryBenchmarkConfig {
    let mut counted = Callgrind::with_args(["--cache-sim=no"]);
    counted.hard_limits([(EventKind::Ir, each * u64::from(STEPS))]);
    LibraryBenchmarkConfig::default().tool(counted).clone()
}

#[library_benchmark(config = at_most(680))]
#[bench::calm(Leader::new())]
fn heartbeats(mut leader: Leader) -> Leader {
    (0..STEPS).for_each(|_| leader.beat());
    leader
}

#[library_benchmark(config = at_most(1_760))]
#[bench::calm(Follower::new())]
fn looks(mut follower: Follower) -> Follower {
    (0..STEPS).for_each(|_| follower.look());
    follower
}

library_benchmark_group!(name = core; benchmarks = heartbeats, looks);
main!(library_benchmark_groups = core);
