//! Waiting for a lock: for how long, how often the record is read, and for what not.

use std::future::IntoFuture;
use std::time::Duration;

use dynamo_elector::{Call, Embedded, ErrorKind, Fault, Faults, LockClient};
use tokio::time::Instant;

use crate::support::{body, delete, kind, millis, put, raw, record, since, sleep, slow, within};
use crate::{builder, client};

fn writes(calls: &[Call]) -> usize {
    calls.iter().filter(|call| call.operation != "GetItem").count()
}

/// How long `work` takes, and what it gives.
async fn timed<T>(work: impl IntoFuture<Output = T>) -> (Duration, T) {
    let start = Instant::now();
    let done = within(100_000, work).await;
    (start.elapsed(), done)
}

#[tokio::test(start_paused = true)]
async fn the_time_to_wait_is_kept_to_the_millisecond() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &Faults::none(), 1).await, client(&engine, &faults, 2).await);
    let lock = one.acquire("job").await.unwrap();
    let from = faults.calls().len();
    for wait in [0, 1, 250, 999, 1_000, 3_333, 60_000] {
        let (took, waited) = timed(two.acquire("job").wait_up_to(millis(wait))).await;
        assert_eq!(kind(waited), ErrorKind::WaitOver, "{wait} ms");
        assert!((millis(wait)..=millis(wait + 2)).contains(&took), "{wait} ms took {took:?}");
    }
    assert_eq!(writes(&since(&faults, from)), 0, "those who wait never write (R13)");
    assert!(lock.is_valid());
    lock.release().await.unwrap();
    assert!(two.acquire("job").wait_up_to(Duration::ZERO).await.is_ok(), "no time to wait is time for a look");
}

/// What a store does meanwhile: for reads, for writes, or for both.
fn failing(faults: &Faults, fault: &Fault, operations: &'static [&'static str], until: Instant) {
    let fault = fault.clone();
    faults.set(move |call| {
        let hit = operations.contains(&call.operation.as_str()) && Instant::now() < until;
        if hit { fault.clone() } else { Fault::Deliver }
    });
}

const READS: &[&str] = &["GetItem"];
const WRITES: &[&str] = &["UpdateItem"];
const ALL: &[&str] = &["GetItem", "UpdateItem"];

fn troubles() -> [(Fault, ErrorKind); 5] {
    [
        (Fault::Throttle, ErrorKind::Throttled),
        (Fault::ServerError, ErrorKind::Unavailable),
        (Fault::ConnectError, ErrorKind::Unavailable),
        (Fault::LoseRequest, ErrorKind::Unavailable),
        (Fault::LoseReply, ErrorKind::Unavailable),
    ]
}

/// Trouble that outlasts the time to wait is what it ends with, and in time: neither a hung request nor the taking back of a
/// claim is waited for.
#[tokio::test(start_paused = true)]
async fn trouble_for_longer_than_the_time_to_wait_is_the_error_and_in_time() {
    for (fault, expected) in troubles() {
        for operations in [READS, WRITES, ALL] {
            for wait in [300, 2_500, 9_000] {
                let engine = Embedded::in_memory().unwrap();
                let faults = Faults::none();
                let locks = client(&engine, &faults, 1).await;
                failing(&faults, &fault, operations, Instant::now() + millis(30_000));
                let (took, waited) = timed(locks.acquire("job").wait_up_to(millis(wait))).await;
                let case = format!("{fault:?} of {operations:?} for more than {wait} ms");
                let found = kind(waited);
                // In so short a time throttling is still being retried inside of the SDK.
                assert!(found == expected || wait == 300 && found == ErrorKind::Unavailable, "{case}: {found:?}");
                assert!((millis(wait)..=millis(wait + 2)).contains(&took), "{case}: {took:?}");
                sleep(45_000).await;
                let free = raw(&engine, "job").await.is_none_or(|item| item.contains_key("isReleased"));
                assert!(free || fault == Fault::LoseReply, "{case}: what may have been applied was taken back");
                assert!(within(12_000, locks.acquire("job")).await.is_ok(), "{case}: and blocks nobody");
            }
        }
    }
}

