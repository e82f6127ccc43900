//! What it costs: requests and capacity units, as the wire format promises.

use std::time::Duration;

use dynamo_elector::{Elector, Embedded, Fault, Faults, LockClient};
use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::{builder, client, operations};

/// Requests at the connector and capacity units in the metrics, since it was last asked.
struct Bill {
    faults: Faults,
    from: usize,
    snapshotter: Snapshotter,
}

impl Bill {
    fn new(faults: &Faults, recorder: &DebuggingRecorder) -> Self {
        let bill = Self { faults: faults.clone(), from: faults.calls().len(), snapshotter: recorder.snapshotter() };
        bill.units();
        bill
    }

    /// A snapshot of this recorder starts its sums anew.
    fn units(&self) -> f64 {
        let snapshot = self.snapshotter.snapshot().into_vec();
        let units = snapshot.into_iter().filter(|(key, ..)| {
            key.kind() == MetricKind::Gauge && key.key().name() == "leader_election_capacity_units_total"
        });
        units.map(|(_, _, _, value)| if let DebugValue::Gauge(units) = value { units.0 } else { 0.0 }).sum()
    }

    async fn next(&mut self) -> (Vec<String>, f64) {
        // The herald records what the keeper has queued.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let operations = operations(&self.faults, self.from);
        self.from += operations.len();
        (operations, self.units())
    }
}

fn cost(operations: &[&str], units: f64) -> (Vec<String>, f64) {
    (operations.iter().map(|&operation| operation.to_owned()).collect(), units)
}

#[tokio::test(start_paused = true)]
async fn requests_and_capacity_stay_within_their_budget() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let mut bill = Bill::new(&faults, &recorder);

    let lock = locks.acquire("job").await.unwrap();
    assert_eq!(
        bill.next().await,
        cost(&["GetItem", "UpdateItem"], 1.5),
        "first contact, absent: half a read, one write"
    );
    lock.heartbeat().await.unwrap();
    assert_eq!(bill.next().await, cost(&["UpdateItem"], 1.0), "heartbeat");
    lock.release().await.unwrap();
    assert_eq!(bill.next().await, cost(&["UpdateItem"], 1.0), "release");
    let lock = locks.acquire("job").await.unwrap();
    assert_eq!(bill.next().await, cost(&["UpdateItem"], 1.0), "observed released: the write alone");
    lock.release().await.unwrap();
    bill.next().await;

    let newcomer = client(&engine, &faults, 2).await;
    bill.next().await;
    let lock = newcomer.acquire("job").await.unwrap();
    assert_eq!(bill.next().await, cost(&["GetItem", "UpdateItem"], 1.5), "first contact with a kept record");

    // It was released when this client saw it last: the claim itself shows that it is not any more.
    assert!(locks.try_acquire("job").await.unwrap().is_none());
    assert_eq!(bill.next().await, cost(&["UpdateItem"], 1.0), "a refused claim");
    assert!(locks.try_acquire("job").await.unwrap().is_none());
    assert_eq!(bill.next().await, cost(&["GetItem"], 0.5), "a follower's look: an eventually consistent read");
    let follower = faults.calls().last().unwrap().0.body.clone();
    assert!(follower.contains("\"ConsistentRead\":false"), "{follower}");
    drop(lock);
}

#[tokio::test(start_paused = true)]
async fn an_observed_expired_record_is_claimed_by_one_request() {
    let engine = Embedded::in_memory().unwrap();
    let (dead, faults) = (Faults::none(), Faults::none());
    let (one, two) = (client(&engine, &dead, 1).await, client(&engine, &faults, 2).await);
    let _lock = one.acquire("job").await.unwrap();
    dead.set(|_| Fault::LoseRequest);
    assert!(two.try_acquire("job").await.unwrap().is_none());
    tokio::time::sleep(Duration::from_secs(11)).await;
    let from = faults.calls().len();
    assert!(two.try_acquire("job").await.unwrap().is_some());
    assert_eq!(operations(&faults, from), ["UpdateItem"], "observed, unchanged for its lease: one write");
}

