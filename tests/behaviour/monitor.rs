//! The session monitor: once, in time, and never for anything but the end of its very own lock.

use std::future::IntoFuture;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynamo_elector::{Embedded, ErrorKind, Fault, Faults, LockClient, Timing};
use tokio::time::Instant;

use crate::support::{kind, millis, simulated, sleep, slow, within};
use crate::{builder, client};

/// When a callback ran.
#[derive(Clone, Default)]
struct Fired(Arc<Mutex<Vec<Instant>>>);

impl Fired {
    fn callback(&self) -> impl FnOnce() + Send + 'static {
        let fired = self.clone();
        move || fired.0.lock().unwrap().push(Instant::now())
    }

    fn times(&self) -> Vec<Instant> {
        self.0.lock().unwrap().clone()
    }
}

async fn monitored(locks: &LockClient, safe_time: Option<Duration>, fired: &Fired) -> dynamo_elector::Lock {
    let acquire = locks.acquire("job").session_monitor(fired.callback());
    let acquire = if let Some(time) = safe_time { acquire.safe_time(time) } else { acquire };
    within(30_000, acquire).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn it_fires_once_the_safe_time_before_the_deadline() {
    for safe in [None, Some(0), Some(1), Some(100), Some(2_000), Some(3_500)] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = client(&engine, &faults, 1).await;
        let fired = Fired::default();
        let lock = monitored(&locks, safe.map(millis), &fired).await;
        let last_sent = Arc::new(Mutex::new(Instant::now()));
        let sent = Arc::clone(&last_sent);
        faults.set(move |_| {
            *sent.lock().unwrap() = Instant::now();
            slow(30, 70)
        });
        sleep(61_000).await;
        faults.set(|_| Fault::LoseRequest);
        assert!(fired.times().is_empty());
        lock.lost().cancelled().await;
        sleep(60_000).await;
        // The default is half of V - H - A.
        let due = *last_sent.lock().unwrap() + millis(8_000 - safe.unwrap_or(1_750));
        let times = fired.times();
        assert_eq!(times.len(), 1, "{safe:?}: {times:?}");
        let late = times[0].saturating_duration_since(due);
        assert!(times[0] + millis(2) >= due && late <= millis(3), "{safe:?}: {late:?} late");
    }
}

#[tokio::test(start_paused = true)]
async fn it_does_not_fire_for_a_lock_that_is_given_up() {
    for way in 0..4 {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = client(&engine, &faults, 1).await;
        let fired = Fired::default();
        let lock = monitored(&locks, Some(millis(3_500)), &fired).await;
        sleep(10_000).await;
        if way == 3 {
            // The network hangs, and the lock is given up a moment before the monitor is due.
            faults.set(|_| Fault::LoseRequest);
            while lock.remaining() > millis(3_510) {
                sleep(1).await;
            }
        }
        match way {
            0 | 3 => drop(tokio::spawn(lock.release().into_future())),
            1 => drop(lock),
            _ => {
                locks.shutdown().await;
            }
        }
        sleep(120_000).await;
        assert!(fired.times().is_empty(), "way {way}");
    }
}

/// A store as slow as it may be: the first attempt lost, the second answered just in time, from the claim on.
async fn slow_but_on_schedule(seed: u64) {
    for (timing, slowness) in [
        (Timing::default(), Some((300, 350))),
        (Timing::default(), None),
        (Timing::economy(), Some((900, 1_000))),
        (Timing::fast(), Some((150, 150))),
    ] {
        for safe in [None, Some(timing.max_safe_time())] {
            let engine = Embedded::in_memory().unwrap();
            let faults = Faults::none();
            let locks = builder(&engine, &faults, seed).timing(timing).build().await.unwrap();
            let mut first = false;
            faults.set(move |call| match slowness {
                Some((request, reply)) if call.operation == "UpdateItem" => {
                    first = !first;
                    if first { Fault::LoseRequest } else { slow(request, reply) }
                }
                _ => Fault::Deliver,
            });
            let fired = Fired::default();
            let lock = monitored(&locks, safe, &fired).await;
            sleep(120_000).await;
            assert!(lock.is_valid());
            assert!(fired.times().is_empty(), "seed {seed}: a false alarm at {safe:?} with {timing:?}, {slowness:?}");
        }
    }
}

#[test]
fn it_does_not_fire_while_renewals_come_through_however_slowly() {
    for seed in 0..5 {
        simulated(seed, slow_but_on_schedule);
    }
}

#[tokio::test(start_paused = true)]
async fn a_safe_time_that_would_give_false_alarms_is_refused_with_both_numbers() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let from = faults.calls().len();
    for (safe, text) in [(millis(3_501), "3.501s"), (millis(8_000), "8s"), (Duration::MAX, "18446744073709551615")] {
        let fired = Fired::default();
        let acquire = locks.acquire("job").session_monitor(fired.callback()).safe_time(safe);
        let error = acquire.await.unwrap_err();
        assert!(error.to_string().contains(text) && error.to_string().contains("3.5s"), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let acquire = locks.acquire("job").session_monitor(fired.callback()).safe_time(safe);
        assert_eq!(kind(acquire.try_now().await), ErrorKind::InvalidInput);
    }
    assert_eq!(faults.calls().len(), from, "nothing was sent");
    assert!(!locks.has_lock("job").unwrap());
}

