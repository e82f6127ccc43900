//! Changing the lease of a lock that is held: what is longer counts late, what is shorter counts early (R1).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynamo_elector::{Embedded, EndReason, ErrorKind, Fault, Faults, Lock, Timing};
use tokio::time::Instant;

use crate::support::{
    attribute, body, kind, millis, poll_once, put, record, simulated, since, sleep, slow, text, within,
};
use crate::{builder, client};

const MINUTE: Duration = Duration::from_secs(60);

async fn held(faults: &Faults) -> (Embedded, Lock) {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, faults, 1).await;
    let lock = locks.acquire("job").await.unwrap();
    (engine, lock)
}

#[tokio::test(start_paused = true)]
async fn a_longer_lease_counts_once_it_came_through_and_from_its_send() {
    let faults = Faults::none();
    let (engine, lock) = held(&faults).await;
    faults.set(|_| slow(100, 400));
    let sent = Instant::now();
    let extend = lock.extend(MINUTE);
    tokio::pin!(extend);
    assert!(tokio::time::timeout(millis(450), &mut extend).await.is_err(), "not answered yet");
    assert!(lock.remaining() <= millis(8_000), "{:?} promised before the answer", lock.remaining());
    assert_eq!(attribute(&engine, "leaseDuration").await, Some(text("1m0s")), "applied by now, all the same");
    extend.await.unwrap();
    // 80 % of a minute, from the send.
    let expected = millis(48_000) - sent.elapsed();
    let off = lock.remaining().abs_diff(expected);
    assert!(off <= millis(2), "{:?} left, {expected:?} expected", lock.remaining());
    for _ in 0..60 {
        sleep(1_000).await;
        // A beat may be skipped while another is under way: its answer takes half a second here.
        assert!(lock.remaining() >= millis(44_400), "every further heartbeat carries it: {:?}", lock.remaining());
    }
    assert_eq!(attribute(&engine, "leaseDuration").await, Some(text("1m0s")));
}

/// The asking side hears of the failure; what it asked for is not forgotten.
#[tokio::test(start_paused = true)]
async fn a_longer_lease_that_did_not_come_through_is_tried_again_by_the_heartbeats() {
    let faults = Faults::none();
    let (engine, lock) = held(&faults).await;
    faults.set(|_| Fault::LoseRequest);
    assert_eq!(kind(within(2_500, lock.extend(MINUTE)).await), ErrorKind::Unavailable);
    assert!(lock.remaining() <= millis(6_100), "nothing was promised: {:?}", lock.remaining());
    faults.set(|_| Fault::Deliver);
    sleep(1_500).await;
    assert!(lock.remaining() > millis(40_000), "{:?}", lock.remaining());
    assert_eq!(attribute(&engine, "leaseDuration").await, Some(text("1m0s")));
}

/// Whatever becomes of the shortening beat: from its send on at most the shorter validity is believed, and whoever
/// waits takes over after the shorter lease, never before the holder has stopped.
async fn shortened(seed: u64) {
    let (faults, others) = (Faults::none(), Faults::none());
    let (engine, lock) = held(&faults).await;
    let other = client(&engine, &others, seed + 1_000).await;
    lock.extend(MINUTE).await.unwrap();
    let taken = Arc::new(Mutex::new(None));
    let first_claim = Arc::clone(&taken);
    others.set(move |call| {
        if call.operation == "UpdateItem" {
            first_claim.lock().unwrap().get_or_insert(Instant::now());
        }
        Fault::Deliver
    });
    let next = tokio::spawn(async move { other.acquire("job").await.unwrap() });
    sleep(1 + seed * 331 % 3_000).await;
    // The first write is applied, its answer is late or lost; then the network is cut.
    let mut first = true;
    faults.set(move |_| match (std::mem::take(&mut first), seed % 3) {
        (false, _) => Fault::LoseRequest,
        (true, 0) => Fault::LoseReply,
        (true, 1) => slow(20, 900),
        (true, _) => slow(700, 200),
    });
    let sent = Instant::now();
    poll_once(lock.extend(millis(10_000))).await;
    sleep(1).await;
    let left = lock.remaining();
    assert!(left <= millis(8_000), "seed {seed}: {left:?} believed while the answer is open");
    lock.lost().cancelled().await;
    let stopped = sent.elapsed();
    assert!(!lock.is_valid());
    assert!(stopped <= millis(8_002), "seed {seed}: stopped after {stopped:?}");
    assert_eq!(lock.end_reason(), Some(EndReason::Deadline));
    let next = within(15_000, next).await.unwrap();
    let taken = taken.lock().unwrap().expect("somebody took over").duration_since(sent);
    assert!(taken >= stopped + Timing::default().guard(), "seed {seed}: taken over {taken:?}, stopped {stopped:?}");
    assert!(taken <= millis(12_000), "seed {seed}: the shorter lease counts: {taken:?}");
    assert!(next.fencing_token().unwrap() > lock.fencing_token().unwrap());
}

