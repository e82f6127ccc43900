//! The holder is killed: how long after the end of its lease another has it.

use serde::{Deserialize, Serialize};

use super::{Plan, follower, holder, taken_over};
use crate::peer::{Kind, Lease};
use crate::statistics::{Summary, seconds};

const KEY: &str = "failover";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) lease: f64,
    pub(crate) heartbeat: f64,
    /// Seconds from the end of the lease, counted from when the last heartbeat was applied, until the take-over was applied.
    /// Negative: before its end.
    pub(crate) after_lease: Vec<f64>,
    pub(crate) summary: Summary,
    /// Seconds from the kill until the next holder's user code was told.
    pub(crate) from_kill_until_told: Summary,
}

pub(crate) async fn run(plan: &Plan, kind: &Kind) -> anyhow::Result<Found> {
    let network = plan.network().await?;
    let lease = Lease::millis(4_000, 1_000);
    let mut holder = holder(kind, &network, lease, KEY).await?;
    let (mut after_lease, mut until_told) = (Vec::new(), Vec::new());
    for _ in 0..plan.count(2, kind.repetitions(60, 30)) {
        let (next, mark) = follower(kind, &network, lease, KEY).await?;
        let at = crate::clock::now();
        holder.kill().await?;
        let told = next.until_acquired(mark, KEY, lease.lease * 8).await?;
        let (last, first) = taken_over(&network, KEY, &holder, &next)?;
        after_lease.push(seconds(last, first) - lease.lease.as_secs_f64());
        until_told.push(seconds(at, told));
        holder = next;
    }
    Ok(Found {
        lease: lease.lease.as_secs_f64(),
        heartbeat: lease.heartbeat.as_secs_f64(),
        summary: Summary::of(&after_lease),
        from_kill_until_told: Summary::of(&until_told),
        after_lease,
    })
}
