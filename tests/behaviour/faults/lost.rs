//! Writes and answers that are lost, late, or come twice.

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{Call, EndReason, Fault, ReleaseOutcome};
use tokio::time::Instant;

use super::pair::{HEARTBEAT, LEASE, POLL, Pair, Replica, VALIDITY};
use crate::support::{Item, millis, raw, since, sleep, slow, text, value, within};

/// What the table holds under `name`.
async fn stored(pair: &Pair, name: &str) -> Option<AttributeValue> {
    let item: Item = raw(&pair.engine, "e").await.unwrap();
    item.get(name).cloned()
}

/// The version that a write installs.
fn version(call: &Call) -> String {
    value(call, ":version").unwrap()["S"].as_str().unwrap().to_owned()
}

fn renews(call: &Call) -> bool {
    call.operation == "UpdateItem" && !call.body.contains(":released") && !call.body.contains(":owner")
}

/// R3: the SDK sends again what was applied already. It is the same write, and it says so itself.
#[tokio::test(start_paused = true)]
async fn an_applied_write_that_the_sdk_repeats_is_recognised() {
    let pair = Pair::new().await;
    let from = pair.one.faults.calls().len();
    let first_send = Arc::new(Mutex::new(None));
    let (sent, mut writes) = (Arc::clone(&first_send), 0);
    pair.one.faults.set(move |call| {
        writes += u32::from(renews(call));
        if writes == 1 {
            *sent.lock().unwrap() = Some(Instant::now());
            return Fault::LoseReply;
        }
        Fault::Deliver
    });
    while since(&pair.one.faults, from).len() < 2 {
        sleep(1).await;
    }
    sleep(1).await;
    let calls = since(&pair.one.faults, from);
    assert_eq!(version(&calls[0]), version(&calls[1]), "the very same write");
    assert_eq!(stored(&pair, "recordVersionNumber").await, Some(text(&version(&calls[0]))));
    let sent = first_send.lock().unwrap().unwrap();
    assert!(sent.elapsed() >= millis(1_000), "the SDK waited for an attempt");
    // It counts from the first send, since others have counted from when they saw it.
    let left = pair.one.elector.leadership().unwrap().remaining();
    let due = millis(VALIDITY) - sent.elapsed();
    assert!(left <= due && left + millis(2) >= due, "{left:?}, {due:?} left of the first send");
    let (stopped, _) = pair.watch(20_000).await;
    assert_eq!((stopped, pair.one.token(), pair.two.token()), (None, Some(1), None));
}

/// The same for a claim: nobody else is let in, and it is the first term all the same.
#[tokio::test(start_paused = true)]
async fn a_claim_that_was_applied_unseen_is_adopted() {
    for lost in 1..=5 {
        let engine = dynamo_elector::Embedded::in_memory().unwrap();
        let one = Replica::start(&engine, 1).await;
        let mut writes = 0;
        one.faults.set(move |call| {
            writes += u32::from(call.operation == "UpdateItem");
            if call.operation == "UpdateItem" && writes <= lost { Fault::LoseReply } else { Fault::Deliver }
        });
        let took = one.led(20_000).await;
        assert_eq!(one.token(), Some(1), "{lost} answers lost: its own write, not a term of somebody else");
        // Every answer that is lost costs an attempt of a second and a pause.
        assert!(took <= millis(u64::from(lost) * 1_500 + 100), "{lost} lost: {took:?}");
        let two = Replica::start(&engine, 2).await;
        sleep(30_000).await;
        assert!(one.leads() && one.token() == Some(1) && !two.leads());
    }
}