/// Upstream aborts at the first failed read.
#[tokio::test(start_paused = true)]
async fn trouble_does_not_end_an_acquisition_that_has_time_left() {
    for (fault, _) in troubles() {
        for operations in [READS, WRITES, ALL] {
            for held in [false, true] {
                let engine = Embedded::in_memory().unwrap();
                let faults = Faults::none();
                let (locks, other) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
                let holder = if held { Some(other.acquire("job").await.unwrap()) } else { None };
                failing(&faults, &fault, operations, Instant::now() + millis(5_000));
                let acquire = tokio::spawn(locks.acquire("job").wait_up_to(millis(40_000)).into_future());
                sleep(5_000).await;
                assert!(!acquire.is_finished(), "{fault:?} of {operations:?}, held: {held}");
                drop(holder);
                let (took, lock) = timed(acquire).await;
                assert!(lock.unwrap().is_ok(), "{fault:?} of {operations:?}, held: {held}");
                // A claim whose answer was lost is taken back, or waited out like anybody's.
                assert!(took <= millis(12_000), "{fault:?} of {operations:?}, held: {held}: {took:?}");
            }
        }
    }
}

/// A try is one look and one claim: in an outage it says so, and does not stay.
#[tokio::test(start_paused = true)]
async fn a_try_in_an_outage_fails_within_one_operation_of_each_kind() {
    for (fault, expected) in troubles() {
        for operations in [READS, WRITES, ALL] {
            let engine = Embedded::in_memory().unwrap();
            let faults = Faults::none();
            let locks = client(&engine, &faults, 1).await;
            failing(&faults, &fault, operations, Instant::now() + millis(60_000));
            let (took, tried) = timed(locks.try_acquire("job")).await;
            assert_eq!(kind(tried), expected, "{fault:?} of {operations:?}");
            assert!(took <= millis(2_001), "{fault:?} of {operations:?}: {took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_record_is_read_as_often_as_was_asked_for() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &Faults::none(), 1).await, client(&engine, &faults, 2).await);
    let _lock = one.acquire("job").await.unwrap();
    for (period, reads) in [(Some(10), 995..=1_001), (Some(100), 98..=101), (Some(3_000), 4..=4), (None, 10..=11)] {
        let from = faults.calls().len();
        let acquire = two.acquire("job").wait_up_to(millis(10_000));
        let acquire = if let Some(period) = period { acquire.refresh_every(millis(period)) } else { acquire };
        assert_eq!(kind(acquire.await), ErrorKind::WaitOver);
        let calls = since(&faults, from);
        assert_eq!(writes(&calls), 0);
        assert!(reads.contains(&calls.len()), "{period:?}: {} reads", calls.len());
    }
}

/// R2: the one answer that shows the last heartbeat of a dead holder comes late. What it shows may have been written just
/// before, so the lease is waited for from there, not from the request.
#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_counted_from_when_it_came() {
    let engine = Embedded::in_memory().unwrap();
    let (dead, faults) = (Faults::none(), Faults::none());
    let (one, two) = (client(&engine, &dead, 1).await, client(&engine, &faults, 2).await);
    let lock = one.acquire("job").await.unwrap();
    dead.set(|_| Fault::LoseRequest);
    let mut first = true;
    faults.set(move |_| if std::mem::take(&mut first) { slow(0, 900) } else { Fault::Deliver });
    let (from, asked) = (faults.calls().len(), Instant::now());
    let next = within(15_000, two.acquire("job")).await.unwrap();
    let waited = asked.elapsed();
    assert!(waited >= millis(900) + two.timing().lease(), "taken over {waited:?} after the request");
    assert!(waited <= millis(910) + two.timing().lease(), "and no later: {waited:?}");
    assert_eq!(writes(&since(&faults, from)), 1);
    assert!(next.is_valid() && !lock.is_valid());
}

/// The take-over has a timer of its own.
#[tokio::test(start_paused = true)]
async fn a_take_over_does_not_wait_for_the_next_read() {
    for period in [50, 700, 9_999, 10_000] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = client(&engine, &faults, 1).await;
        put(&engine, &record("v1", "8s")).await;
        let (took, lock) = timed(locks.acquire("job").refresh_every(millis(period))).await;
        assert!(lock.is_ok());
        assert!((millis(10_000)..=millis(10_002)).contains(&took), "every {period} ms: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_can_not_work_is_refused_with_its_bounds() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let from = faults.calls().len();
    for period in [Duration::ZERO, Duration::from_micros(999), millis(10_001), Duration::MAX] {
        let error = locks.acquire("job").refresh_every(period).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{period:?}");
        assert!(error.to_string().contains("1ms") && error.to_string().contains("10s"), "{error}");
        assert_eq!(kind(locks.acquire("job").refresh_every(period).try_now().await), ErrorKind::InvalidInput);
    }
    assert_eq!(faults.calls().len(), from, "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn only_if_it_exists_creates_nothing() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let from = faults.calls().len();
    for _ in 0..3 {
        assert_eq!(kind(locks.acquire("job").only_if_exists().await), ErrorKind::NoRecord);
        assert_eq!(kind(locks.acquire("job").only_if_exists().try_now().await), ErrorKind::NoRecord);
    }
    let calls = since(&faults, from);
    assert_eq!(writes(&calls), 0, "never");
    assert!(calls.iter().all(|call| body(call)["ConsistentRead"] == true), "an answer from the past proves nothing");
    assert!(raw(&engine, "job").await.is_none());
    // The client knows it as absent; somebody else creates it meanwhile.
    let other = client(&engine, &Faults::none(), 2).await;
    other.acquire("job").await.unwrap().release().await.unwrap();
    let lock = within(100, locks.acquire("job").only_if_exists()).await.unwrap();
    assert_eq!(lock.fencing_token().unwrap(), 2);
    lock.release().await.unwrap();
    assert!(locks.acquire("job").only_if_exists().try_now().await.unwrap().is_some());
}

/// A look that failed has shown nothing: neither that there is a record nor that there is none.
#[tokio::test(start_paused = true)]
async fn a_look_that_fails_does_not_prove_that_there_is_no_record() {
    for (fault, expected) in troubles() {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let (locks, other) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
        // It was absent when this client saw it last.
        assert_eq!(kind(locks.acquire("job").only_if_exists().await), ErrorKind::NoRecord);
        other.acquire("job").await.unwrap().release().await.unwrap();
        failing(&faults, &fault, ALL, Instant::now() + millis(5_000));
        assert_eq!(kind(locks.acquire("job").only_if_exists().try_now().await), expected, "{fault:?}");
        let lock = within(9_000, locks.acquire("job").only_if_exists()).await;
        assert!(lock.is_ok(), "{fault:?}: {lock:?}");
    }
}

async fn deleting(engine: &Embedded, faults: &Faults, seed: u64) -> LockClient {
    builder(engine, faults, seed).delete_on_release().build().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_record_that_vanishes_while_it_is_waited_for_is_none() {
    // Deleted on release: gone is free.
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (deleting(&engine, &Faults::none(), 1).await, deleting(&engine, &faults, 2).await);
    let lock = one.acquire("job").await.unwrap();
    let from = faults.calls().len();
    let waiting = tokio::spawn(two.acquire("job").only_if_exists().into_future());
    sleep(15_000).await;
    lock.release().await.unwrap();
    assert_eq!(kind(within(1_100, waiting).await.unwrap()), ErrorKind::NoRecord);
    assert_eq!(writes(&since(&faults, from)), 0);
    assert!(raw(&engine, "job").await.is_none());
    // Deleted under its holder: known when the lease that was seen is over.
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &Faults::none(), 1).await, client(&engine, &faults, 2).await);
    let lock = one.acquire("job").await.unwrap();
    let waiting = tokio::spawn(two.acquire("job").only_if_exists().into_future());
    sleep(15_100).await;
    delete(&engine, "job").await;
    assert_eq!(kind(within(11_100, waiting).await.unwrap()), ErrorKind::NoRecord);
    assert!(!lock.is_valid(), "its holder has noticed");
    assert!(raw(&engine, "job").await.is_none());
}

/// R1: counted from before the send; upstream hands out a lock whose lease has run out already.
#[tokio::test(start_paused = true)]
async fn what_a_slow_claim_took_is_taken_off() {
    for reply in [0, 300, 900] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = client(&engine, &faults, 1).await;
        faults.set(move |call| if call.operation == "UpdateItem" { slow(50, reply) } else { Fault::Deliver });
        let lock = locks.acquire("job").await.unwrap();
        let left = lock.remaining() + millis(50 + reply);
        assert!((millis(7_997)..=millis(8_000)).contains(&left), "{reply}: {:?} left", lock.remaining());
    }
}

crate::privileges::suite! {
    a_slow_answer_is_counted_from_when_it_came,
    the_time_to_wait_is_kept_to_the_millisecond,
    trouble_for_longer_than_the_time_to_wait_is_the_error_and_in_time,
    trouble_does_not_end_an_acquisition_that_has_time_left,
    a_try_in_an_outage_fails_within_one_operation_of_each_kind,
    the_record_is_read_as_often_as_was_asked_for,
    a_take_over_does_not_wait_for_the_next_read,
    a_refresh_that_can_not_work_is_refused_with_its_bounds,
    only_if_it_exists_creates_nothing,
    a_look_that_fails_does_not_prove_that_there_is_no_record,
    a_record_that_vanishes_while_it_is_waited_for_is_none,
    what_a_slow_claim_took_is_taken_off,
}
