//! Requests and capacity units of each operation, and of a follower that waits.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Plan, follower, taken_over};
use crate::clock::now;
use crate::network::{Cost, Network};
use crate::peer::{Kind, Lease, Peer};

const KEY: &str = "cost";
const WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) acquire_absent: Cost,
    /// First contact with a record that was released; `None` where releasing deletes it.
    pub(crate) acquire_released: Option<Cost>,
    /// By a client that follows, from when the release was applied.
    pub(crate) acquire_following: Cost,
    pub(crate) release: Cost,
    /// Per heartbeat, everything that its client sent meanwhile included.
    pub(crate) heartbeat_requests: f64,
    pub(crate) heartbeat_units: f64,
    pub(crate) follower_seconds: f64,
    pub(crate) follower: Cost,
}

pub(crate) async fn run(plan: &Plan, kind: &Kind) -> anyhow::Result<Found> {
    let network = plan.network().await?;
    let lease = Lease::default();
    let mut holder = Peer::start(kind, &network, lease).await?;

    let from = now();
    let told = holder.acquire(KEY, WITHIN).await?;
    let acquire_absent = cost(&network, &holder, from, told);

    let (mut next, mark) = follower(kind, &network, lease, KEY).await?;
    let from = now();
    let time = plan.seconds(8, 60);
    tokio::time::sleep(time).await;
    let (follower, beats) = (cost(&network, &next, from, now()), cost(&network, &holder, from, now()));

    let from = now();
    let told = holder.release(KEY, true, WITHIN).await?;
    let release = cost(&network, &holder, from, told);
    let told = next.until_acquired(mark, KEY, WITHIN).await?;
    let (released, _) = taken_over(&network, KEY, &holder, &next)?;
    let acquire_following = cost(&network, &next, released, told);

    let acquire_released = if next.offers("keep") {
        next.release(KEY, true, WITHIN).await?;
        let mut stranger = Peer::start(kind, &network, lease).await?;
        let from = now();
        let told = stranger.acquire(KEY, WITHIN).await?;
        Some(cost(&network, &stranger, from, told))
    } else {
        None
    };
    let writes = beats.writes.max(1) as f64;
    Ok(Found {
        acquire_absent,
        acquire_released,
        acquire_following,
        release,
        heartbeat_requests: (beats.reads + beats.writes) as f64 / writes,
        heartbeat_units: (beats.read_units + beats.write_units) / writes,
        follower_seconds: time.as_secs_f64(),
        follower,
    })
}

/// Of what was sent from then until user code was told.
fn cost(network: &Network, peer: &Peer, from: u64, told: u64) -> Cost {
    let calls = network.log().of(peer.line.client, from);
    Cost::of(calls.iter().filter(|call| call.arrived <= told))
}
