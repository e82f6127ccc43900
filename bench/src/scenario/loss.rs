//! A network that loses requests and replies, and nobody else who wants the locks: each one that is lost was given up needlessly.

use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::Plan;
use super::claims::{claims, outlasted};
use crate::clock::now;
use crate::network::Weather;
use crate::peer::{Event, Kind, Lease, Peer};
use crate::statistics::seconds;

/// Of requests, and as many of replies.
const SHARE: f64 = 0.05;
const PREFIX: &str = "loss-";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) locks: usize,
    pub(crate) minutes: f64,
    pub(crate) lost: usize,
    /// Of all locks together, the time in which their client claimed them.
    pub(crate) lock_hours: f64,
    pub(crate) lost_per_lock_hour: f64,
    /// Locks whose record had run out at some time while their client claimed them: anybody could have had them.
    pub(crate) expired_unnoticed: usize,
    /// The share of the time held for which that was so.
    pub(crate) expired_unnoticed_share: f64,
    /// Attempts to have a lost one back that ended in an error, and were made again.
    pub(crate) errors: usize,
}

pub(crate) async fn run(plan: &Plan, kind: &Kind) -> anyhow::Result<Found> {
    let network = plan.network().await?;
    let lease = Lease::default();
    let mut peer = Peer::start(kind, &network, lease).await?;
    let locks = if plan.quick { 20 } else { 50 };
    let mark = peer.hold(PREFIX, locks, Duration::from_secs(120)).await?;
    peer.line.set(Weather { request_loss: SHARE, reply_loss: SHARE, ..network.fair() });
    let (start, time) = (now(), plan.seconds(30, 600));
    let mut answered = peer.since(mark).len();
    let mut errors = 0;
    while now() - start < u64::try_from(time.as_nanos())? {
        let events = peer.since(mark);
        for event in &events[answered..] {
            match event {
                Event::Lost { key, .. } => drop(peer.say(&format!("acquire {key}")).await?),
                Event::Error { text, command } => {
                    errors += 1;
                    let again = command.as_deref().with_context(|| text.clone())?;
                    peer.say(again).await?;
                }
                _ => {}
            }
        }
        answered = events.len();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let end = now();
    let (claims, lost) = claims(&peer.since(mark), start, end);
    let hours = |seconds: f64| seconds / 3_600.0;
    let lock_hours = hours(claims.iter().map(|claim| seconds(claim.from, claim.until)).sum());
    let (expired_unnoticed, outlasted) =
        outlasted(&claims, &network.log().of(peer.line.client, 0), lease.lease, lease.look);
    Ok(Found {
        locks,
        minutes: seconds(start, end) / 60.0,
        lost,
        lock_hours,
        lost_per_lock_hour: lost as f64 / lock_hours.max(f64::EPSILON),
        expired_unnoticed,
        expired_unnoticed_share: hours(outlasted) / lock_hours.max(f64::EPSILON),
        errors,
    })
}