/// A network that delivers an old heartbeat once more, after newer ones, after a release, after a take-over.
#[tokio::test(start_paused = true)]
async fn an_old_renewal_that_is_delivered_again_changes_nothing() {
    for after in [100, HEARTBEAT + 700, 2 * HEARTBEAT, LEASE + POLL, 3 * LEASE] {
        let pair = Pair::new().await;
        let mut copied = false;
        pair.one.faults.set(move |call| {
            if renews(call) && !std::mem::replace(&mut copied, true) {
                return Fault::Duplicate { after: millis(after) };
            }
            Fault::Deliver
        });
        let began = Instant::now();
        let epoch = pair.two.elector.status().borrow().epoch;
        while began.elapsed() < millis(after + 2 * HEARTBEAT) {
            let written = since(&pair.one.faults, 0).iter().rev().find(|call| renews(call)).map(version).unwrap();
            assert_eq!(
                stored(&pair, "recordVersionNumber").await,
                Some(text(&written)),
                "{after} ms: the newest stays"
            );
            assert!(pair.one.leads());
            sleep(20).await;
        }
        assert_eq!(pair.two.elector.status().borrow().epoch, epoch, "{after} ms: the follower saw nothing");
        assert_eq!(pair.one.trouble(), None, "{after} ms: nor did the leader");
        pair.close().await;
    }
    // Its sender has handed over by then.
    let pair = Pair::new().await;
    pair.one.faults.set(|call| if renews(call) { Fault::Duplicate { after: millis(20_000) } } else { Fault::Deliver });
    sleep(2 * HEARTBEAT).await;
    assert_eq!(within(5_000, pair.one.elector.hand_over()).await, Some(ReleaseOutcome::Released));
    pair.two.led(2_000).await;
    let (epoch, began) = (pair.two.elector.status().borrow().epoch, Instant::now());
    while began.elapsed() < millis(30_000) {
        assert!(pair.two.leads() && pair.two.token() == Some(2));
        assert_eq!(stored(&pair, "ownerName").await, Some(text("node-2")));
        sleep(20).await;
    }
    assert_eq!((pair.two.elector.status().borrow().epoch, pair.two.trouble()), (epoch, None));
}

/// R1: answers that come, each after more than the validity, extend nothing. Its writes are applied all the while, its release
/// among them.
#[tokio::test(start_paused = true)]
async fn answers_slower_than_the_validity_extend_nothing() {
    let pair = Pair::new().await;
    let (from, sent) = (pair.one.faults.calls().len(), Arc::new(Mutex::new(Instant::now())));
    let last = Arc::clone(&sent);
    pair.one.faults.set(move |call| {
        if renews(call) {
            *last.lock().unwrap() = Instant::now();
        }
        slow(0, VALIDITY + 1_000)
    });
    let began = Instant::now();
    let (stopped, took_over) = pair.watch(2 * LEASE + 5_000).await;
    let (stopped, took_over) = (stopped.unwrap(), took_over.unwrap());
    assert!(stopped <= millis(VALIDITY) && stopped >= millis(VALIDITY - HEARTBEAT - 10), "{stopped:?}");
    assert_eq!(pair.one.last_end(), Some(EndReason::Deadline));
    let writes = since(&pair.one.faults, from).iter().filter(|call| renews(call)).count();
    assert!(writes >= 3, "{writes} renewals were applied without a word");
    // The follower saw each of them, and waited for the last one.
    let last = sent.lock().unwrap().duration_since(began);
    assert!(last > millis(3_000) && last < stopped, "the last one at {last:?}, stopped {stopped:?}");
    // Its release is applied as well: nobody waits for the lease.
    assert!(took_over > stopped && took_over <= stopped + millis(2_000 + POLL + 100), "{stopped:?} {took_over:?}");
    assert_eq!(pair.two.token(), Some(2));
}

/// One request of a lock at a time (R11): a release that is due while a renewal is under way waits for its answer, and a
/// copy of the renewal that arrives after the release revives nothing.
#[tokio::test(start_paused = true)]
async fn a_release_that_races_a_renewal_comes_after_it() {
    for fault in [slow(700, 0), slow(0, 700), slow(350, 350), Fault::LoseReply, Fault::LoseRequest] {
        let pair = Pair::new().await;
        let mut renewals = 0;
        let (script, from) = (fault.clone(), pair.one.faults.calls().len());
        pair.one.faults.set(move |call| {
            renewals += u32::from(renews(call));
            if renewals == 1 && renews(call) { script.clone() } else { Fault::Deliver }
        });
        while since(&pair.one.faults, from).is_empty() {
            sleep(1).await;
        }
        let under_way = Instant::now();
        assert_eq!(within(6_000, pair.one.elector.hand_over()).await, Some(ReleaseOutcome::Released), "{fault:?}");
        let waited = under_way.elapsed();
        assert!(waited >= millis(690), "{fault:?}: released after {waited:?}, beside a renewal");
        let calls = since(&pair.one.faults, from);
        let release = calls.iter().position(|call| call.body.contains(":released")).unwrap();
        assert!(calls[release..].iter().all(|call| !renews(call)), "{fault:?}: nothing is renewed after the release");
        pair.two.led(HEARTBEAT + POLL).await;
        assert_eq!(pair.two.token(), Some(2), "{fault:?}");
        let (stopped, _) = pair.watch(20_000).await;
        assert!(stopped.is_some() && pair.two.leads(), "{fault:?}");
        pair.close().await;
    }
}
