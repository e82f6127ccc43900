//! The holder is cut off: when its user code is told, and whether another had it by then.

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{Plan, first_lost, follower, holder, taken_over};
use crate::network::Weather;
use crate::peer::{Kind, Lease};
use crate::statistics::{Summary, seconds};

const KEY: &str = "cut";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) lease: f64,
    pub(crate) repetitions: usize,
    /// Seconds from when its last heartbeat that was answered was sent until user code was told; of those that were told at all.
    pub(crate) told_after: Summary,
    /// How often it was not told while it was watched.
    pub(crate) never_told: usize,
    pub(crate) watched_seconds: f64,
    /// Seconds from when it was told until the next one's acquisition was applied; of those that did not overlap.
    pub(crate) margin_seconds: Summary,
    /// How often the next one's acquisition was applied before the former holder was told.
    pub(crate) overlaps: usize,
    /// Seconds for which both believed to hold it, of those that overlapped; to the end of the watch where it was never told.
    pub(crate) overlap_seconds: Summary,
}

pub(crate) async fn run(plan: &Plan, kind: &Kind) -> anyhow::Result<Found> {
    let lease = Lease::millis(4_000, 1_000);
    let watch = plan.seconds(20, 30).max(lease.lease * 5);
    let repetitions = plan.count(1, 10);
    let (mut told_after, mut margins, mut overlaps, mut never_told) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..repetitions {
        // An engine each: nothing of the former repetition may come through later.
        let network = plan.network().await?;
        let holder = holder(kind, &network, lease, KEY).await?;
        let mark = holder.mark();
        let (next, follows) = follower(kind, &network, lease, KEY).await?;
        holder.line.set(Weather { cut: true, ..network.fair() });
        let begin = crate::clock::now();
        next.until_acquired(follows, KEY, lease.lease * 8).await?;
        let (_, taken) = taken_over(&network, KEY, &holder, &next)?;
        let told = first_lost(&holder, mark, KEY, watch).await?;
        let calls = network.log().of(holder.line.client, 0);
        let answered = calls.iter().rfind(|call| call.applied && call.key == KEY && call.answered.is_some());
        let sent = answered.context("no heartbeat was answered")?.arrived;
        match told {
            Some(told) => told_after.push(seconds(sent, told)),
            None => never_told += 1,
        }
        let until = told.unwrap_or_else(crate::clock::now);
        anyhow::ensure!(until > begin, "told before it was cut off");
        if until > taken {
            overlaps.push(seconds(taken, until));
        } else {
            margins.push(seconds(until, taken));
        }
    }
    Ok(Found {
        lease: lease.lease.as_secs_f64(),
        repetitions,
        told_after: Summary::of(&told_after),
        never_told,
        watched_seconds: watch.as_secs_f64(),
        margin_seconds: Summary::of(&margins),
        overlaps: overlaps.len(),
        overlap_seconds: Summary::of(&overlaps),
    })
}