#[tokio::test(start_paused = true)]
async fn where_records_are_deleted_first_contact_is_one_request() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let deleting =
        async |seed| -> LockClient { builder(&engine, &faults, seed).delete_on_release().build().await.unwrap() };
    let locks = deleting(1).await;
    let from = faults.calls().len();
    let lock = locks.acquire("job").await.unwrap();
    assert_eq!(
        lock.fencing_token().unwrap_err().kind(),
        dynamo_elector::ErrorKind::NoFencing,
        "a deleted record forgets its number"
    );
    assert_eq!(operations(&faults, from), ["UpdateItem"], "the creating write goes first");
    let from = faults.calls().len();
    lock.release().await.unwrap();
    assert_eq!(operations(&faults, from), ["DeleteItem"]);
    assert!(locks.get("job").await.unwrap().is_none(), "and the record is gone");
    let from = faults.calls().len();
    let again = locks.acquire("job").await.unwrap();
    assert_eq!(operations(&faults, from), ["UpdateItem"], "observed absent: one write");
    // Whoever finds it held learns so from the refused write itself.
    let other = deleting(2).await;
    let from = faults.calls().len();
    assert!(other.try_acquire("job").await.unwrap().is_none());
    assert_eq!(operations(&faults, from), ["UpdateItem"]);
    drop(again);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_adds_nothing_beyond_the_retry_itself() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let lose_first = |faults: &Faults| {
        let mut first = true;
        faults.set(move |call| {
            let lost = call.operation != "GetItem" && std::mem::take(&mut first);
            if lost { Fault::LoseReply } else { Fault::Deliver }
        });
    };
    lose_first(&faults);
    let from = faults.calls().len();
    let lock = locks.acquire("job").await.unwrap();
    assert_eq!(operations(&faults, from), ["GetItem", "UpdateItem", "UpdateItem"], "acquire");
    lose_first(&faults);
    let from = faults.calls().len();
    lock.heartbeat().await.unwrap();
    assert_eq!(operations(&faults, from), ["UpdateItem", "UpdateItem"], "heartbeat");
    lose_first(&faults);
    let from = faults.calls().len();
    lock.release().await.unwrap();
    assert_eq!(operations(&faults, from), ["UpdateItem", "UpdateItem"], "release");
    let bodies: Vec<String> = faults.calls()[from..].iter().map(|(call, _)| call.body.clone()).collect();
    let version = |body: &str| {
        serde_json::from_str::<serde_json::Value>(body).unwrap()["ExpressionAttributeValues"][":version"].clone()
    };
    assert_eq!(version(&bodies[0]), version(&bodies[1]), "the very same write, not a new one");
}

/// R13, and what a leader and a follower cost in an hour: one write a heartbeat; half a unit for each poll of whoever waits for a lock,
/// and for each look of whoever follows an election.
#[tokio::test(start_paused = true)]
async fn an_hour_costs_what_the_readme_says() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let engine = Embedded::in_memory().unwrap();
    let (leads, follows) = (Faults::none(), Faults::none());
    let (one, two) = (client(&engine, &leads, 1).await, client(&engine, &follows, 2).await);
    let lock = one.acquire("job").await.unwrap();
    let waiting = tokio::spawn(async move { two.acquire("job").await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut bill = Bill::new(&leads, &recorder);
    let polls = follows.calls().len();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let (beats, units) = bill.next().await;
    let polls = operations(&follows, polls);
    assert!(
        beats.iter().all(|op| op == "UpdateItem") && polls.iter().all(|op| op == "GetItem"),
        "followers never write"
    );
    assert!((1_438..=1_441).contains(&beats.len()), "{} heartbeats", beats.len());
    assert!((3_590..=3_601).contains(&polls.len()), "{} polls", polls.len());
    assert!((units - (1_440.0 + 1_800.0)).abs() < 8.0, "{units} units");
    assert!(lock.is_valid() && !waiting.is_finished());
    waiting.abort();
    lock.release().await.unwrap();

    let (leads, follows) = (Faults::none(), Faults::none());
    let (one, two) = (client(&engine, &leads, 3).await, client(&engine, &follows, 4).await);
    let electors = [one, two].map(|locks| Elector::builder(&locks, "job").build().unwrap());
    let leadership = electors[0].campaign().await.unwrap();
    let follower = electors[1].clone();
    let waiting = tokio::spawn(async move { follower.campaign().await });
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut bill = Bill::new(&follows, &recorder);
    let beats = leads.calls().len();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let (looks, units) = bill.next().await;
    let beats = leads.calls().len() - beats;
    assert!(looks.iter().all(|op| op == "GetItem"), "followers never write");
    // Half of the polls, and a quarter of what dynamolock's followers cost: a strong read a second.
    assert!((1_440..=1_800).contains(&looks.len()), "{} looks", looks.len());
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let reads = units - beats as f64;
    assert!((720.0..=900.0).contains(&reads), "{reads} units");
    println!("{} looks, {beats} heartbeats, {reads} read units", looks.len());
    assert!(leadership.is_valid() && !waiting.is_finished());
    waiting.abort();
}

crate::privileges::suite! {
    requests_and_capacity_stay_within_their_budget,
    an_observed_expired_record_is_claimed_by_one_request,
    where_records_are_deleted_first_contact_is_one_request,
    a_lost_reply_adds_nothing_beyond_the_retry_itself,
    an_hour_costs_what_the_readme_says,
}
