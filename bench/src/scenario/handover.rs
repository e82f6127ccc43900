//! The holder releases while another one waits: how long nobody has it.

use serde::{Deserialize, Serialize};

use super::{Plan, follow, follower, holder, taken_over};
use crate::peer::{Kind, Lease};
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
    let lease = Lease::default();
    let mut holder = holder(kind, &network, lease, KEY).await?;
    let (mut next, mut mark) = follower(kind, &network, lease, KEY).await?;
    let (mut gaps_ms, mut notices) = (Vec::new(), Vec::new());
    let count = plan.count(3, 30);
    for number in 1..=count {
        let asked = crate::clock::now();
        holder.release(KEY, false, lease.lease * 3).await?;
        let told = next.until_acquired(mark, KEY, lease.lease * 3).await?;
        let (released, _) = taken_over(&network, KEY, &holder, &next)?;
        gaps_ms.push(seconds(released, told) * 1e3);
        notices.push(seconds(asked, released) * 1e3);
        std::mem::swap(&mut holder, &mut next);
        if number < count {
            mark = follow(&mut next, &network, lease, &[KEY.to_owned()]).await?;
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