#[test]
fn a_shorter_lease_counts_from_its_send_whatever_becomes_of_its_answer() {
    for seed in 0..30 {
        simulated(seed, shortened);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shorter_lease_that_never_arrived_is_kept_by_its_holder_all_the_same() {
    let faults = Faults::none();
    let (engine, lock) = held(&faults).await;
    lock.extend(MINUTE).await.unwrap();
    faults.set(|_| Fault::LoseRequest);
    let sent = Instant::now();
    assert_eq!(kind(within(2_500, lock.extend(millis(10_000))).await), ErrorKind::Unavailable);
    lock.lost().cancelled().await;
    assert!(sent.elapsed() <= millis(8_002), "{:?}", sent.elapsed());
    assert_eq!(attribute(&engine, "leaseDuration").await, Some(text("1m0s")), "the table never heard of it");
}

/// Longer, shorter, longer, with every kind of answer: nobody else's claim is sent while this holder believes.
async fn changes_of_mind(seed: u64) {
    let (faults, others) = (Faults::none(), Faults::none());
    let (engine, lock) = held(&faults).await;
    let lock = Arc::new(lock);
    let other = client(&engine, &others, seed + 1_000).await;
    let (watched, overlap) = (Arc::clone(&lock), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&overlap);
    others.set(move |call| {
        if call.operation == "UpdateItem" && watched.is_valid() {
            seen.lock().unwrap().push(watched.remaining());
        }
        Fault::Deliver
    });
    let next = tokio::spawn(async move { other.acquire("job").await.unwrap() });
    let mut random = fastrand::Rng::with_seed(seed);
    let mut dice = random.fork();
    faults.set(move |_| match dice.u32(0..10) {
        0 | 1 => Fault::LoseReply,
        2 => Fault::LoseRequest,
        3 => slow(dice.u64(1..1_500), dice.u64(1..800)),
        _ => Fault::Deliver,
    });
    for _ in 0..12 {
        let lease = [10_000, 20_000, 60_000][random.usize(0..3)];
        // Not held any more, with bad luck: that is fine as well.
        let _ = futures::poll!(Box::pin(lock.extend(millis(lease))));
        sleep(random.u64(1..5_000)).await;
    }
    faults.set(move |_| if seed.is_multiple_of(2) { Fault::LoseRequest } else { slow(9_000, 1) });
    lock.lost().cancelled().await;
    assert!(!lock.is_valid(), "seed {seed}");
    let next = within(80_000, next).await.unwrap();
    assert!(next.is_valid() && !lock.is_valid(), "seed {seed}");
    assert!(overlap.lock().unwrap().is_empty(), "seed {seed}: two holders, {overlap:?}");
}

#[test]
fn no_change_of_the_lease_lets_two_hold_in_30_seeds() {
    for seed in 0..30 {
        simulated(seed, changes_of_mind);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_can_not_work_is_refused_with_both_numbers_and_nothing_is_sent() {
    let faults = Faults::none();
    let (engine, lock) = held(&faults).await;
    let from = faults.calls().len();
    for (lease, words) in [
        (Duration::ZERO, vec!["1s"]),
        (millis(999), vec!["999ms", "1s"]),
        // Validity 6.4 s, and 2.5 s + 2 * 2 s are needed.
        (millis(8_000), vec!["6.4s", "6.5s"]),
        (Duration::from_micros(12_345_678), vec!["whole milliseconds"]),
        (Duration::from_secs(367 * 86_400), vec!["31622400s"]),
        (Duration::MAX, vec!["31622400s"]),
    ] {
        let error = lock.extend(lease).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{lease:?}");
        for word in words {
            assert!(error.to_string().contains(word), "{lease:?}: {error} does not say {word}");
        }
    }
    sleep(1).await;
    assert_eq!(faults.calls().len(), from, "nothing was sent");
    sleep(10_000).await;
    assert!(since(&faults, from).len() >= 4, "heartbeats went on");
    assert_eq!(attribute(&engine, "leaseDuration").await, Some(text("10s")), "and promise what they did before");
}

/// Whoever shares the record must be able to read it.
#[tokio::test(start_paused = true)]
async fn the_lease_is_written_in_the_records_own_text() {
    for (found, written) in [("10s", "1m0s"), ("10000", "60000")] {
        let engine = Embedded::in_memory().unwrap();
        let locks = client(&engine, &Faults::none(), 1).await;
        let mut item = record("v1", found);
        item.push(("isReleased", text("1")));
        put(&engine, &item).await;
        let lock = locks.acquire("job").await.unwrap();
        assert_eq!(attribute(&engine, "leaseDuration").await, Some(text(found)));
        lock.extend(MINUTE).await.unwrap();
        assert_eq!(attribute(&engine, "leaseDuration").await, Some(text(written)));
        sleep(10_000).await;
        assert_eq!(attribute(&engine, "leaseDuration").await, Some(text(written)), "heartbeats keep it");
    }
}

#[tokio::test(start_paused = true)]
async fn an_extension_is_one_write_and_works_without_heartbeats() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = builder(&engine, &faults, 1).without_heartbeats().build().await.unwrap();
    let lock = locks.acquire("job").await.unwrap();
    let from = faults.calls().len();
    lock.extend(MINUTE).await.unwrap();
    let calls = since(&faults, from);
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(body(&calls[0])["ExpressionAttributeValues"][":lease"]["S"], "1m0s");
    sleep(47_000).await;
    assert!(lock.is_valid());
    lock.lost().cancelled().await;
    sleep(1).await;
    assert_eq!(faults.calls().len(), from + 1, "nothing while its holder may not have noticed");
    drop(lock);
    sleep(1).await;
    assert_eq!(faults.calls().len(), from + 2, "and a release, once it has let go");
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_over_can_not_be_extended() {
    let faults = Faults::none();
    let (_engine, lock) = held(&faults).await;
    faults.set(|_| Fault::LoseRequest);
    lock.lost().cancelled().await;
    faults.set(|_| Fault::Deliver);
    assert_eq!(kind(lock.extend(MINUTE).await), ErrorKind::NotHeld);
    assert!(!lock.is_valid() && lock.remaining().is_zero());
}

crate::privileges::suite! {
    a_longer_lease_counts_once_it_came_through_and_from_its_send,
    a_longer_lease_that_did_not_come_through_is_tried_again_by_the_heartbeats,
    a_shorter_lease_that_never_arrived_is_kept_by_its_holder_all_the_same,
    a_lease_that_can_not_work_is_refused_with_both_numbers_and_nothing_is_sent,
    the_lease_is_written_in_the_records_own_text,
    an_extension_is_one_write_and_works_without_heartbeats,
    a_lock_that_is_over_can_not_be_extended,
}
