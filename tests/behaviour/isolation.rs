//! One lock's trouble is its own: many locks on one client, and a bound on what they ask for at once.

use std::collections::{BTreeMap, VecDeque};
use std::future::IntoFuture;
use std::sync::{Arc, Mutex};

use dynamo_elector::{Embedded, EndReason, Fault, Faults, Lock, LockClient, Timing};
use futures::StreamExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client;
use crate::support::{key_of, millis, raw, simulated, sleep, slow, value, within};

async fn hold_all(locks: &LockClient, count: usize) -> Vec<Lock> {
    let keys = futures::stream::iter((0..count).map(|index| locks.acquire(format!("job-{index}")).into_future()));
    keys.buffer_unordered(count).map(Result::unwrap).collect().await
}

/// When the requests of each key were sent.
type Sent = Arc<Mutex<BTreeMap<String, Vec<Instant>>>>;

/// Swallowed for a minute, or arriving a minute late: the others beat on schedule to the millisecond.
async fn nine_renew_while_one_hangs(seed: u64) {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, seed).await;
    let held = hold_all(&locks, 10).await;
    sleep(10_000).await;
    let sent = Sent::default();
    let log = Arc::clone(&sent);
    let start = Instant::now();
    faults.set(move |call| {
        let key = key_of(call);
        log.lock().unwrap().entry(key.clone()).or_default().push(Instant::now());
        match (key.as_str(), seed.is_multiple_of(2)) {
            ("job-4", _) if start.elapsed() >= millis(60_000) => Fault::Deliver,
            ("job-4", true) => Fault::LoseRequest,
            ("job-4", false) => slow(60_000, 1),
            _ => slow(10, 10),
        }
    });
    let hung = held.iter().find(|lock| lock.key().partition() == "job-4").unwrap();
    hung.lost().cancelled().await;
    assert!(start.elapsed() <= Timing::default().validity(), "seed {seed}: {:?}", start.elapsed());
    assert_eq!(hung.end_reason(), Some(EndReason::Deadline));
    for _ in 0..600 {
        sleep(100).await;
        assert!(!hung.is_valid(), "seed {seed}: R8");
        for lock in held.iter().filter(|lock| lock.key() != hung.key()) {
            assert!(lock.remaining() >= millis(5_470), "seed {seed}: {:?} has {:?}", lock.key(), lock.remaining());
            assert!(!lock.is_at_risk());
        }
    }
    let sent = sent.lock().unwrap();
    assert_eq!(sent.len(), 10);
    for (key, times) in sent.iter().filter(|(key, _)| *key != "job-4") {
        for pair in times.windows(2) {
            let gap = pair[1].duration_since(pair[0]);
            assert!(gap.abs_diff(millis(2_500)) <= millis(2), "seed {seed}: {key} beat after {gap:?}");
        }
    }
}

#[test]
fn nine_locks_renew_on_schedule_while_all_requests_of_the_tenth_hang() {
    for seed in 0..4 {
        simulated(seed, nine_renew_while_one_hangs);
    }
}

/// A heartbeat that comes through a minute late is no new acquisition: whoever lost the lock stays without it, also
/// when nobody else was there to take it over.
#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_arrives_a_minute_late_revives_nothing() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let lock = locks.acquire("job").await.unwrap();
    let claimed = raw(&engine, "job").await.unwrap()["recordVersionNumber"].clone();
    let (cut, lease_over) = (Instant::now(), Timing::default().lease());
    faults.set(|_| slow(60_000, 1));
    lock.lost().cancelled().await;
    let lost = cut.elapsed();
    assert!(lost <= Timing::default().validity());
    let mut arrived = false;
    while cut.elapsed() < millis(90_000) {
        sleep(100).await;
        assert!(!lock.is_valid() && lock.remaining().is_zero(), "after {:?}", cut.elapsed());
        assert!(!locks.has_lock("job").unwrap());
        let version = raw(&engine, "job").await.unwrap()["recordVersionNumber"].clone();
        arrived |= version != claimed;
        assert!(version == claimed || cut.elapsed() > lease_over, "nothing arrives before");
    }
    assert!(arrived, "the late heartbeat was applied, long after");
    faults.set(|_| Fault::Deliver);
    let again = within(15_000, locks.acquire("job")).await.unwrap();
    assert_eq!(again.fencing_token().unwrap(), 2, "a new acquisition, with a new token");
    assert!(!lock.is_valid());
}

