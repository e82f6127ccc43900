//! Shutting a client down: all at once, past every failure, and again.

use std::collections::BTreeSet;
use std::future::IntoFuture;

use dynamo_elector::{Call, Elector, Embedded, EndReason, ErrorKind, Fault, Faults, Lock, LockClient, ReleaseOutcome};
use futures::StreamExt;
use tokio::time::Instant;

use crate::client;
use crate::support::{body, key_of, kind, millis, raw, since, sleep, slow, within};

/// Whether a request marks a record released.
fn is_release(call: &Call) -> bool {
    let update = body(call)["UpdateExpression"].as_str().unwrap_or_default().to_owned();
    call.operation == "UpdateItem" && update.contains("#released = :released")
}

async fn hold_all(locks: &LockClient, count: usize) -> Vec<Lock> {
    let keys = futures::stream::iter((0..count).map(|index| locks.acquire(format!("job-{index:03}")).into_future()));
    keys.buffer_unordered(count).map(Result::unwrap).collect().await
}

async fn is_released(engine: &Embedded, key: &str) -> bool {
    raw(engine, key).await.unwrap().contains_key("isReleased")
}

/// Of a hundred, ten are refused in one of two ways and ten hang; the eighty others are not kept waiting for them.
#[tokio::test(start_paused = true)]
async fn a_shutdown_goes_past_failing_and_hanging_releases_and_the_next_one_tries_them_again() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let held = hold_all(&locks, 100).await;
    sleep(5_000).await;
    faults.set(|call| match key_of(call).as_str() {
        _ if !is_release(call) => Fault::Deliver,
        key if key.ends_with('3') => Fault::ServerError,
        "job-007" | "job-017" | "job-027" | "job-037" | "job-047" => Fault::AccessDenied,
        key if key.ends_with('7') => Fault::LoseRequest,
        _ => slow(10, 10),
    });
    let (client, started) = (locks.clone(), Instant::now());
    let shutdown = tokio::spawn(async move { client.shutdown().await });
    sleep(100).await;
    let stuck = |key: &str| key.ends_with('3') || key.ends_with('7');
    for lock in &held {
        let key = lock.key().partition();
        assert!(!lock.is_valid() && lock.lost().is_cancelled(), "{key}: nothing of it is believed any more");
        assert_eq!(lock.end_reason(), Some(EndReason::ShutDown));
        assert_eq!(is_released(&engine, key).await, !stuck(key), "{key}: the others are released at once");
    }
    let report = within(30_000, shutdown).await.unwrap();
    // A release is tried until the lease is over: ten seconds after the last heartbeat; and a last try has its bound.
    assert!(started.elapsed() <= millis(12_100), "{:?}", started.elapsed());
    assert_eq!(report.locks.len(), 100);
    let unreleased: BTreeSet<String> = report.unreleased().map(|key| key.partition().to_owned()).collect();
    let expected = (0..100).map(|index| format!("job-{index:03}")).filter(|key| stuck(key)).collect();
    assert_eq!(unreleased, expected);
    let unknown = report.locks.iter().filter(|(_, outcome)| *outcome == ReleaseOutcome::Unknown).count();
    assert_eq!((unreleased.len(), unknown), (20, 20));

    let again = within(15_000, locks.shutdown()).await;
    assert_eq!(again.unreleased().count(), 20, "while it fails it goes on failing, and says so again");
    faults.set(|_| Fault::Deliver);
    let from = faults.calls().len();
    let after = within(1_000, locks.shutdown()).await;
    assert_eq!((after.locks.len(), after.unreleased().count()), (100, 0), "{after:?}");
    assert_eq!(since(&faults, from).len(), 20, "one request for each that was left");
    for key in unreleased {
        assert!(is_released(&engine, &key).await, "{key}: really");
    }
    let from = faults.calls().len();
    assert_eq!(within(1, locks.shutdown()).await.unreleased().count(), 0);
    assert_eq!(faults.calls().len(), from, "nothing is left to be done");
}

/// What somebody else took over meanwhile is not touched by the second shutdown.
#[tokio::test(start_paused = true)]
async fn a_release_tried_again_after_a_take_over_harms_nobody() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
    let _lock = one.acquire("job").await.unwrap();
    faults.set(|_| Fault::LoseRequest);
    assert_eq!(within(15_000, one.shutdown()).await.unreleased().count(), 1);
    let next = within(15_000, two.acquire("job")).await.unwrap();
    faults.set(|_| Fault::Deliver);
    let report = within(3_000, one.shutdown()).await;
    assert_eq!(report.locks[0].1, ReleaseOutcome::AlreadyGone);
    assert_eq!(report.unreleased().count(), 0, "nobody has to wait for it");
    sleep(20_000).await;
    assert!(next.is_valid());
}

