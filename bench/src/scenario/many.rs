//! Many locks in one process: whether each is renewed on time, and what that takes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Plan;
use super::claims::{claims, outlasted};
use crate::clock::now;
use crate::host::Ticks;
use crate::network::Call;
use crate::peer::{Kind, Lease, Peer, Usage};
use crate::statistics::{Summary, seconds};

const PREFIX: &str = "many-";
const ACQUIRED_WITHIN: Duration = Duration::from_secs(180);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) rounds: Vec<Round>,
    /// Why there are not more of them.
    pub(crate) stopped: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) locks: usize,
    pub(crate) lease: f64,
    pub(crate) heartbeat: f64,
    pub(crate) seconds: f64,
    /// From the first acquisition's start to the last one's end.
    pub(crate) acquired_in_seconds: f64,
    /// From the first acquisition on, as they were told.
    pub(crate) lost: usize,
    /// Those whose record had run out while they were claimed.
    pub(crate) expired_unnoticed: usize,
    /// How far each interval between two heartbeats of a lock was from the period, in percent of it.
    pub(crate) off_schedule_percent: Summary,
    /// Heartbeats that were sent, in percent of those that were due.
    pub(crate) sent_percent: f64,
    /// Those that were due and not sent.
    pub(crate) missing: f64,
    /// Of all kinds.
    pub(crate) requests_per_second: f64,
    /// Of the driver's process, in percent of one CPU.
    pub(crate) cpu_percent: f64,
    /// Of that thread of the driver which took the most.
    pub(crate) busiest_thread_percent: f64,
    /// Of the harness, which serves the requests.
    pub(crate) harness_cpu_percent: f64,
    /// Of all processors of the host together, whoever took them.
    pub(crate) host_cpus_percent: f64,
    pub(crate) resident_kib_per_lock: f64,
    pub(crate) resident_mib: f64,
}

impl Round {
    /// Whether none was lost, and 99 of 100 heartbeats were within a tenth of the period around their time. A lock that sends a little
    /// late each time sends one fewer than are due.
    pub(crate) fn keeps_up(&self) -> bool {
        let is_on_schedule = self.off_schedule_percent.count > 0 && self.off_schedule_percent.p99 <= 10.0;
        self.lost == 0 && self.expired_unnoticed == 0 && is_on_schedule && self.missing <= self.locks as f64
    }

    /// Milliseconds of processor time for each lock and minute.
    pub(crate) fn cpu_ms_per_lock_minute(&self) -> f64 {
        self.cpu_percent / 100.0 * 60_000.0 / self.locks as f64
    }
}

/// This crate's `economy` profile.
pub(super) fn economy() -> Lease {
    Lease::millis(30_000, 10_000)
}

pub(crate) async fn run(plan: &Plan, kind: &Kind) -> anyhow::Result<Found> {
    let long = kind.repetitions(300, 60);
    let full = [(100, Lease::default(), 30), (1_000, Lease::default(), long), (10_000, economy(), long)];
    let asked = if plan.quick { &[(50, Lease::default(), 10)][..] } else { &full };
    let mut found = Found { rounds: Vec::new(), stopped: None };
    for (locks, lease, time) in asked {
        match round(kind, plan, *locks, *lease, plan.seconds(10, *time)).await {
            Ok(round) => found.rounds.push(round),
            Err(error) => {
                found.stopped = Some(format!("{locks} locks: {error:#}"));
                break;
            }
        }
    }
    Ok(found)
}

