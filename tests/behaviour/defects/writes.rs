//! Writes whose fate is unknown, and writes that must not happen.

use dynamo_elector::{Embedded, EndReason, ErrorKind, Fault, Faults, LockClient, ReleaseOutcome};
use tokio::time::{Instant, sleep, timeout};

use super::{LEASE, assert_counts_from, delete, millis, on_updates, releases, seconds};
use crate::{builder, client, operations};

/// Go: a heartbeat that was applied although it failed is sent again with the same version, and the holder
/// counts from the second send while followers have counted from the first: two holders.
#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_was_applied_unseen_counts_from_its_first_send() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
    let lock = one.acquire("job").await.unwrap();
    // Sent again by the SDK.
    on_updates(&faults, |update| if update == 1 { Fault::LoseReply } else { Fault::Deliver });
    let sent = Instant::now();
    lock.heartbeat().await.unwrap();
    assert!(sent.elapsed() >= millis(1_000), "it was sent twice");
    assert_counts_from(&lock, sent);

    // Found out by a read after several writes without an answer; then the connection is gone for good.
    let waiting = tokio::spawn(async move { two.acquire("job").await.unwrap() });
    sleep(millis(200)).await;
    let (mut updates, mut reads) = (0, 0);
    faults.set(move |call| {
        let count = if call.operation == "UpdateItem" { &mut updates } else { &mut reads };
        *count += 1;
        match (call.operation.as_str(), *count) {
            ("UpdateItem", 1) => Fault::LoseReply,
            ("GetItem", 1) => Fault::Deliver,
            _ => Fault::LoseRequest,
        }
    });
    let (from, sent) = (faults.calls().len(), Instant::now());
    assert_eq!(lock.heartbeat().await.unwrap_err().kind(), ErrorKind::Unavailable);
    while !operations(&faults, from).contains(&"GetItem".into()) {
        assert!(lock.is_valid(), "no read ever asked what became of the writes");
        sleep(millis(10)).await;
    }
    sleep(millis(5)).await;
    assert_counts_from(&lock, sent);
    let next = waiting.await.unwrap();
    assert!(!lock.is_valid() && lock.lost().is_cancelled() && next.is_valid());
    assert!(sent.elapsed() >= LEASE && sent.elapsed() < LEASE + millis(1_100), "{:?}", sent.elapsed());
}

/// Go, Java: a heartbeat that was applied although it failed makes the next one fail on its own version: the
/// lock is lost, and its record blocks everybody for a lease.
#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_was_applied_unseen_is_no_loss() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
    let lock = one.acquire("job").await.unwrap();
    for round in 0..50 {
        // The whole operation, with all that the SDK sends again.
        faults.set(|_| Fault::LoseReply);
        assert!(lock.heartbeat().await.is_err());
        faults.set(|_| Fault::Deliver);
        lock.heartbeat().await.unwrap();
        assert!(lock.is_valid() && !lock.lost().is_cancelled(), "round {round}: {:?}", lock.end_reason());
    }
    faults.set(|_| Fault::LoseReply);
    assert!(lock.heartbeat().await.is_err());
    faults.set(|_| Fault::Deliver);
    assert_eq!(lock.release().await.unwrap(), ReleaseOutcome::Released);
    assert!(two.try_acquire("job").await.unwrap().is_some(), "nobody waits for a lease");
}

/// Go: the write that acquires is applied although it fails: the client finds the lock held, by itself,
/// and waits for a lease.
#[tokio::test(start_paused = true)]
async fn a_claim_that_was_applied_unseen_does_not_lock_its_own_client_out() {
    // One attempt, and a whole operation.
    for lost in [1, 2] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = client(&engine, &faults, 1).await;
        on_updates(&faults, move |update| if update <= lost { Fault::LoseReply } else { Fault::Deliver });
        let start = Instant::now();
        let lock = locks.acquire("job").await.unwrap();
        assert!(start.elapsed() < millis(2_500), "{lost} replies lost: {:?}", start.elapsed());
        assert!(lock.is_valid());
        assert_eq!(lock.fencing_token().unwrap(), 1, "one acquisition");
    }
}

