//! Heartbeats: on time, counted from their sends, retried, and never believed in too long.

use std::sync::{Arc, Mutex};

use dynamo_elector::{Elector, Embedded, EndReason, Fault, Faults, Lock, LockClient, Timing};
use futures::future::join_all;
use tokio::time::{Instant, advance, sleep, sleep_until, timeout};

use super::{LEASE, TICK, VALIDITY, assert_counts_from, cut, millis, seconds, text};
use crate::{builder, client, operations};

async fn hundred(locks: &LockClient) -> Vec<Lock> {
    let all = join_all((0..100).map(|number| locks.acquire(format!("lock-{number}")).into_future())).await;
    all.into_iter().map(Result::unwrap).collect()
}

/// Go: a fixed few workers send the heartbeats of all locks, each round waits for the slowest: 70 of 100 locks
/// expired on one core with round trips of 100 ms.
#[tokio::test(start_paused = true)]
async fn a_hundred_locks_with_slow_round_trips_are_all_renewed_on_time() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let held = hundred(&locks).await;
    let beats = Arc::new(Mutex::new(vec![0_usize; 500]));
    let (counted, start) = (Arc::clone(&beats), Instant::now());
    faults.set(move |_| {
        let tenth = start.elapsed().as_millis() / 100;
        counted.lock().unwrap()[usize::try_from(tenth).unwrap()] += 1;
        Fault::Delay { request: millis(50), reply: millis(50) }
    });
    let least = VALIDITY - Timing::default().heartbeat() - millis(100) - TICK;
    while start.elapsed() < LEASE * 5 - millis(100) {
        sleep(millis(50)).await;
        for lock in &held {
            let (key, left) = (lock.key(), lock.remaining());
            assert!(lock.is_valid() && !lock.is_at_risk(), "{key} after {:?}", start.elapsed());
            assert!(left >= least, "{key} has {left:?} left after {:?}: renewed late", start.elapsed());
        }
    }
    // Acquired in one moment, renewed spread over half a period.
    let beats = beats.lock().unwrap().clone();
    let (sum, most) = (beats.iter().sum::<usize>(), beats.iter().max().copied().unwrap());
    assert!((1_900..=2_100).contains(&sum), "{sum} heartbeats");
    assert!(most <= 25, "{most} heartbeats within 100 ms: {beats:?}");
}

/// Java: one thread renews one lock after another and waits up to 30 s for each: one request that hangs loses every lock.
#[tokio::test(start_paused = true)]
async fn one_hanging_lock_costs_the_others_nothing() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let (hangs, others) = (locks.acquire("hangs").await.unwrap(), hundred(&locks).await);
    faults.set(|call| {
        let reply = millis(20);
        if call.body.contains("\"S\":\"hangs\"") { Fault::LoseRequest } else { Fault::Delay { request: reply, reply } }
    });
    let start = Instant::now();
    let least = VALIDITY - Timing::default().heartbeat() - millis(40) - TICK;
    while start.elapsed() < LEASE * 3 {
        sleep(millis(100)).await;
        for lock in &others {
            assert!(lock.remaining() >= least && !lock.is_at_risk(), "{} after {:?}", lock.key(), start.elapsed());
        }
    }
    assert_eq!(hangs.end_reason(), Some(EndReason::Deadline));
    assert_eq!(locks.held().len(), 100);
}

