//! What a step of the core takes: a heartbeat of the leader, a look of a follower. `just bench-core`.

#[allow(dead_code, reason = "what only others of those that share it ask")]
mod common;
#[allow(dead_code, unused_imports, reason = "the drivers that use all of it live in the published crate")]
#[path = "../../src/protocol/mod.rs"]
mod protocol;

use common::{Follower, Leader};
use divan::Bencher;

fn main() {
    divan::main();
}

#[divan::bench]
fn heartbeat(bencher: Bencher) {
    let mut leader = Leader::new();
    bencher.bench_local(|| leader.beat());
}

#[divan::bench]
fn look(bencher: Bencher) {
    let mut follower = Follower::new();
    bencher.bench_local(|| follower.look());
}
