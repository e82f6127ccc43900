//! Copy this when a process should know who leads without ever leading: a gateway that forwards to leaders, a dashboard,
//! an alert. One observer follows any number of elections, here 200 of which a dozen come and go.
//!
//! It sends `GetItem` and nothing else, half a read unit each: `poll_every` sets the price. Its permissions are those
//! of `iam/observer.json`, which can't write. At the end this is checked against every request it has sent.
//!
//! A leader that stops politely is seen gone at the next poll; one that dies a lease after its last heartbeat, as a
//! candidate would see it.
//!
//! `cargo run --example observer` uses the embedded engine. A process that may lead itself needs none of this: its
//! elector's `status()` and `transitions()` tell the same.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use dynamo_elector::{Elections, Embedded, Fault, Faults, LockClient, Observer, Timing, Transition};
use futures::StreamExt;

const TENANTS: usize = 200;
const LED: usize = 12;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let engine = Embedded::in_memory()?;
    let east = replica(&engine, &Faults::none(), "east").await?;
    let cable = Faults::none();
    let west = replica(&engine, &cable, "west").await?;
    for tenant in 0..LED {
        let region = if tenant % 2 == 0 { &east } else { &west };
        region.elector(name(tenant)).advertise(format!("http://10.0.0.{tenant}:8080")).start()?;
    }

    let sent = Faults::none(); // takes down every request of the observer; on AWS nothing stands here
    let locks = LockClient::builder(&engine.client_with_faults(&sent), "elections")
        .share_http_client()
        .timing(Timing::fast())
        .build()
        .await?;
    let before = sent.calls().len();
    let observer =
        Observer::builder(&locks).elections((0..TENANTS).map(name)).poll_every(Duration::from_secs(1)).start()?;
    let transitions = tokio::spawn(follow(observer.transitions()));

    for tenant in 0..LED {
        let leader = observer.until_leader(&name(tenant)).await?;
        ensure!(leader.address() == Some(&*format!("http://10.0.0.{tenant}:8080")), "{leader:?}");
    }
    println!("all {LED} leaders are seen, {} elections have none", TENANTS - led(&observer));
    ensure!(led(&observer) == LED);

    println!("east stops politely");
    east.shutdown().await;
    until(&observer, LED / 2).await?;

    println!("west is cut off, which to others is the same as dead");
    cable.set(|_| Fault::LoseRequest);
    until(&observer, 0).await?;

    println!("west is back");
    cable.set(|_| Fault::Deliver);
    until(&observer, LED / 2).await?;
    west.shutdown().await;
    until(&observer, 0).await?;

    drop(observer); // ends the stream, too
    let seen = transitions.await?;
    ensure!(seen.len() == LED, "transitions of elections that nobody leads: {seen:?}");
    for (election, seen) in &seen {
        let expected: &[&str] =
            if seen[0] == "east" { &["east", "nobody"] } else { &["west", "nobody", "west", "nobody"] };
        ensure!(seen == expected, "{election}: {seen:?}");
    }
    let calls = sent.calls().split_off(before);
    let writes = calls.iter().filter(|(call, _)| call.operation != "GetItem").count();
    println!("{} requests to follow {TENANTS} elections, {writes} of them writes", calls.len());
    ensure!(writes == 0);
    Ok(())
}

/// What runs elsewhere: a process with candidates.
async fn replica(engine: &Embedded, cable: &Faults, owner: &str) -> anyhow::Result<Elections> {
    let client = engine.client_with_faults(cable);
    let builder = LockClient::builder(&client, "elections").share_http_client().create_table();
    Ok(Elections::new(&builder.owner(owner).timing(Timing::fast()).build().await?))
}

/// Prints each change of a leader and keeps them by election, until the observer ends.
async fn follow(
    mut transitions: impl futures::Stream<Item = (Option<std::sync::Arc<str>>, Transition)> + Unpin,
) -> BTreeMap<String, Vec<String>> {
    let mut seen = BTreeMap::<String, Vec<String>>::new();
    while let Some((election, transition)) = transitions.next().await {
        match (election, transition) {
            (Some(election), Transition::LeaderChanged { leader, .. }) => {
                // The first look at an election that nobody leads is told as well.
                if leader.is_none() && !seen.contains_key(&*election) {
                    continue;
                }
                let (owner, address) = match &leader {
                    Some(leader) => (leader.owner.as_str(), leader.address().unwrap_or("which advertises nothing")),
                    None => ("nobody", "no address"),
                };
                println!("  {election}: {owner} leads, {address}");
                seen.entry(election.to_string()).or_default().push(owner.to_owned());
            }
            (None, Transition::Missed(count)) => println!("  this reader was too slow for {count} changes"),
            _ => {} // only candidates are elected and demoted
        }
    }
    seen
}

/// How many of the elections have a leader.
fn led(observer: &Observer) -> usize {
    let is_led = |name: &&str| observer.status(name).is_some_and(|status| status.borrow().leader.is_some());
    observer.elections().filter(is_led).count()
}

async fn until(observer: &Observer, leaders: usize) -> anyhow::Result<()> {
    let reached = async {
        while led(observer) != leaders {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), reached).await;
    in_time.with_context(|| format!("{} leaders instead of {leaders}", led(observer)))
}

fn name(tenant: usize) -> String {
    format!("tenant-{tenant:03}")
}