/// Somebody else holds it by the time the late heartbeats arrive: they name versions that are gone.
#[tokio::test(start_paused = true)]
async fn late_heartbeats_of_a_lost_lock_do_not_disturb_the_next_holder() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
    let lock = one.acquire("job").await.unwrap();
    faults.set(|_| slow(15_000, 1));
    let next = within(15_000, two.acquire("job")).await.unwrap();
    assert!(!lock.is_valid());
    for _ in 0..600 {
        sleep(100).await;
        assert!(next.is_valid() && !next.is_at_risk() && !lock.is_valid());
    }
    assert_eq!(next.end_reason(), None);
}

/// How many requests are under way at once, by their connector: each takes 500 ms here, less than an attempt may.
#[tokio::test(start_paused = true)]
async fn no_more_than_256_requests_are_under_way_at_once() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let open = Arc::new(Mutex::new((VecDeque::new(), 0)));
    let count = Arc::clone(&open);
    faults.set(move |_| {
        let mut open = count.lock().unwrap();
        let now = Instant::now();
        // What is over at this very moment has left its place.
        while open.0.front().is_some_and(|sent: &Instant| now.duration_since(*sent) >= millis(500)) {
            open.0.pop_front();
        }
        open.0.push_back(now);
        open.1 = open.1.max(open.0.len());
        slow(300, 200)
    });
    let held = hold_all(&locks, 300).await;
    assert_eq!(held.len(), 300, "all get their turn");
    sleep(10_000).await;
    let most = open.lock().unwrap().1;
    assert_eq!(most, 256, "as many as may be, and no more");
    assert!(held.iter().all(Lock::is_valid));
    drop(held);
    sleep(5_000).await;
    assert!(locks.held().is_empty());
    assert_eq!(open.lock().unwrap().1, 256, "a release of all at once keeps to it");
}

/// A store so slow that a hundred hang for their whole bound: the places left carry the others.
#[tokio::test(start_paused = true)]
async fn a_hundred_hanging_locks_leave_room_for_the_others() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let held = hold_all(&locks, 300).await;
    let hangs = |key: &str| key.ends_with('1') || key.ends_with('2') || key.ends_with('3');
    faults.set(move |call| if hangs(&key_of(call)) { Fault::LoseRequest } else { slow(20, 20) });
    sleep(15_000).await;
    for lock in &held {
        assert_eq!(lock.is_valid(), !hangs(lock.key().partition()), "{:?}", lock.key());
    }
}

/// So many that read `key` again and again, until they are aborted, and never get an answer.
fn readers(locks: &LockClient, key: &'static str, count: usize) -> Vec<JoinHandle<()>> {
    let reader = |locks: LockClient| async move {
        loop {
            assert!(locks.get(key).await.is_err());
        }
    };
    (0..count).map(|_| tokio::spawn(reader(locks.clone()))).collect()
}

/// R11: more reads hang, again and again, than may be under way: heartbeats have places of their own.
#[tokio::test(start_paused = true)]
async fn reads_that_hang_hold_up_no_heartbeat() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let lock = locks.acquire("job").await.unwrap();
    faults.set(|call| if call.operation == "GetItem" { Fault::LoseRequest } else { slow(20, 20) });
    let readers = readers(&locks, "job", 300);
    for _ in 0..120 {
        sleep(100).await;
        assert!(lock.remaining() >= millis(5_450) && !lock.is_at_risk(), "{:?} left", lock.remaining());
    }
    assert!(readers.iter().all(|reader| !reader.is_finished()), "they read on meanwhile");
    readers.iter().for_each(JoinHandle::abort);
}

