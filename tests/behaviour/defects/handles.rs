//! What handles and their monitors tell, and what they may touch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dynamo_elector::{Embedded, EndReason, ErrorKind, Fault, Faults, ReleaseOutcome, Timing};
use tokio::time::{Instant, advance, sleep, timeout};

use super::{LEASE, TICK, VALIDITY, cut, millis, put, seconds, text};
use crate::{builder, client, operations};

/// A callback that counts.
fn counter() -> (Arc<AtomicU32>, impl FnOnce() + Send + 'static) {
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    let callback = move || {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    (count, callback)
}

fn times(count: &AtomicU32) -> u32 {
    count.load(Ordering::SeqCst)
}

/// Go: a mutex is held across the request of a heartbeat, and `IsExpired()` waits for it.
#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_hangs_keeps_nobody_from_asking() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let lock = Arc::new(client(&engine, &faults, 1).await.acquire("job").data("d").await.unwrap());
    cut(&faults);
    assert!(timeout(millis(500), lock.heartbeat().into_future()).await.is_err(), "it hangs");
    // On another thread, so that waiting for ever would be noticed.
    let (tell, told) = std::sync::mpsc::channel();
    let (asked, runtime) = (Arc::clone(&lock), tokio::runtime::Handle::current());
    std::thread::spawn(move || {
        let _clock = runtime.enter();
        let sure = asked.ensure(seconds(7)).is_ok();
        tell.send((asked.is_valid(), asked.remaining(), asked.is_at_risk(), sure, asked.data()))
    });
    let answer = told.recv_timeout(seconds(20)).expect("nobody waits for the network");
    assert_eq!(answer, (true, VALIDITY - millis(500), false, true, Some(b"d".to_vec())));
}

/// Go: the session monitor waits for the mutex of a heartbeat that hangs, and a callback that is late is skipped.
#[tokio::test(start_paused = true)]
async fn the_monitor_fires_in_time_behind_a_hanging_heartbeat_and_late_rather_than_never() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let (fired, callback) = counter();
    let start = Instant::now();
    let lock = locks.acquire("job").session_monitor(callback).safe_time(seconds(3)).await.unwrap();
    cut(&faults);
    sleep(VALIDITY - seconds(3) - millis(1)).await;
    assert_eq!(times(&fired), 0, "not before its time");
    sleep(millis(1) + TICK).await;
    assert_eq!(times(&fired), 1, "{:?} after the send", start.elapsed());
    assert!(lock.is_valid(), "there is time left to act");
    faults.set(|_| Fault::Deliver);

    // The process freezes beyond the whole lease: nothing was there to fire in time.
    let (fired, callback) = counter();
    let lock = locks.acquire("frozen").session_monitor(callback).await.unwrap();
    sleep(millis(100)).await;
    cut(&faults);
    advance(LEASE * 2).await;
    sleep(TICK).await;
    assert_eq!(times(&fired), 1, "late");
    assert!(!lock.is_valid());
    sleep(LEASE).await;
    assert_eq!(times(&fired), 1, "once");
}

/// Go: a safe time at or beyond the lease is accepted, and its monitor never fires.
#[tokio::test(start_paused = true)]
async fn a_safe_time_that_could_not_work_is_refused() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let most = Timing::default().max_safe_time();
    let from = faults.calls().len();
    for safe_time in [most + millis(1), VALIDITY, LEASE, LEASE * 3] {
        let acquire = locks.acquire("job").session_monitor(|| ()).safe_time(safe_time);
        let error = acquire.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{safe_time:?}");
        assert!(error.to_string().contains(&format!("{safe_time:?}")), "{error}");
    }
    assert!(operations(&faults, from).is_empty(), "nothing was acquired");
    let (fired, callback) = counter();
    let lock = locks.acquire("job").session_monitor(callback).safe_time(most).await.unwrap();
    cut(&faults);
    sleep(VALIDITY - most + TICK).await;
    assert!(times(&fired) == 1 && lock.is_valid(), "the longest one works");
}

