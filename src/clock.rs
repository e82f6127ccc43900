//! The one clock of the crate: monotonic, and it counts the time the machine was suspended (R9).

use std::time::Duration;

use crate::protocol::Moment;

/// How often the keeper compares its timers with the clock; timers stop in suspend, the clock does not.
const COMPARE_EVERY: Duration = Duration::from_millis(250);
/// A difference that scheduling alone does not make.
const JUMP: Duration = Duration::from_millis(50);

/// Where time comes from. Reading it takes no lock and never waits.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Clock {
    /// The operating system's clock that counts suspended time.
    System,
    /// The clock of a tokio runtime whose time is simulated.
    #[cfg(feature = "test-util")]
    Runtime(&'static Simulated),
}

/// A machine in simulated time: its clock counts the time it was suspended, its timers do not.
#[cfg(feature = "test-util")]
#[derive(Debug)]
pub(crate) struct Simulated {
    origin: tokio::time::Instant,
    suspended: std::sync::atomic::AtomicU64,
}

#[cfg(feature = "test-util")]
impl Simulated {
    fn elapsed(&self) -> Duration {
        let suspended = self.suspended.load(std::sync::atomic::Ordering::Acquire);
        self.origin.elapsed() + Duration::from_nanos(suspended)
    }
}

impl Clock {
    /// One for each client under test; it is never freed, so that a clock stays a number to copy.
    #[cfg(feature = "test-util")]
    pub(crate) fn simulated() -> Self {
        let origin = tokio::time::Instant::now();
        Self::Runtime(Box::leak(Box::new(Simulated { origin, suspended: 0.into() })))
    }

    /// The clock has run on by so much, and no timer has.
    #[cfg(feature = "test-util")]
    pub(crate) fn suspend(self, by: Duration) {
        if let Self::Runtime(machine) = self {
            let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
            machine.suspended.fetch_add(nanos, std::sync::atomic::Ordering::AcqRel);
        }
    }

    pub(crate) fn now(self) -> Moment {
        match self {
            Self::System => system_now(),
            #[cfg(feature = "test-util")]
            Self::Runtime(machine) => ORIGIN.after(machine.elapsed()),
        }
    }

    /// The wall clock as RFC 3339 text, for people. Never compared.
    pub(crate) fn wall_text(self) -> String {
        let now = match self {
            #[allow(clippy::disallowed_methods, reason = "the one place that reads a wall clock, for people only")]
            Self::System => time::OffsetDateTime::from(std::time::SystemTime::now()),
            #[cfg(feature = "test-util")]
            Self::Runtime(machine) => time::OffsetDateTime::UNIX_EPOCH + machine.elapsed(),
        };
        now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
    }

    /// Waits on the runtime's timer. It may fire late after a suspend: see [`watch_for_jumps`].
    pub(crate) async fn sleep_until(self, until: Moment) {
        tokio::time::sleep(until.since(self.now())).await;
    }
}

/// Keeps simulated instants away from zero, which stands for "never" in a deadline.
#[cfg(feature = "test-util")]
const ORIGIN: Moment = Moment::from_nanos(1_000_000_000);

/// Calls `look` every 250 ms, with whether the clock has jumped: within so long of the end of a suspend, deadlines that
/// passed meanwhile are acted upon.
pub(crate) async fn watch_for_jumps(clock: Clock, look: impl Fn(bool)) {
    loop {
        let (timer, real) = (tokio::time::Instant::now(), clock.now());
        tokio::time::sleep(COMPARE_EVERY).await;
        look(clock.now().since(real) > timer.elapsed() + JUMP);
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn system_now() -> Moment {
    // CLOCK_MONOTONIC, and with it `std::time::Instant`, stops in suspend on Linux.
    from_timespec(rustix::time::clock_gettime(rustix::time::ClockId::Boottime))
}

#[cfg(target_vendor = "apple")]
fn system_now() -> Moment {
    // Counts sleep on Apple systems, where `std::time::Instant` (CLOCK_UPTIME_RAW) does not.
    from_timespec(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic))
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn from_timespec(time: rustix::time::Timespec) -> Moment {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Moment::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

#[cfg(all(
    not(any(target_os = "linux", target_os = "android", target_vendor = "apple")),
    any(windows, feature = "unverified-clock")
))]
fn system_now() -> Moment {
    use std::sync::OnceLock;
    use std::time::Instant;
    // The performance counter, which counts sleep on Windows.
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    #[allow(clippy::disallowed_methods, reason = "this is the clock that everything else must use")]
    let now = Instant::now();
    Moment::from_nanos(1).after(now.duration_since(*ORIGIN.get_or_init(|| now)))
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    windows,
    feature = "unverified-clock"
)))]
compile_error!(
    "no clock that is known to count suspended time on this target: enable the feature `unverified-clock` if machines \
     that run this never suspend"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_boottime_on_linux_and_moves_forward() {
        let first = Clock::System.now();
        std::thread::sleep(Duration::from_millis(5));
        assert!(Clock::System.now().since(first) >= Duration::from_millis(5));
        let uptime = std::fs::read_to_string("/proc/uptime").ok().and_then(|text| text.split('.').next()?.parse().ok());
        if let Some(uptime) = uptime {
            let seconds: u64 = Clock::System.now().nanos() / 1_000_000_000;
            assert!(seconds.abs_diff(uptime) <= 2, "{seconds} s against /proc/uptime {uptime} s");
        }
    }

    /// The runtime's timer, simulated, knows of 250 ms while the machine's clock has run for longer: a suspend.
    #[tokio::test(start_paused = true)]
    async fn a_clock_that_ran_on_while_timers_stood_still_is_noticed() {
        let jumps = std::cell::Cell::new(0);
        let mut watching =
            std::pin::pin!(watch_for_jumps(Clock::System, |jumped| jumps.set(jumps.get() + u32::from(jumped))));
        assert!(futures::poll!(&mut watching).is_pending());
        std::thread::sleep(COMPARE_EVERY + JUMP * 2);
        tokio::time::advance(COMPARE_EVERY).await;
        assert!(futures::poll!(&mut watching).is_pending());
        assert_eq!(jumps.get(), 1);
    }

    #[test]
    fn the_wall_clock_text_is_rfc_3339() {
        let text = Clock::System.wall_text();
        assert!(text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T', "{text}");
    }
}
