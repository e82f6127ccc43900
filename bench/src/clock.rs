//! One clock for the harness and all drivers: `CLOCK_MONOTONIC`, which Rust, Java and Go all can read, and which runs through a
//! process that is stopped.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}
