//! What the host is, and how busy it was while something was measured.

use std::future::Future;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::clock::now;
use crate::statistics::{Summary, seconds};

const EVERY: Duration = Duration::from_secs(5);

/// Of a stretch of time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Busy {
    pub(crate) minutes: f64,
    /// Of one minute, looked at every few seconds.
    pub(crate) load_mean: f64,
    pub(crate) load_most: f64,
    /// Of all processors together, what the hypervisor took away included.
    pub(crate) cpus_percent: f64,
}

/// What `work` returns, and how busy the host was meanwhile.
pub(crate) async fn watched<T>(work: impl Future<Output = T>) -> anyhow::Result<(T, Busy)> {
    let (start, before) = (now(), Ticks::now()?);
    let mut loads = Vec::new();
    let mut looks = tokio::time::interval(EVERY);
    let mut work = std::pin::pin!(work);
    let done = loop {
        tokio::select! { biased;
            done = &mut work => break done,
            _ = looks.tick() => loads.push(load()?),
        }
    };
    loads.push(load()?);
    let loads = Summary::of(&loads);
    let busy = Busy {
        minutes: seconds(start, now()) / 60.0,
        load_mean: loads.mean,
        load_most: loads.max,
        cpus_percent: before.busy_percent(Ticks::now()?),
    };
    Ok((done, busy))
}

/// Of the last minute.
pub(crate) fn load() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().context("no load")?.parse()?)
}

pub(crate) fn name() -> anyhow::Result<String> {
    let cpus = cpus()?;
    let info = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    Ok(format!("{cpus} CPUs, {}", model.unwrap_or("of an unknown kind")))
}

pub(crate) fn cpus() -> anyhow::Result<usize> {
    Ok(std::thread::available_parallelism()?.get())
}

/// Of all processors since the host started.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ticks {
    all: f64,
    idle: f64,
}

impl Ticks {
    pub(crate) fn now() -> anyhow::Result<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat")?).context("no processor times")
    }

    fn parse(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.strip_prefix("cpu ")?;
        // User, nice, system, idle, waiting for input and output, interrupts (two), stolen. What guests take is among the first two.
        let fields: Vec<f64> = fields.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
        Some(Self { all: fields.iter().sum(), idle: fields.get(3)? + fields.get(4)? })
    }

    /// Of all processors together, what the hypervisor took away included.
    pub(crate) fn busy_percent(self, later: Self) -> f64 {
        let all = (later.all - self.all).max(1.0);
        (1.0 - (later.idle - self.idle) / all) * 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_disk_is_idle_and_what_is_stolen_is_not() {
        let before = Ticks::parse("cpu  100 0 50 800 50 0 0 0 70 0\ncpu0 1 1 1 1\n").unwrap();
        assert_eq!(before, Ticks { all: 1_000.0, idle: 850.0 });
        let later = Ticks::parse("cpu  110 0 60 850 60 0 0 20 90 0").unwrap();
        assert_eq!(before.busy_percent(later), 40.0);
        assert!(Ticks::parse("intr 5 4 3").is_none());
    }

    #[tokio::test]
    async fn this_host_does_something() {
        let (found, busy) = watched(async { 7 }).await.unwrap();
        assert_eq!(found, 7);
        assert!((0.0..=100.0).contains(&busy.cpus_percent) && busy.load_mean >= 0.0, "{busy:?}");
    }
}