/// R11: nor the read by which a holder learns which of its writes was applied (R3): it has a place among the heartbeats.
#[tokio::test(start_paused = true)]
async fn reads_that_hang_hold_up_no_read_of_a_holder() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let lock = locks.acquire("job").await.unwrap();
    // When the last write was refused, and when the read came.
    let moments = Arc::new(Mutex::new((None, None)));
    let log = Arc::clone(&moments);
    faults.set(move |call| {
        let (refused, read) = &mut *log.lock().unwrap();
        match (call.operation == "GetItem", key_of(call) == "job") {
            (true, true) => {
                read.get_or_insert_with(Instant::now);
                slow(20, 20)
            }
            (true, false) => Fault::LoseRequest,
            // Refused fast, three times and more, until it has read.
            (false, _) if read.is_some() => slow(20, 20),
            (false, _) => {
                *refused = Some(Instant::now());
                Fault::Throttle
            }
        }
    });
    let readers = readers(&locks, "other", 800);
    sleep(30_000).await;
    assert!(lock.is_valid() && !lock.is_at_risk());
    let (Some(refused), Some(read)) = *moments.lock().unwrap() else { panic!("it was to read") };
    println!("read {:?} after the last refusal", read.duration_since(refused));
    assert!(read.duration_since(refused) < millis(400), "{:?}", read.duration_since(refused));
    readers.iter().for_each(JoinHandle::abort);
}

/// R7: more heartbeats wait than there are places, until their leases are over: they are not sent any more, and those go that can still
/// save one.
#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_waited_until_its_lease_was_over_is_not_sent() {
    const LOCKS: usize = 1_200;
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let held = hold_all(&locks, LOCKS).await;
    sleep(10_000).await;
    // When each heartbeat was sent first: the SDK may repeat it within its bound.
    let sent = Arc::new(Mutex::new(BTreeMap::new()));
    let log = Arc::clone(&sent);
    faults.set(move |call| {
        if let Some(version) = value(call, ":version") {
            log.lock().unwrap().entry(version.to_string()).or_insert((key_of(call), Instant::now()));
        }
        Fault::LoseRequest
    });
    let now = Instant::now();
    let over: BTreeMap<_, _> =
        held.iter().map(|lock| (lock.key().partition().to_owned(), now + lock.remaining())).collect();
    sleep(30_000).await;
    let sent = sent.lock().unwrap();
    assert!(sent.len() >= LOCKS && held.iter().all(|lock| !lock.is_valid()), "{} heartbeats", sent.len());
    for (key, at) in sent.values() {
        assert!(*at < over[key], "{key} was sent {:?} too late", at.duration_since(over[key]));
    }
}

/// R11: the SDK keeps its retries in one bucket for the whole process unless it is told otherwise: in an outage of one table
/// those of all others would go without.
#[tokio::test(start_paused = true)]
async fn the_failures_of_one_client_cost_another_no_retry() {
    let engine = Embedded::in_memory().unwrap();
    let (failing, faults) = (Faults::none(), Faults::none());
    let (one, two) = (client(&engine, &failing, 1).await, client(&engine, &faults, 2).await);
    let lock = two.acquire("job").await.unwrap();
    failing.set(|_| Fault::ServerError);
    let from = failing.calls().len();
    for _ in 0..200 {
        assert!(one.get("job").await.is_err());
    }
    let retries = failing.calls().len() - from - 200;
    assert!((20..150).contains(&retries), "{retries} retries of 200 requests: its own bucket is empty");
    let mut first = true;
    faults.set(move |_| if std::mem::take(&mut first) { Fault::ServerError } else { Fault::Deliver });
    let from = faults.calls().len();
    lock.heartbeat().await.unwrap();
    assert_eq!(faults.calls().len() - from, 2, "tried again inside of the SDK");
}

crate::privileges::suite! {
    a_heartbeat_that_arrives_a_minute_late_revives_nothing,
    late_heartbeats_of_a_lost_lock_do_not_disturb_the_next_holder,
    no_more_than_256_requests_are_under_way_at_once,
    a_hundred_hanging_locks_leave_room_for_the_others,
    reads_that_hang_hold_up_no_heartbeat,
    reads_that_hang_hold_up_no_read_of_a_holder,
    a_heartbeat_that_waited_until_its_lease_was_over_is_not_sent,
    the_failures_of_one_client_cost_another_no_retry,
}
