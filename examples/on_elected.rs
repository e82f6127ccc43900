//! Copy this when your service should be told when it leads and when it no longer does: a poller, a cache warmer, a
//! consumer that must run once. Two replicas stand here in one process; in yours there is one per process.
//!
//! The first is a `Service`: a type with state that outlives a term. The second does the same with closures.
//! Both are called in pairs: one `on_demoted` for each `on_elected`, on one task, in order.
//!
//! What must be over before another replica begins belongs to the end of `on_elected`: the release waits for it.
//! `on_demoted` comes after the release, when another may already lead: count, log, free memory there.
//!
//! `cargo run --example on_elected` uses the embedded engine. If leadership is just the scope of one loop, `Elector::run`
//! is shorter: see `singleton_scheduler`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use dynamo_elector::{
    Elector, Embedded, EndReason, Leadership, LockClient, ReleaseOutcome, Service, TermEnded, Timing, WorkResult,
};

const ELECTION: &str = "poll-the-partner";

/// Polls somebody who wants to be polled once, whatever the number of replicas.
struct Poller {
    polled: u64,
    partner: Partner,
}

impl Service for Poller {
    async fn on_elected(&mut self, leadership: Leadership) -> WorkResult {
        println!("first: leads, term {}", leadership.fencing_token());
        let _visit = self.partner.visit("first", leadership.fencing_token());
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        loop {
            tokio::select! { biased;
                () = leadership.cancelled() => return Ok(()), // finish what must be finished before others begin
                _ = tick.tick() => self.polled += 1,
            }
        }
    }

    async fn on_demoted(&mut self, term: TermEnded) {
        println!("first: {} after {:?}, polled {} times so far", term.reason, term.held, self.polled);
        self.partner.leave("first", term);
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let engine = Embedded::in_memory()?; // on AWS: LockClient::builder(&sdk_client, "locks")
    let client = |owner| LockClient::embedded(&engine, "locks").owner(owner).timing(Timing::fast()).build();
    let (locks, other_locks) = (client("first").await?, client("second").await?);
    let partner = Partner::default();

    let first = Elector::builder(&locks, ELECTION).build()?.start(Poller { polled: 0, partner: partner.clone() })?;
    partner.until_visited().await;

    let (visited, left) = (partner.clone(), partner.clone());
    let second = Elector::builder(&other_locks, ELECTION)
        .on_elected(move |leadership| {
            let partner = visited.clone();
            async move {
                println!("second: leads, term {}", leadership.fencing_token());
                let _visit = partner.visit("second", leadership.fencing_token());
                leadership.cancelled().await;
                Ok(())
            }
        })
        .on_demoted(move |term| {
            println!("second: {} after {:?}", term.reason, term.held);
            left.leave("second", term);
            async {}
        })
        .on_leader_changed(|leader| async move {
            println!("second: sees {} lead", leader.map_or("nobody".into(), |leader| leader.owner));
        })
        .start()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(first.elector().status().borrow().is_leader(), "a healthy leader stays");

    println!("main: stops the first");
    first.shutdown().await?;
    partner.until_visited().await;

    println!("main: asks the second to hand over; nobody else is there, so it leads again after a lease");
    ensure!(second.elector().hand_over().await == Some(ReleaseOutcome::Released));
    partner.until_visited().await;
    second.shutdown().await?;

    partner.check()
}

/// One callback: of which replica, what, in which term, and why that ended.
type Entry = (&'static str, &'static str, u64, Option<EndReason>);

/// Who is polled: it would notice two leaders. And the book of all callbacks, to be checked at the end.
#[derive(Clone, Default)]
struct Partner {
    visitors: Arc<AtomicUsize>,
    book: Arc<Mutex<Vec<Entry>>>,
}

struct Visit(Arc<AtomicUsize>);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Partner {
    fn visit(&self, replica: &'static str, term: u64) -> Visit {
        let others = self.visitors.fetch_add(1, Ordering::SeqCst);
        let what = if others == 0 { "elected" } else { "elected beside another" };
        self.write((replica, what, term, None));
        Visit(Arc::clone(&self.visitors))
    }

    async fn until_visited(&self) {
        while self.visitors.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await; // and lets it work for a while
    }

    fn leave(&self, replica: &'static str, term: TermEnded) {
        self.write((replica, "demoted", term.fencing_token, Some(term.reason)));
    }

    fn write(&self, entry: Entry) {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    fn check(&self) -> anyhow::Result<()> {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        // In pairs and in order for each replica; how the pairs of two replicas interleave is nobody's promise.
        let of = |replica| book.iter().filter(move |entry| entry.0 == replica).map(|entry| (entry.1, entry.2, entry.3));
        let (shut_down, handed_over) = (Some(EndReason::ShutDown), Some(EndReason::HandedOver));
        ensure!(of("first").eq([("elected", 1, None), ("demoted", 1, shut_down)]), "{book:?}");
        let pairs =
            [("elected", 2, None), ("demoted", 2, handed_over), ("elected", 3, None), ("demoted", 3, shut_down)];
        ensure!(of("second").eq(pairs), "{book:?}");
        println!("three terms, each elected once and demoted once, never two at once");
        Ok(())
    }
}