/// So many locks, held for about `time`.
pub(super) async fn round(
    kind: &Kind,
    plan: &Plan,
    locks: usize,
    lease: Lease,
    time: Duration,
) -> anyhow::Result<Round> {
    let network = plan.network().await?;
    // Asking a thousand locks all the time would be measured too.
    let lease = Lease { look: Duration::from_millis(500), ..lease };
    let mut peer = Peer::start(kind, &network, lease).await?;
    // The first acquisition draws in code and connections: what comes after it is the locks'.
    peer.acquire("warm", Duration::from_secs(30)).await?;
    peer.release("warm", false, Duration::from_secs(30)).await?;
    let before = peer.usage()?;
    let asked = now();
    let mark = peer.hold(PREFIX, locks, ACQUIRED_WITHIN).await?;
    let acquired_in_seconds = seconds(asked, now());
    let (from, began, own, host) = (now(), peer.usage()?, Usage::own()?, Ticks::now()?);
    let periods = whole_periods(time, lease.heartbeat);
    tokio::time::sleep(lease.heartbeat * periods).await;
    let (until, ended, own_ended, host_ended) = (now(), peer.usage()?, Usage::own()?, Ticks::now()?);

    let mut calls = network.log().of(peer.line.client, 0);
    // From the first acquisition on: some lose locks while they still acquire others.
    let (claims, lost) = claims(&peer.since(mark), asked, until);
    let (expired_unnoticed, _) = outlasted(&claims, &calls, lease.lease, lease.look);
    let time = seconds(from, until);
    calls.retain(|call| (from..until).contains(&call.arrived));
    let beats: Vec<&Call> = calls.iter().filter(|call| call.is_write() && call.key.starts_with(PREFIX)).collect();
    let due = locks as f64 * f64::from(periods);
    let percent = |cpu_seconds: f64| cpu_seconds / time * 100.0;
    Ok(Round {
        locks,
        lease: lease.lease.as_secs_f64(),
        heartbeat: lease.heartbeat.as_secs_f64(),
        seconds: time,
        acquired_in_seconds,
        lost,
        expired_unnoticed,
        off_schedule_percent: Summary::of(&off_schedule(&beats, lease.heartbeat)),
        sent_percent: beats.len() as f64 / due * 100.0,
        missing: due - beats.len() as f64,
        requests_per_second: calls.len() as f64 / time,
        cpu_percent: percent(ended.cpu_seconds - began.cpu_seconds),
        busiest_thread_percent: percent(ended.busiest_since(&began)),
        harness_cpu_percent: percent(own_ended.cpu_seconds - own.cpu_seconds),
        host_cpus_percent: host.busy_percent(host_ended),
        resident_kib_per_lock: (ended.resident_bytes - before.resident_bytes) / 1_024.0 / locks as f64,
        resident_mib: ended.resident_bytes / 1_048_576.0,
    })
}

/// Each lock that keeps its schedule sends as many heartbeats in them, and two of them make an interval.
fn whole_periods(time: Duration, period: Duration) -> u32 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of minutes")]
    let periods = (time.as_secs_f64() / period.as_secs_f64()).ceil() as u32;
    periods.max(2)
}

/// Of each lock that was renewed twice or more: by how many percent of the period each interval missed it.
fn off_schedule(beats: &[&Call], period: Duration) -> Vec<f64> {
    let mut of_lock: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for call in beats {
        of_lock.entry(&call.key).or_default().push(call.arrived);
    }
    let period = period.as_secs_f64();
    let off = |pair: &[u64]| (seconds(pair[0], pair[1]) - period).abs() / period * 100.0;
    of_lock.values().flat_map(|times| times.windows(2).map(off)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(key: &str, millis: u64) -> Call {
        Call {
            client: 1,
            operation: "UpdateItem".into(),
            key: key.into(),
            arrived: millis * 1_000_000,
            served: None,
            answered: None,
            applied: true,
            units: 1.0,
        }
    }

    #[test]
    fn each_lock_has_a_schedule_of_its_own() {
        let beats = [beat("many-1", 0), beat("many-2", 1_000), beat("many-1", 2_000), beat("many-2", 3_500)];
        let off = off_schedule(&beats.iter().collect::<Vec<_>>(), Duration::from_secs(2));
        assert_eq!(off, [0.0, 25.0]);
    }

    #[test]
    fn a_round_lasts_for_whole_periods_and_for_two_at_least() {
        let periods = |time, period| whole_periods(Duration::from_secs(time), Duration::from_secs(period));
        assert_eq!((periods(60, 10), periods(61, 10), periods(1, 10)), (6, 7, 2));
    }

    #[test]
    fn a_client_keeps_up_if_it_loses_nothing_and_is_on_time() {
        let good = || Round {
            locks: 10,
            off_schedule_percent: Summary::of(&[0.5, 10.0]),
            missing: 10.0,
            cpu_percent: 50.0,
            ..Round::default()
        };
        assert!(good().keeps_up());
        assert_eq!(good().cpu_ms_per_lock_minute(), 3_000.0);
        for bad in [
            Round { lost: 1, ..good() },
            Round { expired_unnoticed: 1, ..good() },
            Round { off_schedule_percent: Summary::of(&[10.5]), ..good() },
            Round { off_schedule_percent: Summary::of(&[]), ..good() },
            Round { missing: 11.0, ..good() },
        ] {
            assert!(!bad.keeps_up(), "{bad:?}");
        }
    }
}
