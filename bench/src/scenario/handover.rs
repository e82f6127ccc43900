//! The holder releases while another one waits: how long nobody has it.

use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{Plan, follow, follower, succession};
use crate::peer::{Kind, Lease, Peer};
use crate::statistics::{Summary, seconds};

const KEY: &str = "handover";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Milliseconds from when the release was applied until the next one's user code was told.
    pub(crate) gaps_ms: Vec<f64>,
    pub(crate) gap_ms: Summary,
    /// The same in round trips, as long as they really were.
    pub(crate) round_trips: Summary,
    /// Milliseconds from when the release was asked for until it was applied, which includes what announces it.
    pub(crate) notice_ms: Summary,
}

pub(crate) async fn run(plan: &Plan, kind: &Kind) -> anyhow::Result<Found> {
    let network = plan.network().await?;
    let lease = Lease::millis(10_000, 2_500);
    let mut holder = Peer::start(kind, &network, lease).await?;
    holder.acquire(KEY, Duration::from_secs(30)).await?;
    let (mut next, mut mark) = follower(kind, &network, lease, KEY).await?;
    let (mut gaps_ms, mut notices) = (Vec::new(), Vec::new());
    let count = plan.count(3, 30);
    for number in 1..=count {
        let asked = crate::clock::now();
        holder.release(KEY, false, lease.lease * 3).await?;
        let told = next.until_acquired(mark, KEY, lease.lease * 3).await?;
        let (released, _) =
            succession(network.log(), KEY, holder.line.client, next.line.client).context("no take-over was applied")?;
        let released = released.served.context("served")?;
        gaps_ms.push(seconds(released, told) * 1e3);
        notices.push(seconds(asked, released) * 1e3);
        std::mem::swap(&mut holder, &mut next);
        if number < count {
            mark = follow(&mut next, &network, lease, KEY).await?;
        }
    }
    let round_trip_ms = network.log().round_trip_ms();
    let in_round_trips: Vec<f64> = gaps_ms.iter().map(|gap| gap / round_trip_ms).collect();
    Ok(Found {
        gap_ms: Summary::of(&gaps_ms),
        round_trips: Summary::of(&in_round_trips),
        notice_ms: Summary::of(&notices),
        gaps_ms,
    })
}
