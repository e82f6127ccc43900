//! What a process takes as it holds more locks or elections, and as ever more of its clients follow one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::many::{Round, economy, round};
use super::{Plan, holder};
use crate::clock::now;
use crate::peer::{Event, Kind, Lease, Peer};
use crate::statistics::seconds;

const KEY: &str = "followed";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) held: Vec<Point>,
    pub(crate) followers: Vec<Point>,
    /// The first numbers of which there is nothing, and why.
    pub(crate) stopped: Vec<String>,
}

/// What so many of them take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) count: usize,
    pub(crate) requests_per_second: f64,
    pub(crate) cpu_percent: f64,
    /// Of the whole process.
    pub(crate) resident_mib: f64,
    /// Of those who hold.
    pub(crate) held: Option<Held>,
}

/// Whether they were renewed as they should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) keeps_up: bool,
    pub(crate) lost: usize,
    /// The 99th percentile, in percent of the period.
    pub(crate) off_schedule: f64,
}

impl From<&Round> for Point {
    fn from(round: &Round) -> Self {
        Self {
            count: round.locks,
            requests_per_second: round.requests_per_second,
            cpu_percent: round.cpu_percent,
            resident_mib: round.resident_mib,
            held: Some(Held {
                keeps_up: round.keeps_up(),
                lost: round.lost + round.expired_unnoticed,
                off_schedule: round.off_schedule_percent.p99,
            }),
        }
    }
}

pub(crate) async fn run(plan: &Plan, kind: &Kind) -> anyhow::Result<Found> {
    let (held, lease, following) = if plan.quick {
        (&[1, 10][..], Lease::default(), &[1, 10][..])
    } else {
        (&[1, 10, 100, 1_000, 10_000][..], economy(), &[1, 10, 50, 200][..])
    };
    let mut found = Found { held: Vec::new(), followers: Vec::new(), stopped: Vec::new() };
    for count in held {
        match round(kind, plan, *count, lease, lease.heartbeat * 3).await {
            Ok(round) => found.held.push(Point::from(&round)),
            Err(error) => {
                found.stopped.push(format!("{count} held: {error:#}"));
                break;
            }
        }
    }
    for count in following {
        match followers(kind, plan, *count).await {
            Ok(point) => found.followers.push(point),
            Err(error) => {
                found.stopped.push(format!("{count} followers: {error:#}"));
                break;
            }
        }
    }
    Ok(found)
}

/// So many clients of their own in one process, all of which wait for a key that another process holds.
async fn followers(kind: &Kind, plan: &Plan, count: usize) -> anyhow::Result<Point> {
    let network = plan.network().await?;
    let lease = Lease::default();
    let _holder = holder(kind, &network, lease, KEY).await?;
    let mut peer = Peer::start(kind, &network, lease).await?;
    let mark = peer.say(&format!("follow {KEY} {count}")).await?;
    let following = |event: &Event| match event {
        Event::Following { count } => Some(*count),
        _ => None,
    };
    let told = peer.until(mark, Duration::from_secs(120), following).await?;
    anyhow::ensure!(told == count, "{told} follow");
    // The first look, and until each is in its rhythm.
    tokio::time::sleep(lease.heartbeat * 2).await;
    let (from, began) = (now(), peer.usage()?);
    // Whole heartbeats of the holder, which some follow.
    tokio::time::sleep(lease.heartbeat * 4).await;
    let (until, ended) = (now(), peer.usage()?);
    let acquired = |event: &Event| matches!(event, Event::Acquired { .. });
    anyhow::ensure!(!peer.since(mark).iter().any(acquired), "a follower has what another holds");
    let calls = network.log().of(peer.line.client, from);
    let time = seconds(from, until);
    Ok(Point {
        count,
        requests_per_second: calls.iter().filter(|call| call.arrived < until).count() as f64 / time,
        cpu_percent: (ended.cpu_seconds - began.cpu_seconds) / time * 100.0,
        resident_mib: ended.resident_bytes / 1_048_576.0,
        held: None,
    })
}