/// Go: after a definitive loss the handle goes on saying that it has not expired, and nobody is told.
#[tokio::test(start_paused = true)]
async fn a_definitive_loss_is_told_at_once_and_by_everything() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let (fired, callback) = counter();
    let lock = locks.acquire("job").session_monitor(callback).await.unwrap();
    let taken = [("ownerName", "intruder"), ("leaseDuration", "10s"), ("recordVersionNumber", "v9")];
    put(&engine, &taken.map(|(name, value)| (name, text(value)))).await;
    assert!(lock.is_valid(), "nothing is known of it yet");
    let start = Instant::now();
    assert_eq!(lock.heartbeat().await.unwrap_err().kind(), ErrorKind::NotHeld);
    assert_eq!(lock.end_reason(), Some(EndReason::TakenOver));
    assert!(lock.lost().is_cancelled() && !lock.is_valid() && lock.remaining().is_zero());
    assert_eq!(lock.ensure(millis(0)).unwrap_err().kind(), ErrorKind::NotHeld);
    assert!(!locks.has_lock("job").unwrap() && locks.held().is_empty());
    lock.at_risk().await;
    sleep(TICK).await;
    assert_eq!(times(&fired), 1, "the monitor too");
    assert!(start.elapsed() < millis(10), "{:?}", start.elapsed());
}

/// Go: locks are told apart by their key: releasing a handle that was lost stops the heartbeats of the lock that
/// the same client has acquired since.
#[tokio::test(start_paused = true)]
async fn a_stale_handle_does_not_touch_the_new_lock_on_its_key() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
    let old = one.acquire("job").await.unwrap();
    // Work that is not polled holds the old lock back: it has not wound down when the new one is there.
    let mut work = Box::pin(old.guard(std::future::pending::<()>()));
    assert!(futures::poll!(&mut work).is_pending());
    two.force_release("job").await.unwrap();
    old.lost().cancelled().await;
    let new = one.acquire("job").await.unwrap();
    assert_eq!(new.fencing_token().unwrap(), 2);
    drop(work);
    assert_eq!(old.release().await.unwrap(), ReleaseOutcome::AlreadyGone);
    assert!(one.has_lock("job").unwrap() && one.held().len() == 1);
    let from = faults.calls().len();
    for _ in 0..30 {
        sleep(seconds(1)).await;
        assert!(new.is_valid(), "{:?}", new.end_reason());
        assert!(two.try_acquire("job").await.unwrap().is_none());
    }
    assert!(operations(&faults, from).len() >= 11, "it is renewed");
}

/// Java: whoever has the same owner name may release a record that it has merely looked up.
#[tokio::test(start_paused = true)]
async fn another_client_of_the_same_owner_name_has_no_part_in_the_lock() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let one = builder(&engine, &Faults::none(), 1).owner("same").build().await.unwrap();
    let two = builder(&engine, &faults, 2).owner("same").build().await.unwrap();
    let lock = one.acquire("job").await.unwrap();
    assert_eq!(two.get("job").await.unwrap().unwrap().owner(), two.owner(), "it looks like its own");
    assert!(!two.has_lock("job").unwrap() && two.held().is_empty());
    let again = two.acquire("job").reentrant().wait_up_to(seconds(3)).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::WaitOver, "held by another acquisition");
    assert!(two.shutdown().await.locks.is_empty());
    assert!(!faults.calls().iter().any(|(call, _)| call.operation == "UpdateItem"), "it wrote nothing");
    lock.heartbeat().await.unwrap();
    assert!(lock.is_valid() && !one.get("job").await.unwrap().unwrap().is_released());
}

/// Java: the monitor of an acquisition that is over fires all the same, and kills the process that holds the lock again.
#[tokio::test(start_paused = true)]
async fn a_monitor_never_fires_for_a_later_acquisition() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    // Given up in time: not at all, not even when the next one is lost.
    let (given_up, callback) = counter();
    locks.acquire("job").session_monitor(callback).await.unwrap().release().await.unwrap();
    // Lost: once, in its own time.
    let (lost, callback) = counter();
    let first = locks.acquire("job").session_monitor(callback).await.unwrap();
    cut(&faults);
    first.lost().cancelled().await;
    assert_eq!((times(&given_up), times(&lost)), (0, 1));
    faults.set(|_| Fault::Deliver);
    let (held, callback) = counter();
    let again = locks.acquire("job").session_monitor(callback).await.unwrap();
    sleep(LEASE * 6).await;
    drop(first);
    sleep(LEASE * 6).await;
    assert!(again.is_valid());
    assert_eq!((times(&given_up), times(&lost), times(&held)), (0, 1, 0));
}

