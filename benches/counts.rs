//! How many instructions asking for validity takes, a heartbeat and a read through the SDK, and the same by the SDK alone: counted by
//! Valgrind, so that noise can't fail it. `just counts`.
//!
//! Another version of the SDK or the compiler makes other code of them, hence the room below each limit.

#![allow(missing_docs, reason = "the macros make functions without")]
#![allow(clippy::unwrap_used, reason = "a benchmark that can not go on fails")]

#[allow(dead_code, reason = "what only others of those that share it ask")]
mod stub;

use std::hint::black_box;
use std::time::Duration;

use dynamo_elector::Lock;
use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use stub::{OneThread, held};
use tokio::runtime::Runtime;

/// So many of each, lest what is only done once counts.
const CALLS: u32 = 100;

fn at_most(each: u64) -> LibraryBenchmarkConfig {
    let mut counted = Callgrind::with_args(["--cache-sim=no"]);
    counted.hard_limits([(EventKind::Ir, each * u64::from(CALLS))]);
    LibraryBenchmarkConfig::default().tool(counted).clone()
}

/// What of it is not the SDK's is held by `.ci/ours.py`.
fn counted() -> LibraryBenchmarkConfig {
    LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])).clone()
}

fn repeated(all: OneThread, call: impl Fn(&OneThread)) -> OneThread {
    (0..CALLS).for_each(|_| call(&all));
    all
}

/// After a first one of each, which fills what is cached.
fn warm() -> OneThread {
    let all = OneThread::new();
    for call in [OneThread::beat, OneThread::beat_by_the_sdk, OneThread::read, OneThread::read_by_the_sdk] {
        call(&all);
    }
    all
}

#[library_benchmark(config = counted())]
#[bench::warm(warm())]
fn heartbeats(all: OneThread) -> OneThread {
    repeated(all, OneThread::beat)
}

#[library_benchmark(config = counted())]
#[bench::warm(warm())]
fn heartbeats_by_the_sdk_alone(all: OneThread) -> OneThread {
    repeated(all, OneThread::beat_by_the_sdk)
}

#[library_benchmark(config = counted())]
#[bench::warm(warm())]
fn reads(all: OneThread) -> OneThread {
    repeated(all, OneThread::read)
}

#[library_benchmark(config = counted())]
#[bench::warm(warm())]
fn reads_by_the_sdk_alone(all: OneThread) -> OneThread {
    repeated(all, OneThread::read_by_the_sdk)
}

fn asked_before() -> (Runtime, Lock) {
    let (runtime, lock) = held();
    assert!(lock.is_valid() && lock.ensure(Duration::from_secs(1)).is_ok());
    (runtime, lock)
}

// Its clock read included, which is a system call here and a few instructions more elsewhere.
#[library_benchmark(config = at_most(65))]
#[bench::held(asked_before())]
fn is_valid((runtime, lock): (Runtime, Lock)) -> (Runtime, Lock) {
    for _ in 0..CALLS {
        assert!(black_box(&lock).is_valid());
    }
    (runtime, lock)
}

#[library_benchmark(config = at_most(200))]
#[bench::held(asked_before())]
fn ensure((runtime, lock): (Runtime, Lock)) -> (Runtime, Lock) {
    for _ in 0..CALLS {
        assert!(black_box(&lock).ensure(Duration::from_secs(1)).is_ok());
    }
    (runtime, lock)
}

library_benchmark_group!(name = validity; benchmarks = is_valid, ensure);
library_benchmark_group!(
    name = through_the_sdk;
    benchmarks = heartbeats, heartbeats_by_the_sdk_alone, reads, reads_by_the_sdk_alone
);
main!(library_benchmark_groups = validity, through_the_sdk);
