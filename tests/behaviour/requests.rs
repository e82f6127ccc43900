//! What it costs: requests and capacity units, as the wire format promises.

use dynamo_elector::{Embedded, Faults};

use crate::{client, operations};

#[tokio::test(start_paused = true)]
async fn requests_stay_within_their_budget() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let start = faults.calls().len();
    let lock = locks.acquire("job").await.unwrap();
    assert_eq!(operations(&faults, start), ["GetItem", "UpdateItem"], "first contact: one read, one write");
    let eventual = faults.calls()[start].0.body.contains("\"ConsistentRead\":false");
    assert!(eventual, "half a unit");
    let start = faults.calls().len();
    lock.heartbeat().await.unwrap();
    assert_eq!(operations(&faults, start), ["UpdateItem"], "heartbeat");
    let start = faults.calls().len();
    lock.release().await;
    assert_eq!(operations(&faults, start), ["UpdateItem"], "release");
    let start = faults.calls().len();
    let again = locks.acquire("job").await.unwrap();
    assert_eq!(operations(&faults, start), ["UpdateItem"], "observed released: the write alone");
    assert_eq!(again.fencing_token(), Some(2));
}
