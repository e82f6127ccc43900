//! What is measured: one function each, a fresh engine each.

mod claims;
pub(crate) mod cost;
pub(crate) mod cut;
pub(crate) mod failover;
pub(crate) mod growth;
pub(crate) mod handover;
pub(crate) mod ladder;
pub(crate) mod loss;
pub(crate) mod many;
pub(crate) mod pause;

use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;

use crate::network::{Call, Log, Network};
use crate::peer::kind::{LEASES, LOCKS};
use crate::peer::{Event, Kind, Lease, Mark, Peer};
use crate::results::Client;

/// Which one, in the order in which they are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    Cost,
    Failover,
    Handover,
    Loss,
    Cut,
    Pause,
    CutBusy,
    Many,
    Ladder,
    Growth,
}

impl Scenario {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it measures waiting, so that clients side by side do not disturb each other. The others measure processor time or
    /// saturate the host, and have it for themselves.
    pub(crate) fn waits(self) -> bool {
        match self {
            Self::Cost | Self::Failover | Self::Handover | Self::Loss | Self::Cut | Self::Pause => true,
            Self::CutBusy | Self::Many | Self::Ladder | Self::Growth => false,
        }
    }

    pub(crate) async fn run(self, plan: &Plan, kind: &Kind, client: &mut Client) -> anyhow::Result<()> {
        match self {
            Self::Cost => client.cost = Some(cost::run(plan, kind).await?),
            Self::Failover => client.failover = Some(failover::run(plan, kind).await?),
            Self::Handover => client.handover = Some(handover::run(plan, kind).await?),
            Self::Loss => client.loss = Some(loss::run(plan, kind).await?),
            Self::Cut => client.cut = Some(cut::run(plan, kind).await?),
            Self::Pause => client.pause = Some(pause::run(plan, kind).await?),
            Self::CutBusy => client.cut_busy = Some(cut::run_busy(plan, kind).await?),
            Self::Many => client.many = Some(many::run(plan, kind).await?),
            Self::Ladder => client.ladder = Some(ladder::run(plan, kind).await?),
            Self::Growth => client.growth = Some(growth::run(plan, kind).await?),
        }
        Ok(())
    }
}

/// What all scenarios share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) round_trip: Duration,
    pub(crate) quick: bool,
    /// Multiplies counts and durations.
    pub(crate) scale: f64,
}

impl Plan {
    pub(crate) async fn network(&self) -> anyhow::Result<Network> {
        Network::start(self.round_trip, &[(LOCKS, None), (LEASES, Some("lease_expiry"))]).await
    }

    pub(crate) fn count(&self, quick: usize, full: usize) -> usize {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a scaled count")]
        let scaled = (full as f64 * self.scale).ceil() as usize;
        if self.quick { quick } else { scaled.max(1) }
    }

    pub(crate) fn seconds(&self, quick: u64, full: u64) -> Duration {
        if self.quick { Duration::from_secs(quick) } else { Duration::from_secs(full).mul_f64(self.scale) }
    }
}

/// A client that holds `key`.
pub(crate) async fn holder(kind: &Kind, network: &Network, lease: Lease, key: &str) -> anyhow::Result<Peer> {
    let mut peer = Peer::start(kind, network, lease).await?;
    peer.acquire(key, Duration::from_secs(30)).await?;
    Ok(peer)
}

/// A follower that has looked at the held record and then waited for three heartbeats and a half at least, so that whatever is done next
/// meets it at a random phase.
pub(crate) async fn follower(kind: &Kind, network: &Network, lease: Lease, key: &str) -> anyhow::Result<(Peer, Mark)> {
    let mut peer = Peer::start(kind, network, lease).await?;
    let mark = follow(&mut peer, network, lease, &[key.to_owned()]).await?;
    Ok((peer, mark))
}

/// The same of all `keys`, of a client that runs already.
pub(crate) async fn follow(peer: &mut Peer, network: &Network, lease: Lease, keys: &[String]) -> anyhow::Result<Mark> {
    let (from, mark) = (crate::clock::now(), peer.mark());
    for key in keys {
        peer.say(&format!("acquire {key}")).await?;
    }
    let has_looked = || {
        let calls = network.log().of(peer.line.client, from);
        keys.iter().all(|key| calls.iter().any(|call| call.key == *key && call.answered.is_some()))
    };
    let look = async {
        while !has_looked() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // An elector that handed over stays out for a lease at most.
    tokio::time::timeout(lease.lease * 3, look).await?;
    tokio::time::sleep(lease.heartbeat.mul_f64(3.5 + fastrand::f64())).await;
    Ok(mark)
}

/// When it was told of the loss of `key`, if that happened within this time.
pub(crate) async fn first_lost(peer: &Peer, mark: Mark, key: &str, within: Duration) -> anyhow::Result<Option<u64>> {
    let lost = |event: &Event| match event {
        Event::Lost { at, key: of, .. } if of == key => Some(*at),
        _ => None,
    };
    peer.if_within(mark, within, lost).await
}

/// When the last write of `holder` on the key was applied, and when the first of `next` after it.
pub(crate) fn taken_over(network: &Network, key: &str, holder: &Peer, next: &Peer) -> anyhow::Result<(u64, u64)> {
    let found = succession(network.log(), key, holder.line.client, next.line.client);
    let (last, first) = found.context("no take-over was applied")?;
    Ok((last.served.context("served")?, first.served.context("served")?))
}

/// The last write of `from` on the key before the first of `to` that came after it, and that one.
fn succession(log: &Log, key: &str, from: usize, to: usize) -> Option<(Call, Call)> {
    let writes = log.writes_applied(key);
    let last_of = |client: usize, before: usize| writes[..before].iter().rposition(|call| call.client == client);
    let last = last_of(from, writes.len())?;
    let first = last + writes[last..].iter().position(|call| call.client == to)?;
    let last = last_of(from, first)?;
    Some((writes[last].clone(), writes[first].clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Writes of these clients in this order, a second apart.
    fn log(clients: &[usize]) -> Log {
        let log = Log::default();
        for (client, at) in clients.iter().zip(1_u64..) {
            let call = log.arrived(*client, "UpdateItem", &json!({ "Key": { "key": { "S": "k" } } }), at);
            log.served(call, 200, b"{}", at * 1_000_000_000);
        }
        log
    }

    #[test]
    fn a_succession_is_the_last_write_of_one_and_the_first_of_the_other_after_it() {
        let seconds = |clients: &[usize]| {
            let (last, first) = succession(&log(clients), "k", 1, 2)?;
            Some((last.served? / 1_000_000_000, first.served? / 1_000_000_000))
        };
        assert_eq!(seconds(&[1, 1, 2, 2]), Some((2, 3)));
        assert_eq!(seconds(&[2, 1, 1, 2, 2]), Some((3, 4)), "what the other wrote before does not count");
        assert_eq!(seconds(&[1, 1]), None);
        assert_eq!(seconds(&[2, 2]), None);
        assert!(succession(&log(&[1, 2]), "another", 1, 2).is_none());
    }
}
