//! Futures dropped at every moment: nothing is leaked, nothing is forgotten, and what the docs say of each holds.

use std::time::Duration;

use dynamo_elector::{Embedded, ErrorKind, Fault, Faults, Fencing, LockClient, ReleaseOutcome};
use futures::StreamExt;
use tokio::time::Instant;

use crate::support::{
    attribute, bytes, drop_after, kind, millis, number, poll_once, put, raw, record, simulated, since, sleep, slow,
    text, within,
};
use crate::{builder, client};

/// With answers of 40 ms, an acquisition with a seal takes four of them.
const STEPS: [u64; 12] = [0, 1, 19, 21, 39, 41, 59, 61, 81, 101, 121, 141];
const LATEST: u64 = 200;

async fn fenced(engine: &Embedded, faults: &Faults, seed: u64) -> LockClient {
    builder(engine, faults, seed).fencing(Fencing::FenceRecord).build().await.unwrap()
}

/// Whatever was under way when it was dropped, the next one need not wait for a lease.
async fn dropped_acquisition(at: u64) {
    for (is_fenced, is_try) in [(false, false), (false, true), (true, false), (true, true)] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
        let one = if is_fenced { fenced(&engine, &faults, 1).await } else { one };
        faults.set(|_| slow(20, 20));
        let dropped = if is_try {
            drop_after(at, one.try_acquire("job")).await.map(|lock| drop(lock.unwrap().unwrap()))
        } else {
            drop_after(at, one.acquire("job")).await.map(|lock| drop(lock.unwrap()))
        };
        let done = if is_fenced { 160 } else { 80 };
        assert_eq!(dropped.is_some(), at > done, "at {at} ms: the steps cover the whole of it");
        let start = Instant::now();
        let next = within(10_000, two.acquire("job")).await.unwrap();
        let case = format!("dropped at {at} ms, fenced: {is_fenced}, try: {is_try}");
        assert!(start.elapsed() <= millis(1_200), "{case}: blocked for {:?}", start.elapsed());
        assert!(!one.has_lock("job").unwrap(), "{case}");
        sleep(20_000).await;
        assert!(next.is_valid(), "{case}: what was left behind does not disturb");
        let calls = since(&faults, 0).len();
        sleep(30_000).await;
        assert_eq!(since(&faults, 0).len(), calls, "{case}: nothing of it runs on");
    }
}

#[test]
fn an_acquisition_dropped_at_any_moment_blocks_nobody() {
    for at in STEPS.into_iter().chain((2..LATEST).step_by(13)).chain([LATEST]) {
        simulated(at, dropped_acquisition);
    }
}