/// Go: `Data()` goes on showing what a heartbeat has replaced.
#[tokio::test(start_paused = true)]
async fn data_is_what_the_last_heartbeat_made_of_it() {
    let engine = Embedded::in_memory().unwrap();
    let (one, two) = (client(&engine, &Faults::none(), 1).await, client(&engine, &Faults::none(), 2).await);
    let lock = one.acquire("job").data("first").await.unwrap();
    assert_eq!(lock.data().as_deref(), Some(&b"first"[..]));
    lock.heartbeat().replace_data("second").await.unwrap();
    assert_eq!(lock.data().as_deref(), Some(&b"second"[..]));
    assert_eq!(two.get("job").await.unwrap().unwrap().data(), Some(&b"second"[..]), "and so is the record");
    lock.heartbeat().await.unwrap();
    assert_eq!(lock.data().as_deref(), Some(&b"second"[..]), "kept by heartbeats that say nothing of it");
}

/// Go: data, once it is there, can't be cleared: no data means to keep what there is.
#[tokio::test(start_paused = true)]
async fn data_can_be_cleared() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let stored = async || locks.get("job").await.unwrap().unwrap().data().map(<[u8]>::to_vec);
    let lock = locks.acquire("job").data("d").await.unwrap();
    lock.heartbeat().delete_data().await.unwrap();
    assert_eq!((lock.data(), stored().await), (None, None), "by a heartbeat");
    lock.heartbeat().replace_data("d").await.unwrap();
    lock.release().clear_data().await.unwrap();
    assert_eq!(stored().await, None, "by a release");
    locks.acquire("job").data("d").await.unwrap().release().await.unwrap();
    assert_eq!(stored().await, Some(b"d".to_vec()));
    let lock = locks.acquire("job").clear_data().await.unwrap();
    assert_eq!((lock.data(), stored().await), (None, None), "by an acquisition");
    lock.heartbeat().replace_data("").await.unwrap();
    assert_eq!((lock.data(), stored().await), (Some(vec![]), Some(vec![])), "empty data are data");
}

/// Go: the documented rule for the safe time, lease - 3 x heartbeat, raises false alarms on a healthy store, 20 of 20.
#[tokio::test(start_paused = true)]
async fn no_monitor_fires_while_renewals_come_through() {
    let timing = Timing::default();
    for seed in 0..20 {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = client(&engine, &faults, seed).await;
        let ((usual, first), (widest, second)) = (counter(), counter());
        let one = locks.acquire("one").session_monitor(first).await.unwrap();
        let two = locks.acquire("two").session_monitor(second).safe_time(timing.max_safe_time()).await.unwrap();
        let slow = Fault::Delay { request: millis(seed), reply: millis(seed * 48) };
        faults.set(move |_| slow.clone());
        for _ in 0..10 {
            // Heartbeats off the schedule, at another of its moments each time, put off none that is on it.
            sleep(timing.heartbeat() * 3 + millis(230)).await;
            two.heartbeat().await.unwrap();
        }
        assert!(one.is_valid() && two.is_valid());
        assert_eq!((times(&usual), times(&widest)), (0, 0), "seed {seed}: a false alarm");
        cut(&faults);
        one.lost().cancelled().await;
        two.lost().cancelled().await;
        assert_eq!((times(&usual), times(&widest)), (1, 1), "seed {seed}: and no real one is missed");
        // The rule, as a time before the deadline.
        let since_the_last = timing.lease() - timing.heartbeat() * 3;
        let rule = locks.acquire("three").session_monitor(|| ()).safe_time(timing.validity() - since_the_last);
        let refused = timeout(TICK, rule.into_future()).await.expect("before anything is sent");
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
