//! Locks: acquire, hold, hand over, take over.

use std::time::Duration;

use dynamo_elector::{Embedded, EndReason, Fault, Faults, ReleaseOutcome};

use crate::client;

#[tokio::test(start_paused = true)]
async fn a_lock_is_held_by_one_and_handed_over_on_release() {
    let engine = Embedded::in_memory().unwrap();
    let (one, two) = (client(&engine, &Faults::none(), 1).await, client(&engine, &Faults::none(), 2).await);
    let lock = one.acquire("job").await.unwrap();
    assert!(lock.is_valid());
    assert_eq!(lock.fencing_token(), Some(1));
    assert!(two.try_acquire("job").await.unwrap().is_none());
    let record = two.get("job").await.unwrap().unwrap();
    assert_eq!((record.owner(), record.fencing_token(), record.is_released()), ("node-1", Some(1), false));
    assert_eq!(lock.release().await, ReleaseOutcome::Released);
    let next = two.acquire("job").wait_up_to(Duration::from_secs(3)).await.unwrap();
    assert_eq!(next.fencing_token(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_dead_holder_is_taken_over_one_lease_after_its_last_beat_was_seen() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
    let lock = one.acquire("job").await.unwrap();
    faults.set(|_| Fault::LoseRequest);
    let cut = tokio::time::Instant::now();
    let next = two.acquire("job").await.unwrap();
    let waited = cut.elapsed();
    assert!(!lock.is_valid() && lock.lost().is_cancelled());
    assert_eq!(lock.end_reason(), Some(EndReason::Deadline));
    assert_eq!(next.fencing_token(), Some(2));
    assert!(waited >= Duration::from_secs(10) && waited < Duration::from_millis(11_500), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn an_applied_heartbeat_whose_reply_is_lost_costs_nothing() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 7).await;
    let lock = locks.acquire("job").await.unwrap();
    let mut count = 0;
    faults.set(move |call| {
        count += 1;
        if call.operation == "UpdateItem" && count % 3 == 0 { Fault::LoseReply } else { Fault::Deliver }
    });
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(lock.is_valid());
    }
}
