//! One replica: a process of its own that campaigns, does effects while it leads, and writes down what it believes.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{Elector, Fence, Leadership, LockClient, Timing, WorkResult};
use rustix::process::Signal;
use tokio::sync::Semaphore;

use super::engine::{EFFECTS, FENCED, LOCKS, PLAIN};
use super::journal::{Event, Journal, Life, now};

pub(crate) const ENDPOINT: &str = "CHAOS_ENDPOINT";
pub(crate) const REPLICA: &str = "CHAOS_REPLICA";
pub(crate) const LIFE: &str = "CHAOS_LIFE";
pub(crate) const JOURNALS: &str = "CHAOS_JOURNALS";

const ELECTION: &str = "chaos";
/// From one look at the leadership to the next.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A longer pause between two looks is written down, with what the first look after it said.
const PAUSE: u64 = 50_000_000;
/// Effects under way at once: a network that answers nothing piles up no more.
const UNDER_WAY: usize = 64;
/// The share of effects that are late: sent long after the look at the leadership.
const LATE: f64 = 0.15;

/// Neither a parent that is gone nor one that was killed leaves a child behind, stopped or not.
pub(crate) fn die_with_parent() {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    std::thread::spawn(|| {
        let mut input = std::io::stdin();
        while matches!(input.read(&mut [0; 16]), Ok(1..)) {}
        std::process::exit(3);
    });
}

pub(crate) fn run() {
    let set = |name: &str| std::env::var(name).unwrap();
    let life = Life { replica: set(REPLICA).parse().unwrap(), number: set(LIFE).parse().unwrap() };
    let endpoint = set(ENDPOINT);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let builder = LockClient::builder(&client(&endpoint), LOCKS).owner(format!("replica-{}", life.replica));
        let locks = builder.timing(Timing::aggressive()).build().await.unwrap();
        let elector = Elector::builder(&locks, ELECTION).build().unwrap();
        elector.shutdown_on_signal().unwrap();
        // From here on a signal is an orderly end, which the journal's being there tells.
        let journal = Arc::new(Journal::create(&PathBuf::from(set(JOURNALS)), life));
        let (watched, journal_of_looks) = (elector.clone(), Arc::clone(&journal));
        std::thread::spawn(move || look(&watched, &journal_of_looks));
        let office = Arc::new(Office {
            client: plain_client(&endpoint),
            journal,
            sequence: AtomicU64::new(0),
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
        });
        elector.run(async move |leadership| office.lead(leadership).await).await.unwrap();
        elector.until_stopped().await;
        locks.shutdown().await;
    });
    std::process::exit(0);
}

fn config(endpoint: &str) -> aws_sdk_dynamodb::config::Builder {
    crate::config(endpoint, Credentials::new("id", "secret", None, None, "test"))
}

fn client(endpoint: &str) -> Client {
    Client::from_conf(config(endpoint).build())
}

/// For effects: what is lost is lost.
fn plain_client(endpoint: &str) -> Client {
    let timeouts = TimeoutConfig::builder().operation_timeout(Duration::from_secs(4)).build();
    let config = config(endpoint).retry_config(RetryConfig::disabled()).timeout_config(timeouts);
    Client::from_conf(config.build())
}

/// Asks `is_valid()` all the time, on a thread apart from the runtime. A belief reaches from after the first look that said
/// `true` to before the last one: no pause between a reading of the clock and an answer makes it longer than it was.
fn look(elector: &Elector, journal: &Journal) {
    let (mut view, mut current, mut slots) = (None, None, 0);
    let (mut last, mut unsure) = (now(), false);
    loop {
        if view.is_none() {
            view = elector.leadership();
        }
        let token = view.as_ref().map_or(0, |view| view.fencing_token());
        // Whoever has a view holds the release back, and a term that ends politely stays valid for as long. Asked before the
        // look, so that no view is dropped after a pause without a look.
        let ends = view.as_ref().is_some_and(|view| view.ensure(Duration::ZERO).is_err());
        let from = now();
        let valid = view.as_ref().is_some_and(|view| view.is_valid());
        let until = now();
        let paused = from - last > PAUSE;
        let long = until - from > PAUSE;
        if paused || long || unsure {
            journal.note(&Event::Look { token, last, from, until, valid }.to_string());
        }
        (last, unsure) = (until, long);
        if valid {
            let (index, began) = *current.get_or_insert_with(|| {
                slots += 1;
                (slots - 1, until)
            });
            journal.believe(index, token, began, from);
        }
        if ends || !valid {
            (view, current) = (None, None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

struct Office {
    client: Client,
    journal: Arc<Journal>,
    sequence: AtomicU64,
    under_way: Arc<Semaphore>,
}

impl Office {
    async fn lead(self: &Arc<Self>, leadership: Leadership) -> WorkResult {
        let token = leadership.fencing_token();
        self.journal.note(&Event::Term { token, at: now() }.to_string());
        self.tell(&leadership);
        let cancelled = leadership.cancelled();
        tokio::pin!(cancelled);
        loop {
            let pause = Duration::from_millis(fastrand::u64(50..100));
            if tokio::time::timeout(pause, &mut cancelled).await.is_ok() {
                break;
            }
            if leadership.is_valid() {
                self.act(leadership.fence());
            }
        }
        let reason = leadership.end_reason().map_or("unknown", dynamo_elector::EndReason::as_str).to_owned();
        self.journal.note(&Event::Ended { token, at: now(), reason }.to_string());
        Ok(())
    }

    /// Writes down when the token fires: for a task, and for a thread that waits for nothing else.
    fn tell(self: &Arc<Self>, leadership: &Leadership) {
        let told = |by: &'static str| {
            let (journal, token, cancelled) =
                (Arc::clone(&self.journal), leadership.fencing_token(), leadership.cancelled());
            async move {
                cancelled.await;
                journal.note(&Event::Told { token, at: now(), by: by.to_owned() }.to_string());
            }
        };
        tokio::spawn(told("task"));
        let waits = told("thread");
        std::thread::spawn(move || futures::executor::block_on(waits));
    }

    /// A fenced write and one that is not, sent now or late. Nobody waits for them: they may be under way when leadership ends.
    fn act(self: &Arc<Self>, fence: Fence) {
        let Ok(permit) = Arc::clone(&self.under_way).try_acquire_owned() else { return };
        let late = if fastrand::f64() < LATE { fastrand::f64() * 2.0 } else { 0.0 };
        let office = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(Timing::aggressive().lease().mul_f64(late)).await;
            let token = fence.number();
            let fenced = fence.condition().apply_to(office.write(FENCED, token)).unwrap();
            let sent = now();
            let (fenced, _) = tokio::join!(async { (fenced.send().await, now()) }, office.write(PLAIN, token).send());
            let (answer, done) = fenced;
            let outcome = match answer {
                Ok(_) => "applied",
                Err(error) if error.code() == Some("ConditionalCheckFailedException") => "refused",
                Err(_) => "failed",
            };
            office.journal.note(&Event::Effect { token, sent, done, outcome: outcome.to_owned() }.to_string());
            drop(permit);
        });
    }

    fn write(&self, item: &str, token: u64) -> UpdateItemFluentBuilder {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.client
            .update_item()
            .table_name(EFFECTS)
            .key("key", AttributeValue::S(item.to_owned()))
            .update_expression("SET term = :token, seq = :sequence, writer = :writer")
            .expression_attribute_values(":token", AttributeValue::N(token.to_string()))
            .expression_attribute_values(":sequence", AttributeValue::N(sequence.to_string()))
            .expression_attribute_values(":writer", AttributeValue::N(std::process::id().to_string()))
    }
}