/// Upstream skips the callback when it is late.
#[tokio::test(start_paused = true)]
async fn it_fires_late_rather_than_never() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let fired = Fired::default();
    let lock = monitored(&locks, None, &fired).await;
    faults.set(|_| Fault::LoseRequest);
    sleep(4_000).await;
    // As if the process had been stopped: no timer and no task runs meanwhile.
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert!(!lock.is_valid(), "the clock alone says so");
    sleep(1).await;
    assert_eq!(fired.times().len(), 1);
    sleep(60_000).await;
    assert_eq!(fired.times().len(), 1, "and once");
}

/// Lost by force, without any warning: better now than not at all.
#[tokio::test(start_paused = true)]
async fn it_fires_at_once_when_the_lock_is_taken_away() {
    let engine = Embedded::in_memory().unwrap();
    let (one, two) = (client(&engine, &Faults::none(), 1).await, client(&engine, &Faults::none(), 2).await);
    let fired = Fired::default();
    let lock = monitored(&one, None, &fired).await;
    two.force_release("job").await.unwrap();
    lock.lost().cancelled().await;
    let lost = Instant::now();
    sleep(60_000).await;
    assert_eq!(fired.times(), [lost]);
}

/// Upstream's monitor of a dead acquisition fires and kills the process that holds the lock again.
#[tokio::test(start_paused = true)]
async fn a_monitor_of_an_earlier_lock_does_not_fire_for_a_newer_one_on_the_same_key() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let (lost, given_up, newest) = (Fired::default(), Fired::default(), Fired::default());
    let first = monitored(&locks, None, &lost).await;
    faults.set(|_| Fault::LoseRequest);
    first.lost().cancelled().await;
    faults.set(|_| Fault::Deliver);
    // The handle of the first is kept: a handle of the past must not matter.
    let second = monitored(&locks, Some(millis(3_500)), &given_up).await;
    sleep(30_000).await;
    second.release().await.unwrap();
    let third = monitored(&locks, Some(millis(3_000)), &newest).await;
    sleep(240_000).await;
    let count = |fired: &Fired| fired.times().len();
    assert_eq!((count(&lost), count(&given_up), count(&newest)), (1, 0, 0));
    faults.set(|_| Fault::LoseRequest);
    third.lost().cancelled().await;
    sleep(60_000).await;
    assert_eq!((count(&lost), count(&given_up), count(&newest)), (1, 0, 1));
    drop(first);
}

/// The deadline may move both ways: a longer lease puts the monitor off, a shorter one brings it forward.
#[tokio::test(start_paused = true)]
async fn it_follows_a_lease_that_changes() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let fired = Fired::default();
    let lock = monitored(&locks, Some(millis(1_000)), &fired).await;
    lock.extend(Duration::from_secs(60)).await.unwrap();
    faults.set(|_| Fault::LoseRequest);
    sleep(30_000).await;
    assert!(fired.times().is_empty(), "valid for 48 s");
    faults.set(|_| Fault::Deliver);
    sleep(5_000).await;
    lock.extend(Duration::from_secs(10)).await.unwrap();
    let shortened = Instant::now();
    faults.set(|_| Fault::LoseRequest);
    lock.lost().cancelled().await;
    sleep(60_000).await;
    let times = fired.times();
    assert_eq!(times.len(), 1);
    let after = times[0].duration_since(shortened);
    assert!((millis(6_998)..=millis(7_003)).contains(&after), "fired {after:?} after the last beat, due at 7 s");
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_harms_nobody() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let ran = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&ran);
    let acquire = locks.acquire("job").session_monitor(move || {
        count.fetch_add(1, Ordering::SeqCst);
        panic!("a callback that panics");
    });
    let lock = acquire.safe_time(millis(3_500)).await.unwrap();
    faults.set(|_| Fault::LoseRequest);
    while lock.remaining() > millis(3_000) {
        sleep(10).await;
    }
    faults.set(|_| Fault::Deliver);
    sleep(60_000).await;
    assert!(lock.is_valid() && locks.acquire("other").await.is_ok());
    assert_eq!(ran.load(Ordering::SeqCst), 1);
}

crate::privileges::suite! {
    it_fires_once_the_safe_time_before_the_deadline,
    it_does_not_fire_for_a_lock_that_is_given_up,
    a_safe_time_that_would_give_false_alarms_is_refused_with_both_numbers,
    it_fires_late_rather_than_never,
    it_fires_at_once_when_the_lock_is_taken_away,
    a_monitor_of_an_earlier_lock_does_not_fire_for_a_newer_one_on_the_same_key,
    it_follows_a_lease_that_changes,
    a_callback_that_panics_harms_nobody,
}
