//! The lock layer and the elector on the real SDK and the embedded engine, in simulated time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynamo_elector::{
    Elector, Embedded, EndReason, ErrorKind, Fault, Faults, LockClient, ReleaseOutcome, Role, Timing,
};
use futures::StreamExt;

async fn client(engine: &Embedded, faults: &Faults, seed: u64) -> LockClient {
    LockClient::builder(&engine.client_with_faults(faults), "locks")
        .share_http_client()
        .create_table()
        .owner(format!("node-{seed}"))
        .simulated(seed)
        .build()
        .await
        .unwrap()
}

fn operations(faults: &Faults, from: usize) -> Vec<String> {
    faults.calls()[from..].iter().map(|(call, _)| call.operation.clone()).collect()
}

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

/// R1, R5, R9: whatever the moment at which the store starts to hang, the leader is deposed at its
/// send plus its validity, before anybody takes over.
#[tokio::test(start_paused = true)]
async fn when_the_store_hangs_the_token_fires_before_the_take_over_in_200_seeds() {
    let validity = Timing::default().validity();
    for seed in 0..200_u64 {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let (one, two) = (client(&engine, &faults, seed).await, client(&engine, &Faults::none(), seed + 1_000).await);
        let first = Elector::builder(&one, "election").build().unwrap();
        let second = Elector::builder(&two, "election").build().unwrap();
        let leadership = first.campaign().await.unwrap();
        let mut status = first.status();
        // Remembers when the last heartbeat that is answered was sent.
        let last_sent = Arc::new(Mutex::new(tokio::time::Instant::now()));
        let hang_at = tokio::time::Instant::now() + Duration::from_millis(1 + seed * 37 % 7_000);
        let sent = Arc::clone(&last_sent);
        faults.set(move |_| {
            let now = tokio::time::Instant::now();
            if now >= hang_at {
                return if seed % 2 == 0 { Fault::LoseRequest } else { Fault::LoseReply };
            }
            *sent.lock().unwrap() = now;
            Fault::Deliver
        });
        let won = tokio::spawn(async move { (second.campaign().await.unwrap(), tokio::time::Instant::now()) });
        leadership.cancelled().await;
        let fired = tokio::time::Instant::now();
        assert!(!leadership.is_valid() && !status.borrow_and_update().is_leader(), "seed {seed}");
        assert_eq!(leadership.end_reason(), Some(EndReason::Deadline), "seed {seed}");
        let deadline = *last_sent.lock().unwrap() + validity;
        let late = fired.duration_since(deadline);
        assert!(late <= Duration::from_millis(2), "seed {seed}: {late:?} after the deadline");
        assert!(fired + Duration::from_millis(2) >= deadline, "seed {seed}: too early");
        let (next, taken) = won.await.unwrap();
        assert!(taken >= fired + Timing::default().guard(), "seed {seed}: taken over too early");
        assert_eq!(next.fencing_token(), 2, "seed {seed}");
    }
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

#[tokio::test(start_paused = true)]
async fn run_leads_again_and_again_and_survives_failing_work() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let elector = Elector::builder(&locks, "election").build().unwrap();
    let mut transitions = elector.transitions();
    let terms = Arc::new(AtomicU32::new(0));
    let (counted, stopper) = (Arc::clone(&terms), elector.clone());
    elector
        .run(async move |leadership| {
            assert!(leadership.is_valid());
            match counted.fetch_add(1, Ordering::SeqCst) {
                0 => Ok(()),
                1 => Err("broken work".into()),
                2 => panic!("work that panics"),
                _ => {
                    let stopper = stopper.clone();
                    tokio::spawn(async move { stopper.shutdown().await });
                    leadership.cancelled().await;
                    assert!(leadership.is_valid(), "valid for last writes while it drains");
                    Ok(())
                }
            }
        })
        .await
        .unwrap();
    assert_eq!(terms.load(Ordering::SeqCst), 4);
    let reasons: Vec<EndReason> = transitions
        .by_ref()
        .take(64)
        .filter_map(async |transition| match transition {
            dynamo_elector::Transition::Demoted { reason, .. } => Some(reason),
            _ => None,
        })
        .take(4)
        .collect()
        .await;
    assert_eq!(reasons, [EndReason::WorkEnded, EndReason::WorkFailed, EndReason::WorkFailed, EndReason::ShutDown]);
    elector.shutdown().await;
    assert_eq!(elector.status().borrow().role, Role::Stopped);
}