/// Rust crates: leases are stored and compared as wall-clock times in whole seconds.
#[tokio::test(start_paused = true)]
async fn leases_count_to_the_millisecond_and_by_no_wall_clock() {
    for (lease, wall_clock) in [(1_500, "2000-01-01T00:00:00Z"), (2_700, "9999-01-01T00:00:00Z")] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let timing = Timing::builder().lease(millis(lease)).build().unwrap();
        let one = builder(&engine, &faults, 1).timing(timing).build().await.unwrap();
        let two = client(&engine, &Faults::none(), 2).await;
        let sent = Instant::now();
        let lock = one.acquire("job").await.unwrap();
        cut(&faults);
        // As if the holder's wall clock were decades off.
        let update = engine.client().update_item().table_name("locks").key("key", text("job"));
        let update =
            update.update_expression("SET acquiredAt = :at").expression_attribute_values(":at", text(wall_clock));
        update.send().await.unwrap();
        let seen = Instant::now();
        let next = tokio::spawn(async move { two.acquire("job").await.unwrap() });
        sleep_until(sent + timing.validity() - millis(1)).await;
        assert!(lock.is_valid());
        sleep(millis(1) + TICK).await;
        assert!(!lock.is_valid() && lock.lost().is_cancelled());
        drop(next.await.unwrap());
        let waited = seen.elapsed();
        assert!(waited >= millis(lease) && waited < millis(lease + 10), "{lease} ms: {waited:?}");
    }
}

/// Rust crates: renewal ends at the first error, and nobody is told.
#[tokio::test(start_paused = true)]
async fn a_failed_renewal_is_told_and_tried_again() {
    for fault in [Fault::ServerError, Fault::Throttle, Fault::ConnectError, Fault::AccessDenied, Fault::LoseRequest] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = client(&engine, &faults, 1).await;
        let lock = locks.acquire("job").await.unwrap();
        let injected = fault.clone();
        faults.set(move |_| injected.clone());
        let start = Instant::now();
        timeout(Timing::default().heartbeat() + millis(2_100), lock.at_risk()).await.expect("told");
        assert!(lock.is_at_risk() && lock.is_valid() && !lock.lost().is_cancelled(), "{fault:?}");
        sleep_until(start + seconds(5)).await;
        faults.set(|_| Fault::Deliver);
        sleep(seconds(2)).await;
        assert!(!lock.is_at_risk(), "{fault:?}: renewed again, and told");
        sleep(seconds(60)).await;
        assert!(lock.is_valid(), "{fault:?}");
    }
}

/// Two Rust crates: no request has a time-out and nobody looks at a clock: with a connection that is cut without a word,
/// `is_healthy()` is true for 560 s while another has held the lock since 5 s.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_cut_silently_ends_the_lock_in_time() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
    let lock = one.acquire("job").await.unwrap();
    let waiting = tokio::spawn(async move { two.acquire("job").await.unwrap() });
    sleep(seconds(1)).await;
    let (from, sent) = (faults.calls().len(), Instant::now());
    lock.heartbeat().await.unwrap();
    cut(&faults);
    lock.at_risk().await;
    assert!(sent.elapsed() <= Timing::default().heartbeat() + millis(2_100), "warned after {:?}", sent.elapsed());
    sleep_until(sent + VALIDITY - millis(1)).await;
    assert!(lock.is_valid(), "as long as it may");
    timeout(seconds(60), lock.lost().cancelled()).await.expect("told");
    assert!(sent.elapsed() <= VALIDITY + TICK, "{:?}", sent.elapsed());
    assert_eq!((lock.is_valid(), lock.end_reason()), (false, Some(EndReason::Deadline)));
    let tried = operations(&faults, from).len();
    assert!(tried >= 6, "each attempt is given up after a second, and another made: {tried}");
    let next = waiting.await.unwrap();
    assert!(next.is_valid() && sent.elapsed() >= LEASE);
}