/// Work gets its time, and the lock stays its own until it has ended.
#[tokio::test(start_paused = true)]
async fn what_winds_down_is_renewed_until_its_own_release() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let elector = Elector::builder(&locks, "election").drain_timeout(millis(30_000)).build().unwrap();
    let leadership = elector.campaign().await.unwrap();
    let quick = locks.acquire("quick").await.unwrap();
    sleep(5_000).await;
    let (client, started) = (locks.clone(), Instant::now());
    let shutdown = tokio::spawn(async move { client.shutdown().await });
    sleep(100).await;
    assert!(is_released(&engine, "quick").await, "it does not wait for the others");
    assert_eq!(quick.end_reason(), Some(EndReason::ShutDown));
    let from = faults.calls().len();
    for _ in 0..200 {
        sleep(100).await;
        assert!(leadership.is_valid() && !shutdown.is_finished(), "{:?}", started.elapsed());
        assert!(leadership.remaining() > millis(5_000), "renewals go on: {:?}", leadership.remaining());
    }
    assert!(since(&faults, from).iter().all(|call| key_of(call) == "election" && !is_release(call)));
    assert!(since(&faults, from).len() >= 8);
    drop(leadership);
    let report = within(100, shutdown).await.unwrap();
    assert!(report.locks.iter().all(|(_, outcome)| *outcome == ReleaseOutcome::Released), "{report:?}");
    assert!(is_released(&engine, "election").await);
}

/// The guard itself ends with the token: its work is dropped, and only then the lock is released.
#[tokio::test(start_paused = true)]
async fn a_guard_drops_its_work_before_the_release_is_sent() {
    struct Work(Faults);
    impl Drop for Work {
        fn drop(&mut self) {
            assert!(!self.0.calls().iter().any(|(call, _)| is_release(call)), "I5: no release while work runs");
        }
    }
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let lock = locks.acquire("job").await.unwrap();
    let work = Work(faults.clone());
    let guarded = tokio::spawn(async move {
        let ended = lock
            .guard(async move {
                let _work = work;
                std::future::pending::<()>().await;
            })
            .await;
        (kind(ended), lock.end_reason())
    });
    sleep(1_000).await;
    let report = within(1_000, locks.shutdown()).await;
    assert_eq!(report.locks[0].1, ReleaseOutcome::Released);
    assert_eq!(guarded.await.unwrap(), (ErrorKind::NotHeld, Some(EndReason::ShutDown)));
}

/// Upstream closes behind its running acquire, and lets the heartbeats of all held locks stop meanwhile.
#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_behind_a_pending_acquisition() {
    for hangs in [false, true] {
        let engine = Embedded::in_memory().unwrap();
        let (faults, others) = (Faults::none(), Faults::none());
        let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &others, 2).await);
        let foreign = two.acquire("busy").await.unwrap();
        let lock = one.acquire("mine").await.unwrap();
        let waiting = one.clone();
        let pending = tokio::spawn(async move { waiting.acquire("busy").await });
        sleep(500).await;
        if hangs {
            faults.set(|call| if key_of(call) == "busy" { Fault::LoseRequest } else { Fault::Deliver });
            sleep(1_000).await;
        }
        let started = Instant::now();
        let report = within(100, one.shutdown()).await;
        assert!(started.elapsed() <= millis(1), "hangs: {hangs}, {:?}", started.elapsed());
        assert_eq!(report.locks, [(lock.key().clone(), ReleaseOutcome::Released)], "hangs: {hangs}");
        assert_eq!(kind(within(1, pending).await.unwrap()), ErrorKind::Closed);
        assert!(foreign.is_valid());
    }
}

/// A claim on its way may be applied: it is taken back, and whoever waits for the lock hears at once.
#[tokio::test(start_paused = true)]
async fn a_claim_under_way_at_a_shutdown_is_taken_back() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    faults.set(
        |call| if call.operation == "UpdateItem" && !is_release(call) { Fault::LoseReply } else { Fault::Deliver },
    );
    let waiting = locks.clone();
    let pending = tokio::spawn(async move { waiting.acquire("job").await });
    sleep(100).await;
    assert!(!is_released(&engine, "job").await, "applied, not answered");
    let client = locks.clone();
    let shutdown = tokio::spawn(async move { client.shutdown().await });
    assert_eq!(kind(within(1, pending).await.unwrap()), ErrorKind::Closed);
    // What is on its way is given up after its bound, and only then the release is sent.
    let report = within(2_000, shutdown).await.unwrap();
    assert!(report.locks.is_empty(), "nothing was held: {report:?}");
    assert!(is_released(&engine, "job").await);
}

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_nothing_is_sent_any_more() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let held = hold_all(&locks, 10).await;
    within(1_000, locks.shutdown()).await;
    let from = faults.calls().len();
    drop(held);
    sleep(120_000).await;
    assert_eq!(faults.calls().len(), from);
    assert!(locks.held().is_empty());
    assert_eq!(kind(locks.try_acquire("job").await), ErrorKind::Closed);
    assert!(locks.get("job-001").await.unwrap().unwrap().is_released(), "reading is still possible");
}

crate::privileges::suite! {
    a_shutdown_goes_past_failing_and_hanging_releases_and_the_next_one_tries_them_again,
    a_release_tried_again_after_a_take_over_harms_nobody,
    what_winds_down_is_renewed_until_its_own_release,
    a_guard_drops_its_work_before_the_release_is_sent,
    a_shutdown_does_not_wait_behind_a_pending_acquisition,
    a_claim_under_way_at_a_shutdown_is_taken_back,
    after_a_shutdown_nothing_is_sent_any_more,
}