/// The network is cut the moment it is dropped: then, and only then, a lease has to be waited for.
#[tokio::test(start_paused = true)]
async fn a_dropped_acquisition_that_can_not_be_taken_back_blocks_for_one_lease() {
    for at in STEPS {
        for is_fenced in [false, true] {
            let engine = Embedded::in_memory().unwrap();
            let faults = Faults::none();
            let one = client(&engine, &faults, 1).await;
            let two = client(&engine, &Faults::none(), 2).await;
            let one = if is_fenced { fenced(&engine, &faults, 1).await } else { one };
            faults.set(|_| slow(20, 20));
            drop(drop_after(at, one.acquire("job")).await);
            faults.set(|_| Fault::LoseRequest);
            let start = Instant::now();
            within(15_000, two.acquire("job")).await.unwrap().release().await.unwrap();
            // What was on its way may arrive up to 20 ms later, and is seen up to a poll later.
            assert!(start.elapsed() <= millis(11_100), "at {at} ms: blocked for {:?}", start.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_never_polled_does_nothing() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let lock = locks.acquire("held").await.unwrap();
    let from = faults.calls().len();
    drop(locks.acquire("job"));
    drop(locks.try_acquire("job"));
    drop(lock.heartbeat().replace_data("data"));
    drop(lock.extend(Duration::from_secs(60)));
    drop(locks.get("job"));
    drop(locks.list());
    drop(locks.force_release("held"));
    drop(locks.repair("job"));
    drop(locks.retire("held"));
    drop(locks.shutdown());
    sleep(1_000).await;
    assert_eq!(faults.calls().len(), from);
    assert!(lock.is_valid() && locks.acquire("job").await.is_ok(), "not shut down either");
    drop(lock.release());
    sleep(100).await;
    let record = locks.get("held").await.unwrap().unwrap();
    assert!(record.is_released(), "a release that is dropped unpolled releases as a drop does");
}

/// R12: what a dropped acquisition saw of a dead holder stays with the client.
#[tokio::test(start_paused = true)]
async fn an_observation_survives_the_acquisition_that_made_it() {
    for at in (21..1_300).step_by(97) {
        let engine = Embedded::in_memory().unwrap();
        let (dead, faults) = (Faults::none(), Faults::none());
        let (one, two) = (client(&engine, &dead, 1).await, client(&engine, &faults, 2).await);
        let _lock = one.acquire("job").await.unwrap();
        dead.set(|_| Fault::LoseRequest);
        faults.set(|_| slow(10, 10));
        let first_sight = Instant::now();
        assert!(drop_after(at, two.acquire("job")).await.is_none());
        tokio::time::sleep_until(first_sight + millis(9_900)).await;
        assert!(within(1_000, two.try_acquire("job")).await.unwrap().is_none(), "not before its lease is over");
        tokio::time::sleep_until(first_sight + millis(10_050)).await;
        let taken = within(1_000, two.try_acquire("job")).await.unwrap();
        assert!(taken.is_some(), "dropped at {at} ms: one lease from the first sight, not two");
    }
}

/// Once polled, a heartbeat goes on without its future.
#[tokio::test(start_paused = true)]
async fn a_heartbeat_and_an_extension_dropped_at_any_moment_go_on() {
    for at in [0, 1, 19, 21, 39] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = client(&engine, &faults, 1).await;
        let lock = locks.acquire("job").await.unwrap();
        faults.set(|_| slow(20, 20));
        assert!(drop_after(at, lock.heartbeat().replace_data("new")).await.is_none());
        sleep(100).await;
        assert_eq!(attribute(&engine, "data").await, Some(bytes("new")), "at {at} ms");
        assert_eq!(lock.data().as_deref(), Some(&b"new"[..]));
        assert!(drop_after(at, lock.extend(Duration::from_secs(60))).await.is_none());
        sleep(100).await;
        assert_eq!(attribute(&engine, "leaseDuration").await, Some(text("1m0s")), "at {at} ms");
        assert!(lock.remaining() > millis(47_000));
        lock.heartbeat().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_dropped_at_any_moment_goes_on() {
    for at in [0, 1, 19, 21, 39] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = client(&engine, &faults, 1).await;
        let lock = locks.acquire("job").await.unwrap();
        faults.set(|_| slow(20, 20));
        assert!(drop_after(at, lock.release().data("last")).await.is_none());
        sleep(100).await;
        assert_eq!(attribute(&engine, "isReleased").await, Some(text("1")), "at {at} ms");
        assert_eq!(attribute(&engine, "data").await, Some(bytes("last")), "with all that was asked of it");
        assert!(!locks.has_lock("job").unwrap());
    }
}

/// What hangs is dropped with its future: neither a place among the requests nor a page is lost by it.
#[tokio::test(start_paused = true)]
async fn reads_that_are_dropped_free_their_places() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let lock = locks.acquire("job").await.unwrap();
    faults.set(|call| if call.operation == "UpdateItem" { Fault::Deliver } else { Fault::LoseRequest });
    let dropped = Instant::now();
    // More than may be under way at once.
    for _ in 0..150 {
        poll_once(locks.get("job")).await;
        poll_once(locks.try_acquire("other")).await;
        assert!(drop_after(1, locks.get("job")).await.is_none());
        assert!(drop_after(1, locks.list().next()).await.is_none());
        assert!(drop_after(1, locks.force_release("job")).await.is_none());
    }
    assert!(dropped.elapsed() < millis(1_000), "all of them within one request's bound");
    faults.set(|_| Fault::Deliver);
    let asked = Instant::now();
    assert_eq!(locks.get("job").await.unwrap().unwrap().owner(), "node-1");
    assert_eq!(locks.list().count().await, 1);
    assert!(asked.elapsed() < millis(10), "{:?}", asked.elapsed());
    assert!(lock.is_valid());
}

/// A listing stands between two items and goes on from there, and a page under way is dropped with the stream.
#[tokio::test(start_paused = true)]
async fn a_listing_whose_next_item_is_given_up_goes_on() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    for index in 0..300 {
        let mut item = record("v1", "10s");
        item[0].1 = text(&format!("job-{index}"));
        put(&engine, &item).await;
    }
    faults.set(|_| slow(20, 20));
    let mut stream = locks.list();
    let mut keys = std::collections::BTreeSet::new();
    loop {
        match drop_after(15, stream.next()).await {
            None => {}
            Some(Some(found)) => assert!(keys.insert(found.unwrap().key().clone()), "an item twice"),
            Some(None) => break,
        }
    }
    assert_eq!(keys.len(), 300, "none is missing");
}

/// Either it was applied or it was not; its holder, and the next one, find out the usual way.
#[tokio::test(start_paused = true)]
async fn a_forced_release_dropped_at_any_moment_is_done_or_not_done() {
    let mut outcomes = [0, 0];
    for at in (0..82).step_by(3) {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let (one, two) = (client(&engine, &Faults::none(), 1).await, client(&engine, &faults, 2).await);
        let lock = one.acquire("job").await.unwrap();
        faults.set(|_| slow(20, 20));
        drop_after(at, two.force_release("job")).await.map(|record| record.unwrap().unwrap());
        sleep(100).await;
        let released = raw(&engine, "job").await.unwrap().contains_key("isReleased");
        outcomes[usize::from(released)] += 1;
        sleep(4_000).await;
        assert_eq!(lock.is_valid(), !released, "at {at} ms");
        let tried = within(1_000, two.try_acquire("job")).await.unwrap();
        assert_eq!(tried.is_some(), released, "at {at} ms");
    }
    assert!(outcomes.iter().all(|count| *count > 5), "both were seen: {outcomes:?}");
}

/// Once polled, a shutdown goes on without its future; called again it tells what became of each.
#[tokio::test(start_paused = true)]
async fn a_shutdown_dropped_at_any_moment_goes_on() {
    for at in [0, 1, 19, 21, 39] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = client(&engine, &faults, 1).await;
        let _held = [locks.acquire("one").await.unwrap(), locks.acquire("two").await.unwrap()];
        faults.set(|_| slow(20, 20));
        assert!(drop_after(at, locks.shutdown()).await.is_none(), "at {at} ms");
        sleep(100).await;
        for key in ["one", "two"] {
            assert!(raw(&engine, key).await.unwrap().contains_key("isReleased"), "{key}, at {at} ms");
        }
        let report = within(1, locks.shutdown()).await;
        assert_eq!(report.locks.len(), 2);
        assert!(report.locks.iter().all(|(_, outcome)| *outcome == ReleaseOutcome::Released), "{report:?}");
        assert_eq!(kind(locks.acquire("three").await), ErrorKind::Closed);
    }
}

