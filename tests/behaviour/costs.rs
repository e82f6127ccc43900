//! What `Workload` promises against the requests of real runs: a quiet time, hand-overs, crashes, on every profile.

use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{Elector, Embedded, Fault, Faults, Timing, Usage, Workload};
use tokio::time::Instant;

use crate::builder;
use crate::support::{Idle, raw, simulated, slow, within};

const CANDIDATES: u32 = 3;
const MONTH: f64 = 730.0 * 3_600.0;
/// Hand-overs, and crashes.
const CHANGES: u32 = 8;
/// Between two of them.
const APART: u32 = 3;

/// Everybody who has ever taken part, the dead too.
struct Fleet {
    engine: Embedded,
    timing: Timing,
    all: Vec<(Faults, Elector)>,
}

impl Fleet {
    async fn new(timing: Timing) -> Self {
        let mut fleet = Self { engine: Embedded::in_memory().unwrap(), timing, all: Vec::new() };
        for _ in 0..CANDIDATES {
            fleet.start().await;
        }
        // Until its followers have found the leader's schedule.
        tokio::time::sleep(timing.heartbeat() * 20).await;
        fleet
    }

    async fn start(&mut self) {
        let (faults, seed) = (Faults::none(), self.all.len() as u64 + 1);
        faults.set(|_| slow(5, 5));
        let locks = builder(&self.engine, &faults, seed).timing(self.timing).build().await.unwrap();
        let elector = Elector::builder(&locks, "e").build().unwrap();
        drop(elector.start(Idle).unwrap());
        if seed == 1 {
            within(5_000, elector.until_leading()).await.unwrap();
        }
        self.all.push((faults, elector));
    }

    fn leader(&self) -> &(Faults, Elector) {
        self.all.iter().find(|(_, elector)| elector.status().borrow().is_leader()).expect("nobody leads")
    }

    async fn hand_over(&self) {
        self.leader().1.hand_over().await;
    }

    /// Dead to everybody else from here on, and replaced at once.
    async fn crash(&mut self) {
        let (faults, elector) = self.leader();
        faults.set(|_| Fault::LoseRequest);
        let elector = elector.clone();
        drop(tokio::spawn(async move { elector.shutdown().await }));
        self.start().await;
    }

    /// The requests that have reached the store so far.
    fn requests(&self) -> Usage {
        let mut usage = Usage::default();
        for (call, fault) in self.all.iter().flat_map(|(faults, _)| faults.calls()) {
            match call.operation.as_str() {
                _ if fault == Fault::LoseRequest => {}
                "UpdateItem" => usage.write_requests += 1.0,
                "GetItem" => usage.read_requests += 1.0,
                // A new client checks the table, which is free.
                other => assert!(other.starts_with("Describe") || other == "CreateTable", "{other}"),
            }
        }
        usage
    }
}

/// `what` happens `CHANGES` times, anywhere between two heartbeats; what that was, and what was promised.
async fn compare(timing: Timing, what: &str, promised: impl Fn(Workload, u32) -> Workload) {
    let mut fleet = Fleet::new(timing).await;
    let (before, start) = (fleet.requests(), Instant::now());
    for _ in 0..CHANGES {
        tokio::time::sleep(timing.heartbeat().mul_f64(fastrand::f64())).await;
        match what {
            "hand-overs" => fleet.hand_over().await,
            "crashes" => fleet.crash().await,
            _ => {}
        }
        tokio::time::sleep(timing.lease() * APART).await;
    }
    let (after, time) = (fleet.requests(), start.elapsed());
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousands")]
    let a_month = (f64::from(CHANGES) * MONTH / time.as_secs_f64()).round() as u32;
    let model = promised(Workload::new(timing, CANDIDATES), a_month).over(time);
    for (kind, counted, promised) in [
        ("writes", after.write_requests - before.write_requests, model.write_requests),
        ("reads", after.read_requests - before.read_requests, model.read_requests),
    ] {
        let off = (promised / counted - 1.0) * 100.0;
        println!("{what}, lease {:?}, {time:?}: {counted} {kind}, {promised:.1} promised: {off:+.1} %", timing.lease());
        // Leadership never moves as often as here.
        let allowed = if what == "nothing" { 2.0 } else { 10.0 };
        assert!(off.abs() <= allowed, "{what}: {promised} {kind} were promised, and it was {counted}: {timing:?}");
    }
}

fn each(timing: Timing) {
    simulated(1, async |_| compare(timing, "nothing", |workload, _| workload).await);
    simulated(2, async |_| compare(timing, "hand-overs", Workload::hand_overs).await);
    simulated(3, async |_| compare(timing, "crashes", Workload::crashes).await);
}

#[test]
fn economy_costs_what_is_promised() {
    each(Timing::economy());
}

#[test]
fn default_costs_what_is_promised() {
    each(Timing::default());
}

#[test]
fn fast_costs_what_is_promised() {
    each(Timing::fast());
}

#[test]
fn aggressive_costs_what_is_promised() {
    each(Timing::aggressive());
}

/// As DynamoDB counts it: the bytes of names and values.
#[tokio::test(start_paused = true)]
async fn a_record_without_data_takes_one_unit_by_far() {
    let fleet = Fleet::new(Timing::default()).await;
    let record = raw(&fleet.engine, "e").await.unwrap();
    let size = |value: &AttributeValue| match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.len(),
        other => panic!("{other:?}"),
    };
    let bytes: usize = record.iter().map(|(name, value)| name.len() + size(value)).sum();
    println!("{bytes} bytes");
    assert!((150..=400).contains(&bytes), "{bytes}");
}

crate::privileges::suite! {
    economy_costs_what_is_promised,
    default_costs_what_is_promised,
    fast_costs_what_is_promised,
    aggressive_costs_what_is_promised,
    a_record_without_data_takes_one_unit_by_far,
}
