//! The holder's process is stopped for two leases and goes on: what it says at the first look, and when its user code is told.

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::{Plan, first_lost, follower, holder, taken_over};
use crate::clock::now;
use crate::peer::{Event, Kind, Lease};
use crate::statistics::{Summary, seconds};

const KEY: &str = "pause";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) lease: f64,
    pub(crate) repetitions: usize,
    /// Milliseconds from the thaw until user code was told; of those that were told at all.
    pub(crate) told_after_ms: Summary,
    pub(crate) never_told: usize,
    /// How often it claimed to hold the lock when it was asked for the first time after the thaw.
    pub(crate) claimed_at_first_look: usize,
    /// Milliseconds after the thaw for which it went on claiming so, while another had it; of those that did.
    pub(crate) overlap_ms: Summary,
}

pub(crate) async fn run(plan: &Plan, kind: &Kind) -> anyhow::Result<Found> {
    let lease = Lease::millis(4_000, 1_000);
    let watch = lease.lease * 4;
    let repetitions = plan.count(1, kind.repetitions(10, 5));
    let (mut told_after, mut overlaps, mut never_told, mut claimed) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..repetitions {
        let network = plan.network().await?;
        let holder = holder(kind, &network, lease, KEY).await?;
        let (next, follows) = follower(kind, &network, lease, KEY).await?;
        let mark = holder.mark();
        holder.signal(Signal::STOP)?;
        tokio::time::sleep(lease.lease * 2).await;
        let taken = next.until_acquired(follows, KEY, lease.lease * 4).await?;
        taken_over(&network, KEY, &holder, &next)?;
        let thaw = now();
        anyhow::ensure!(taken < thaw, "taken over after the thaw");
        holder.signal(Signal::CONT)?;
        match first_lost(&holder, mark, KEY, watch).await? {
            Some(told) => told_after.push(seconds(thaw, told) * 1e3),
            None => never_told += 1,
        }
        if let Some(until) = claims_until(&holder.since(mark), thaw, now()) {
            claimed += 1;
            overlaps.push(seconds(thaw, until) * 1e3);
        }
    }
    Ok(Found {
        lease: lease.lease.as_secs_f64(),
        repetitions,
        told_after_ms: Summary::of(&told_after),
        never_told,
        claimed_at_first_look: claimed,
        overlap_ms: Summary::of(&overlaps),
    })
}

/// When it said no, if the first look after the thaw said yes; `end` if it never did.
fn claims_until(events: &[Event], thaw: u64, end: u64) -> Option<u64> {
    let mut looks = events.iter().filter_map(|event| match event {
        Event::Look { at, holds, .. } if *at >= thaw => Some((*at, *holds)),
        _ => None,
    });
    let (_, claims) = looks.next()?;
    claims.then(|| looks.find(|(_, holds)| !holds).map_or(end, |(at, _)| at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: u64, holds: bool) -> Event {
        Event::Look { at, key: KEY.into(), holds }
    }

    #[test]
    fn a_claim_lasts_until_a_look_denies_it() {
        assert_eq!(claims_until(&[look(5, true), look(11, false)], 10, 99), None, "the first after the thaw says no");
        assert_eq!(claims_until(&[look(5, false), look(11, true), look(14, false)], 10, 99), Some(14));
        assert_eq!(claims_until(&[look(11, true)], 10, 99), Some(99));
        assert_eq!(claims_until(&[], 10, 99), None);
    }
}