/// Java: `isExpired()` turns back to false when a heartbeat that was stuck comes through 60 s late.
#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_comes_through_a_minute_late_revives_nothing() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
    let lock = one.acquire("job").await.unwrap();
    let version = two.get("job").await.unwrap().unwrap().version().to_owned();
    let late = Fault::Delay { request: seconds(60), reply: millis(0) };
    let mut first = true;
    faults.set(move |_| if std::mem::take(&mut first) { late.clone() } else { Fault::LoseRequest });
    let start = Instant::now();
    assert!(lock.heartbeat().await.is_err());
    lock.lost().cancelled().await;
    while start.elapsed() < seconds(100) {
        assert!(!lock.is_valid() && lock.remaining().is_zero(), "after {:?}", start.elapsed());
        sleep(millis(500)).await;
    }
    assert_ne!(two.get("job").await.unwrap().unwrap().version(), version, "it did come through");
    assert!(lock.heartbeat().await.is_err() && !one.has_lock("job").unwrap());

    // And where the whole process stood still meanwhile, the reply finds a deadline that has passed.
    faults.set(|_| Fault::Delay { request: millis(0), reply: millis(300) });
    let lock = one.acquire("frozen").await.unwrap();
    assert!(timeout(millis(100), lock.heartbeat().into_future()).await.is_err(), "it is on its way");
    advance(seconds(60)).await;
    for _ in 0..1_000 {
        assert!(!lock.is_valid());
        sleep(millis(1)).await;
    }
    assert_eq!(lock.end_reason(), Some(EndReason::Deadline));
}

/// etcd: the end of a session counts from the reply, and is looked for once a second: two leaders in 18 of 20.
#[tokio::test(start_paused = true)]
async fn slow_replies_do_not_move_the_deadline() {
    for round in 0..20 {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let (one, two) = (client(&engine, &faults, round).await, client(&engine, &Faults::none(), 100).await);
        let lock = one.acquire("job").await.unwrap();
        let waiting = tokio::spawn(async move { two.acquire("job").await.unwrap() });
        // Each attempt may take a second.
        let reply = millis(50 + round * 47);
        faults.set(move |_| Fault::Delay { request: millis(0), reply });
        sleep(millis(round * 60)).await;
        let sent = Instant::now();
        lock.heartbeat().await.unwrap();
        assert!(sent.elapsed() >= reply);
        assert_counts_from(&lock, sent);
        cut(&faults);
        lock.lost().cancelled().await;
        let late = sent.elapsed();
        assert!(late <= VALIDITY + TICK && late + TICK >= VALIDITY, "replies took {reply:?}: {late:?} after the send");
        let next = waiting.await.unwrap();
        assert!(!lock.is_valid() && next.is_valid());
        assert!(sent.elapsed() >= LEASE, "one leader, the guard between them: {:?}", sent.elapsed());
    }
}

/// Curator: one TCP connection that drops costs leadership, 8 of 8.
#[tokio::test(start_paused = true)]
async fn a_dropped_connection_costs_no_leadership() {
    for round in 0..8 {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let (one, two) = (client(&engine, &faults, round).await, client(&engine, &Faults::none(), 100).await);
        let leader = Elector::builder(&one, "e").build().unwrap();
        let follower = Elector::builder(&two, "e").build().unwrap();
        let leadership = leader.campaign().await.unwrap();
        let rival = tokio::spawn(async move { follower.campaign().await.unwrap().fencing_token() });
        sleep(millis(300 * round)).await;
        // Even rounds drop one connection, odd ones every connection of three seconds.
        let from = faults.calls().len();
        let (mut first, start) = (true, Instant::now());
        faults.set(move |_| {
            let drops = if round % 2 == 0 { std::mem::take(&mut first) } else { start.elapsed() < seconds(3) };
            if drops { Fault::ConnectError } else { Fault::Deliver }
        });
        while start.elapsed() < seconds(60) {
            sleep(millis(100)).await;
            assert!(leadership.is_valid() && leadership.end_reason().is_none(), "after {:?}", start.elapsed());
            assert!(round % 2 == 1 || !leadership.is_at_risk(), "another connection is opened at once");
        }
        assert!(faults.calls()[from..].iter().any(|(_, fault)| *fault == Fault::ConnectError));
        assert!(!rival.is_finished() && leader.status().borrow().is_leader());
        rival.abort();
    }
}