#[tokio::test(start_paused = true)]
async fn no_release_is_written_while_work_or_a_view_still_runs() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let elector = Elector::builder(&locks, "election").build().unwrap();
    let leadership = elector.campaign().await.unwrap();
    let view = leadership.view();
    let released =
        || faults.calls().iter().any(|(call, _)| call.body.contains("isReleased") && call.body.contains(":released"));
    drop(leadership);
    view.cancelled().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(view.is_valid(), "renewals go on");
    assert!(!released());
    drop(view);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(released());
}

#[tokio::test(start_paused = true)]
async fn an_elector_outlives_every_error_of_the_store() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let elector = Elector::builder(&locks, "election").build().unwrap();
    for (fault, kind) in [
        (Fault::AccessDenied, ErrorKind::AccessDenied),
        (Fault::Throttle, ErrorKind::Throttled),
        (Fault::ServerError, ErrorKind::Unavailable),
        (Fault::ConnectError, ErrorKind::Unavailable),
        (Fault::LoseRequest, ErrorKind::Unavailable),
    ] {
        let injected = fault.clone();
        faults.set(move |_| injected.clone());
        let before = faults.calls().len();
        let campaign = elector.campaign();
        assert!(tokio::time::timeout(Duration::from_secs(60), campaign).await.is_err(), "{fault:?}");
        let status = elector.status().borrow().clone();
        assert_eq!(status.trouble.map(|trouble| trouble.kind), Some(kind), "{fault:?}");
        let calls = faults.calls().len() - before;
        assert!(calls < 300, "{fault:?} spins: {calls} calls in a minute");
    }
    faults.set(|_| Fault::Deliver);
    assert!(tokio::time::timeout(Duration::from_secs(20), elector.campaign()).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn bad_input_is_refused_with_a_reason() {
    let engine = Embedded::in_memory().unwrap();
    let sdk = engine.client();
    let kind = |result: Result<LockClient, dynamo_elector::Error>| result.unwrap_err().kind();
    assert_eq!(
        kind(LockClient::builder(&sdk, "locks").build().await),
        ErrorKind::InvalidInput,
        "http_client not shared"
    );
    let shared = || LockClient::builder(&sdk, "locks").share_http_client();
    assert_eq!(kind(shared().build().await), ErrorKind::TableMissing);
    assert_eq!(kind(shared().owner("a\nb").create_table().build().await), ErrorKind::InvalidInput);
    let locks = shared().create_table().build().await.unwrap();
    assert_eq!(kind(shared().partition_key_name("id").build().await), ErrorKind::TableUnfit);
    for key in [String::new(), "k".repeat(2_043), "a\tb".into()] {
        assert_eq!(locks.acquire(key).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let deleting = shared().delete_on_release().build().await.unwrap();
    assert_eq!(Elector::builder(&deleting, "e").build().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(Timing::builder().lease(Duration::ZERO).build().is_err());
    assert!(Timing::builder().heartbeat(Duration::from_secs(11)).build().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_malformed_record_is_reported_and_never_taken_over() {
    use aws_sdk_dynamodb::types::AttributeValue;
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let text = |text: &str| AttributeValue::S(text.into());
    let put = engine.client().put_item().table_name("locks").item("key", text("job")).item("precious", text("data"));
    put.send().await.unwrap();
    assert_eq!(locks.acquire("job").await.unwrap_err().kind(), ErrorKind::MalformedRecord);
    let elector = Elector::builder(&locks, "job").build().unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(120), elector.campaign()).await.is_err());
    let trouble = elector.status().borrow().trouble.clone().unwrap();
    assert_eq!(trouble.kind, ErrorKind::MalformedRecord);
    let item = engine.client().get_item().table_name("locks").key("key", text("job")).send().await.unwrap();
    assert_eq!(item.item().unwrap().len(), 2, "untouched");
}
