//! What asking for validity takes beside one bare clock read, and what this crate adds to a heartbeat and a read by the SDK, whose
//! store answers at once. `just bench-core`. Fails where one of them is dear or validity does not scale: on a quiet machine.

#![allow(clippy::unwrap_used, reason = "a benchmark that can not go on fails")]

#[allow(dead_code, reason = "what only others of those that share it ask")]
mod stub;

use std::sync::Barrier;
use std::time::Instant;

use divan::{Bencher, black_box};
use rustix::time::{ClockId, clock_gettime};
use stub::{OneThread, held};

#[divan::bench]
fn clock_read() -> rustix::time::Timespec {
    clock_gettime(ClockId::Boottime)
}

#[divan::bench(threads = [1, 2])]
fn is_valid(bencher: Bencher) {
    let (_runtime, lock) = held();
    bencher.bench(|| lock.is_valid());
}

/// From the handle to the keeper's thread, through the SDK, and back.
#[divan::bench]
fn heartbeat_of_another_thread(bencher: Bencher) {
    let (runtime, lock) = held();
    bencher.bench_local(|| runtime.block_on(async { lock.heartbeat().await.unwrap() }));
}

/// The same on one thread.
#[divan::bench]
fn heartbeat(bencher: Bencher) {
    let all = OneThread::new();
    bencher.bench_local(|| all.beat());
}

#[divan::bench]
fn heartbeat_by_the_sdk_alone(bencher: Bencher) {
    let all = OneThread::new();
    bencher.bench_local(|| all.beat_by_the_sdk());
}

/// A record read and decoded.
#[divan::bench]
fn read(bencher: Bencher) {
    let all = OneThread::new();
    bencher.bench_local(|| all.read());
}

#[divan::bench]
fn read_by_the_sdk_alone(bencher: Bencher) {
    let all = OneThread::new();
    bencher.bench_local(|| all.read_by_the_sdk());
}

const ROUNDS: usize = 50;

#[allow(clippy::disallowed_methods, reason = "a stopwatch")]
fn took(calls: u32, work: impl Fn()) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        work();
    }
    start.elapsed().as_secs_f64() / f64::from(calls)
}

/// The best of many rounds, in turn: whatever disturbs one only makes it slower.
fn best<const N: usize>(rounds: [&dyn Fn() -> f64; N]) -> [f64; N] {
    let mut best = [f64::INFINITY; N];
    for _ in 0..ROUNDS {
        for (best, round) in best.iter_mut().zip(rounds) {
            *best = best.min(round());
        }
    }
    best
}

fn validity_is_cheap() -> bool {
    const CALLS: u32 = 200_000;
    let (_runtime, lock) = held();
    let ask = || took(CALLS, || _ = black_box(lock.is_valid()));
    // From when both are there until the last one is done: one that ran before the other would look like one that is not in its way.
    let beside = || {
        let both = Barrier::new(2);
        let ask = || {
            both.wait();
            ask()
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(ask);
            ask().max(other.join().unwrap())
        })
    };
    let clock = || took(CALLS, || _ = black_box(clock_gettime(ClockId::Boottime)));
    let [clock, alone, beside] = best([&clock, &ask, &beside]);
    let (ratio, scaling) = (alone / clock, 2.0 * alone / beside);
    println!(
        "is_valid {:.1} ns, a clock read {:.1} ns: {ratio:.2} (1.5 at most); two threads do {scaling:.2} times as many as one (1.8 at least)",
        alone * 1e9,
        clock * 1e9
    );
    ratio <= 1.5 && scaling >= 1.8
}

/// What is not the SDK's: the command to the keeper, the core, the request, what the answer means, the deadline; of a read the record.
fn the_rest_is_the_sdks() -> bool {
    const CALLS: u32 = 2_000;
    const MOST: f64 = 5.0;
    let all = OneThread::new();
    let micros = best([
        &|| took(CALLS, || all.beat()),
        &|| took(CALLS, || all.beat_by_the_sdk()),
        &|| took(CALLS, || all.read()),
        &|| took(CALLS, || all.read_by_the_sdk()),
    ]);
    let [beat, beat_by_the_sdk, read, read_by_the_sdk] = micros.map(|seconds| seconds * 1e6);
    let tell = |what, whole: f64, sdk: f64| {
        println!(
            "{what} {whole:.1} µs, the same by the SDK alone {sdk:.1} µs: {:.1} µs are ours ({MOST} at most)",
            whole - sdk
        );
        whole - sdk <= MOST
    };
    let heartbeat = tell("a heartbeat", beat, beat_by_the_sdk);
    tell("a read", read, read_by_the_sdk) && heartbeat
}

fn main() -> std::process::ExitCode {
    divan::main();
    // Both are told, whatever the first one says.
    let holds = [validity_is_cheap(), the_rest_is_the_sdks()];
    if holds == [true; 2] { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}
