//! Many locks in one process: whether each is renewed on time, and what that takes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Plan;
use super::claims::{claims, outlasted};
use crate::clock::now;
use crate::network::Call;
use crate::peer::{Kind, Lease, Peer};
use crate::statistics::{Summary, seconds};

const PREFIX: &str = "many-";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) rounds: Vec<Round>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) locks: usize,
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
    /// Of the driver's process, in percent of one CPU.
    pub(crate) cpu_percent: f64,
    pub(crate) resident_kib_per_lock: f64,
    pub(crate) resident_mib: f64,
}

pub(crate) async fn run(plan: &Plan, kind: &Kind) -> anyhow::Result<Found> {
    let mut rounds = Vec::new();
    for locks in if plan.quick { vec![50] } else { vec![100, 1_000] } {
        rounds.push(round(plan, kind, locks).await?);
    }
    Ok(Found { rounds })
}

async fn round(plan: &Plan, kind: &Kind, locks: usize) -> anyhow::Result<Round> {
    let network = plan.network().await?;
    // Asking a thousand locks all the time would be measured too.
    let lease = Lease { look: Duration::from_millis(500), ..Lease::millis(10_000, 2_500) };
    let mut peer = Peer::start(kind, &network, lease).await?;
    // The first acquisition draws in code and connections: what comes after it is the locks'.
    peer.acquire("warm", Duration::from_secs(30)).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = peer.usage()?;
    let asked = now();
    let mark = peer.hold(PREFIX, locks, Duration::from_secs(180)).await?;
    let acquired_in_seconds = seconds(asked, now());
    let (from, began) = (now(), peer.usage()?);
    // Whole periods: each lock that keeps its schedule sends as many heartbeats.
    let periods = plan.count(4, 24);
    tokio::time::sleep(lease.heartbeat * u32::try_from(periods)?).await;
    let (until, ended) = (now(), peer.usage()?);

    let calls = network.log().of(peer.line.client, from);
    // From the first acquisition on: some lose locks while they still acquire others.
    let (claims, lost) = claims(&peer.since(mark), asked, until);
    let (expired_unnoticed, _) = outlasted(&claims, &network.log().of(peer.line.client, 0), lease.lease, lease.look);
    let time = seconds(from, until);
    let is_beat = |call: &&Call| call.is_write() && call.arrived < until && call.key.starts_with(PREFIX);
    let beats: Vec<&Call> = calls.iter().filter(is_beat).collect();
    let due = (locks * periods) as f64;
    Ok(Round {
        locks,
        seconds: time,
        acquired_in_seconds,
        lost,
        expired_unnoticed,
        off_schedule_percent: Summary::of(&off_schedule(&beats, lease.heartbeat)),
        sent_percent: beats.len() as f64 / due * 100.0,
        cpu_percent: (ended.cpu_seconds - began.cpu_seconds) / time * 100.0,
        resident_kib_per_lock: (ended.resident_bytes - before.resident_bytes) / 1_024.0 / locks as f64,
        resident_mib: ended.resident_bytes / 1_048_576.0,
    })
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
}