/// A token that was sealed for a term nobody got is burnt, never handed out twice.
#[tokio::test(start_paused = true)]
async fn tokens_of_dropped_acquisitions_are_never_handed_out_again() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let mut last = 0;
    for (round, at) in (60..165).step_by(15).enumerate() {
        let locks = fenced(&engine, &faults, round as u64).await;
        faults.set(|_| slow(20, 20));
        assert!(drop_after(at, locks.acquire("job")).await.is_none());
        faults.set(|_| Fault::Deliver);
        let lock = within(3_000, locks.acquire("job")).await.unwrap();
        let token = lock.fencing_token().unwrap();
        assert!(token > last, "{token} after {last}");
        assert_eq!(raw(&engine, "job#fence").await.unwrap()["fencingToken"], number(token));
        last = token;
        lock.release().await.unwrap();
    }
}

crate::privileges::suite! {
    a_dropped_acquisition_that_can_not_be_taken_back_blocks_for_one_lease,
    what_was_never_polled_does_nothing,
    an_observation_survives_the_acquisition_that_made_it,
    a_heartbeat_and_an_extension_dropped_at_any_moment_go_on,
    a_release_dropped_at_any_moment_goes_on,
    reads_that_are_dropped_free_their_places,
    a_listing_whose_next_item_is_given_up_goes_on,
    a_forced_release_dropped_at_any_moment_is_done_or_not_done,
    a_shutdown_dropped_at_any_moment_goes_on,
    tokens_of_dropped_acquisitions_are_never_handed_out_again,
}
