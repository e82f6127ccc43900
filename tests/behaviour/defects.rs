//! Mistakes that other lock clients make, each with the test that shows it is not made here. The table
//! is docs/upstream-defects.md.

mod acquiring;
mod closing;
mod handles;
mod renewing;
mod writes;

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{Call, Embedded, Fault, Faults, Lock};
use tokio::time::Instant;

/// Of the default timing, spelled out so that a changed default is noticed.
const LEASE: Duration = Duration::from_secs(10);
const VALIDITY: Duration = Duration::from_secs(8);

/// Timers are good for a millisecond, and a deadline may have to wait for one.
const TICK: Duration = Duration::from_millis(2);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// Every request vanishes, and nobody says so.
fn cut(faults: &Faults) {
    faults.set(|_| Fault::LoseRequest);
}

/// Asks about every update, counted from 1; everything else is delivered.
fn on_updates(faults: &Faults, mut fault: impl FnMut(u32) -> Fault + Send + 'static) {
    let mut updates = 0;
    faults.set(move |call| {
        updates += u32::from(call.operation == "UpdateItem");
        if call.operation == "UpdateItem" { fault(updates) } else { Fault::Deliver }
    });
}

/// Whether a request gives the lock up, by a mark or by deleting the record.
fn releases(call: &Call) -> bool {
    call.operation == "DeleteItem" || call.body.contains(":released")
}

async fn delete(engine: &Embedded, key: &str) {
    engine.client().delete_item().table_name("locks").key("key", text(key)).send().await.unwrap();
}

async fn put(engine: &Embedded, item: &[(&str, AttributeValue)]) {
    let put = engine.client().put_item().table_name("locks").item("key", text("job"));
    item.iter().fold(put, |put, (name, value)| put.item(*name, value.clone())).send().await.unwrap();
}

/// The lock lasts for its validity from `sent` on, not from when the answer came.
fn assert_counts_from(lock: &Lock, sent: Instant) {
    let (left, remaining) = (VALIDITY.saturating_sub(sent.elapsed()), lock.remaining());
    assert!(remaining <= left, "valid {:?} too long", remaining.saturating_sub(left));
    assert!(remaining + TICK >= left, "valid {:?} too short", left.saturating_sub(remaining));
}