/// Go, Java: after a heartbeat that was applied although it failed, the release names a version that the
/// record has no more: it fails, and the record stays held.
#[tokio::test(start_paused = true)]
async fn a_release_after_a_heartbeat_that_was_applied_unseen_succeeds() {
    // While the heartbeat is on its way, and after it was given up.
    for wait in [500, 2_010] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
        let lock = one.acquire("job").await.unwrap();
        faults.set(|call| if releases(call) { Fault::Deliver } else { Fault::LoseReply });
        let _ = timeout(millis(wait), lock.heartbeat().into_future()).await;
        assert_eq!(lock.release().await.unwrap(), ReleaseOutcome::Released, "after {wait} ms");
        assert!(two.try_acquire("job").await.unwrap().is_some(), "after {wait} ms");
    }
}

async fn pair(engine: &Embedded, faults: &Faults, deletes: bool) -> (LockClient, LockClient) {
    let of = |faults: &Faults, seed| {
        let builder = builder(engine, faults, seed);
        if deletes { builder.delete_on_release() } else { builder }
    };
    (of(faults, 1).build().await.unwrap(), of(&Faults::none(), 2).build().await.unwrap())
}

/// Vault: unlocking deletes whatever is there. A leader that unlocks late deletes the lock of the next one, and so on.
#[tokio::test(start_paused = true)]
async fn a_release_that_arrives_late_leaves_the_next_holder_alone() {
    for deletes in [false, true] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let (one, two) = pair(&engine, &faults, deletes).await;
        let lock = one.acquire("job").await.unwrap();
        let start = Instant::now();
        // What gives it up, at its deadline, takes 15 s through the network.
        let late = Fault::Delay { request: seconds(15), reply: millis(0) };
        faults.set(move |call| if releases(call) { late.clone() } else { Fault::LoseRequest });
        let waiting = tokio::spawn(two.acquire("job").into_future());
        lock.lost().cancelled().await;
        assert!(!lock.is_valid());
        let giving_up = lock.release();
        tokio::spawn(async move { giving_up.await });
        let next = waiting.await.unwrap().unwrap();
        assert!(faults.calls().iter().any(|(call, _)| releases(call)), "it is on its way");
        assert!(start.elapsed() < seconds(15));
        while start.elapsed() < seconds(60) {
            sleep(seconds(1)).await;
            assert!(next.is_valid(), "deletes: {deletes}, after {:?}: {:?}", start.elapsed(), next.end_reason());
        }
        let record = two.get("job").await.unwrap().unwrap();
        assert!(record.owner() == "node-2" && !record.is_released());
    }
}

/// Vault: renewing writes whatever is there, and makes a record anew that stepping down had deleted.
#[tokio::test(start_paused = true)]
async fn a_renewal_creates_nothing() {
    for deletes in [false, true] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let (one, two) = pair(&engine, &faults, deletes).await;
        let lock = one.acquire("job").await.unwrap();
        delete(&engine, "job").await;
        assert_eq!(lock.heartbeat().await.unwrap_err().kind(), ErrorKind::NotHeld);
        assert_eq!(lock.end_reason(), Some(EndReason::RecordGone));
        assert!(!lock.is_valid() && lock.lost().is_cancelled());
        drop(lock);
        sleep(seconds(30)).await;
        assert!(two.get("job").await.unwrap().is_none(), "deletes: {deletes}");
        let writes = |call: &dynamo_elector::Call| matches!(call.operation.as_str(), "UpdateItem" | "DeleteItem");
        let calls = faults.calls();
        let mut bodies = calls.iter().filter(|(call, _)| writes(call)).map(|(call, _)| &call.body);
        assert!(bodies.all(|body| body.contains("\"ConditionExpression\":\"")), "each write has a condition");
    }
}
