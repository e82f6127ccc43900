//! Copy this when work is split into shards, tenants or queues, each with one leader, and spread over the replicas: one
//! election per shard, all on one lock client, so that they share one keeper thread and one connection pool.
//!
//! Each replica prefers a share of the shards. For those it claims at once; for the others it has a `campaign_delay`, so that
//! the preferred replica wins when it is healthy, and gives them up again after a `max_tenure`, so that a replica
//! that comes back gets its share back. Nobody talks to anybody: all of it follows from the shard's number and the replica's.
//!
//! Here three replicas stand in one process, one is cut off, the others take its shards over, and it returns.
//! Every change is printed from the merged transitions. Terms are checked: no shard has two leaders with one fencing token.
//!
//! `cargo run --example shards` uses the embedded engine. Choose a longer tenure: each change costs a short pause.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use dynamo_elector::{Elections, Embedded, Fault, Faults, LockClient, Timing, Transition};
use futures::{Stream, StreamExt, stream};
use tokio::time::{Instant, sleep, timeout};

const SHARDS: usize = 12;
const REPLICAS: usize = 3;

struct Replica {
    name: String,
    shards: Elections,
    /// Its way to the store, which can be cut.
    cable: Faults,
}

impl Replica {
    async fn start(engine: &Embedded, number: usize) -> anyhow::Result<Self> {
        let (name, cable) = (format!("replica-{number}"), Faults::none());
        // On AWS: LockClient::builder(&sdk_client, "shards")
        let builder = LockClient::builder(&engine.client_with_faults(&cable), "shards").share_http_client();
        let locks = builder.create_table().owner(&name).timing(Timing::aggressive()).build().await?;
        let timing = locks.timing();
        let shards = Elections::new(&locks);
        for shard in 0..SHARDS {
            let elector = shards.elector(format!("shard-{shard:02}"));
            let elector = match rank(number, shard) {
                0 => elector,
                rank => elector.campaign_delay(2 * timing.poll() * rank).max_tenure(2 * timing.lease()),
            };
            elector.start()?; // with .on_elected(..) and .on_demoted(..), or ask leadership() wherever work arrives
        }
        Ok(Self { name, shards, cable })
    }

    /// The shards it leads.
    fn leads(&self) -> BTreeSet<String> {
        let leads = |elector: &dynamo_elector::Elector| elector.status().borrow().is_leader();
        self.shards.electors().iter().filter(|elector| leads(elector)).map(|elector| elector.name().into()).collect()
    }

    /// The shards it leads when all replicas are healthy.
    fn prefers(number: usize) -> BTreeSet<String> {
        (0..SHARDS).filter(|shard| rank(number, *shard) == 0).map(|shard| format!("shard-{shard:02}")).collect()
    }
}

/// The place of a replica in the order in which all of them may take a shard: round and round, every other time backwards,
/// so that the share of one that dies is spread over all others.
fn rank(number: usize, shard: usize) -> u32 {
    let ahead = (number + REPLICAS - shard % REPLICAS) % REPLICAS;
    let rank = if ahead == 0 || (shard / REPLICAS).is_multiple_of(2) { ahead } else { REPLICAS - ahead };
    u32::try_from(rank).unwrap_or(u32::MAX)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let engine = Embedded::in_memory()?;
    let mut replicas = Vec::new();
    let mut changes = Vec::new();
    for number in 0..REPLICAS {
        let replica = Replica::start(&engine, number).await?;
        changes.push(named(&replica));
        replicas.push(replica);
    }
    let book = tokio::spawn(keep_book(stream::select_all(changes)));

    until("each replica leads what it prefers", || balanced(&replicas)).await?;
    print(&replicas);

    println!("replica-1 is cut off: to the others that is the same as dead");
    replicas[1].cable.set(|_| Fault::LoseRequest);
    until("the others lead all shards", || replicas[0].leads().len() + replicas[2].leads().len() == SHARDS).await?;
    print(&replicas);
    ensure!(replicas[1].leads().is_empty(), "it stopped before others could begin");
    for (number, replica) in replicas.iter().enumerate().filter(|(number, _)| *number != 1) {
        ensure!(replica.leads().is_superset(&Replica::prefers(number)), "{} lost shards of its own", replica.name);
    }

    println!("replica-1 is back");
    replicas[1].cable.set(|_| Fault::Deliver);
    until("each replica leads what it prefers again", || balanced(&replicas)).await?;
    print(&replicas);

    for replica in &replicas {
        replica.shards.shutdown().await;
    }
    drop(replicas); // ends the streams, too
    let terms = book.await?;
    ensure!(terms.len() == SHARDS);
    for (shard, tokens) in &terms {
        let distinct: BTreeSet<_> = tokens.iter().collect();
        ensure!(distinct.len() == tokens.len(), "{shard} had two leaders with one token: {tokens:?}");
    }
    println!("{} terms of {SHARDS} shards, each with a token of its own", terms.values().map(Vec::len).sum::<usize>());
    Ok(())
}

fn balanced(replicas: &[Replica]) -> bool {
    replicas.iter().enumerate().all(|(number, replica)| replica.leads() == Replica::prefers(number))
}

fn print(replicas: &[Replica]) {
    for replica in replicas {
        let numbers: Vec<_> =
            replica.leads().iter().map(|shard| shard.trim_start_matches("shard-").to_owned()).collect();
        println!("    {}  {:<13}  {}", replica.name, "#".repeat(numbers.len()), numbers.join(" "));
    }
}

type Change = (String, Option<Arc<str>>, Transition);

/// The merged transitions of all shards of one replica, with the replica's name.
fn named(replica: &Replica) -> impl Stream<Item = Change> + Send + Unpin + use<> {
    let name = replica.name.clone();
    replica.shards.transitions().map(move |(shard, transition)| (name.clone(), shard, transition))
}

/// Prints what happens, and keeps the fencing token of every term by shard.
async fn keep_book(mut changes: impl Stream<Item = Change> + Unpin) -> BTreeMap<Arc<str>, Vec<u64>> {
    let mut terms = BTreeMap::<Arc<str>, Vec<u64>>::new();
    while let Some((replica, shard, transition)) = changes.next().await {
        match (shard, transition) {
            (Some(shard), Transition::Elected { fencing_token, .. }) => {
                println!("  {shard}: {replica} leads, term {fencing_token}");
                terms.entry(shard).or_default().push(fencing_token);
            }
            (Some(shard), Transition::Demoted { reason, .. }) => println!("  {shard}: {replica} stops, {reason}"),
            _ => {}
        }
    }
    terms
}

async fn until(what: &str, holds: impl Fn() -> bool + Send + Sync) -> anyhow::Result<()> {
    let start = Instant::now();
    let waited = async {
        while !holds() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), waited).await.with_context(|| format!("never seen: {what}"))?;
    println!("{what}, after {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}
