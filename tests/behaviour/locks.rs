//! Locks: acquire, hold, hand over, take over.

use std::future::IntoFuture;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{Embedded, EndReason, ErrorKind, Fault, Faults, Key, ReleaseOutcome};

use crate::{builder, client};

#[tokio::test(start_paused = true)]
async fn a_lock_is_held_by_one_and_handed_over_on_release() {
    let engine = Embedded::in_memory().unwrap();
    let (one, two) = (client(&engine, &Faults::none(), 1).await, client(&engine, &Faults::none(), 2).await);
    let lock = one.acquire("job").await.unwrap();
    assert!(lock.is_valid());
    assert_eq!(lock.fencing_token().unwrap(), 1);
    assert!(two.try_acquire("job").await.unwrap().is_none());
    let record = two.get("job").await.unwrap().unwrap();
    assert_eq!((record.owner(), record.fencing_token(), record.is_released()), ("node-1", Some(1), false));
    assert_eq!(lock.release().await.unwrap(), ReleaseOutcome::Released);
    let next = two.acquire("job").wait_up_to(Duration::from_secs(3)).await.unwrap();
    assert_eq!(next.fencing_token().unwrap(), 2);
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
    assert_eq!(next.fencing_token().unwrap(), 2);
    assert!(waited >= Duration::from_secs(10) && waited < Duration::from_millis(11_500), "{waited:?}");
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

/// Dropping an acquisition at any moment leaks nothing for longer than a lease.
#[tokio::test(start_paused = true)]
async fn an_acquisition_that_is_dropped_takes_its_claim_back() {
    for dropped_after in [0, 1, 5, 30, 400, 1_500] {
        for fault in [Fault::Deliver, Fault::LoseReply, Fault::LoseRequest, slow(20, 20), slow(200, 300)] {
            let engine = Embedded::in_memory().unwrap();
            let faults = Faults::none();
            let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
            let mut first = true;
            let injected = fault.clone();
            faults.set(move |call| {
                if call.operation == "UpdateItem" && std::mem::take(&mut first) {
                    injected.clone()
                } else {
                    Fault::Deliver
                }
            });
            let acquisition = one.acquire("job").into_future();
            let _ = tokio::time::timeout(Duration::from_millis(dropped_after), acquisition).await.map(drop);
            let next = two.acquire("job").wait_up_to(Duration::from_secs(14)).await;
            assert!(next.is_ok(), "dropped after {dropped_after} ms, {fault:?}: {next:?}");
        }
    }
}

fn slow(request: u64, reply: u64) -> Fault {
    Fault::Delay { request: Duration::from_millis(request), reply: Duration::from_millis(reply) }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_given_up_leaves_no_broken_record() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let mut lost = 0;
    faults.set(move |call| {
        lost += u32::from(call.operation == "UpdateItem");
        if call.operation == "UpdateItem" && lost <= 3 { Fault::LoseRequest } else { Fault::Deliver }
    });
    let waited = tokio::time::timeout(Duration::from_millis(1_200), locks.acquire("job").into_future()).await;
    assert!(waited.is_err());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(locks.get("job").await.unwrap().is_none(), "a release creates nothing");
}

#[tokio::test(start_paused = true)]
async fn sort_keys_name_different_locks() {
    let engine = Embedded::in_memory().unwrap();
    let locks = builder(&engine, &Faults::none(), 1).sort_key_name("part").build().await.unwrap();
    let one = locks.acquire(("job", "one")).data("payload").await.unwrap();
    let two = locks.acquire(("job", "two")).wait_up_to(Duration::from_secs(1)).await.unwrap();
    assert!(one.is_valid() && two.is_valid());
    assert_eq!(two.key().to_string(), "job/two");
    assert_eq!(locks.acquire("job").await.unwrap_err().kind(), ErrorKind::InvalidInput, "the sort key is missing");
    let blocked = locks.acquire(("job", "one")).wait_up_to(Duration::from_secs(1)).await;
    assert_eq!(blocked.unwrap_err().kind(), ErrorKind::WaitOver);
}

#[tokio::test(start_paused = true)]
async fn a_try_takes_over_what_earlier_tries_saw_expire() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
    let _dead = one.acquire("job").wait_up_to(Duration::from_secs(5)).await.unwrap();
    faults.set(|_| Fault::LoseRequest);
    let started = tokio::time::Instant::now();
    let lock = loop {
        // R12: each try is a new call; what they saw lives in the client.
        match two.try_acquire("job").await.unwrap() {
            Some(lock) => break lock,
            None if started.elapsed() > Duration::from_secs(60) => panic!("no try ever took it over"),
            None => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    };
    assert_eq!(lock.fencing_token().unwrap(), 2);
    assert!(started.elapsed() < Duration::from_secs(12), "one lease, not two: {:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn shutdown_reports_every_lock_and_may_be_repeated() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let (one, two) = (locks.acquire("one").await.unwrap(), locks.acquire("two").await.unwrap());
    let waiting = locks.clone();
    let pending = tokio::spawn(async move { waiting.acquire("one").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut report = locks.shutdown().await.locks;
    report.sort_by(|a, b| a.0.cmp(&b.0));
    let released = |key: &str| (Key::from(key), ReleaseOutcome::Released);
    assert_eq!(report, [released("one"), released("two")]);
    assert_eq!(one.end_reason(), Some(EndReason::ShutDown));
    assert!(!one.is_valid() && two.lost().is_cancelled());
    assert_eq!(pending.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(locks.shutdown().await.locks.len(), 2, "the same report again");
    assert_eq!(locks.acquire("three").await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(one.heartbeat().await.unwrap_err().kind(), ErrorKind::NotHeld);
}

/// R10: a panic on the keeper ends what it can't renew any more, and says so.
#[tokio::test(start_paused = true)]
async fn a_panic_on_the_keeper_ends_the_lock() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let (lock, other) = (locks.acquire("job").await.unwrap(), locks.acquire("other").await.unwrap());
    faults.set(|call| {
        assert!(!call.body.contains("\"S\":\"job\""), "injected");
        Fault::Deliver
    });
    let lost = lock.lost().cancelled();
    tokio::time::timeout(Duration::from_secs(20), lost).await.expect("the token fires");
    assert_eq!(lock.end_reason(), Some(EndReason::KeeperFailed));
    assert!(!lock.is_valid());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(other.is_valid(), "the others go on");
}

/// R3: that is how an operator, or a client of another make, forces a step-down.
#[tokio::test(start_paused = true)]
async fn a_record_marked_released_ends_the_lock() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let lock = locks.acquire("job").await.unwrap();
    let text = |text: &str| AttributeValue::S(text.into());
    let mark = engine.client().update_item().table_name("locks").key("key", text("job"));
    let mark = mark.update_expression("SET #r = :r").expression_attribute_names("#r", "isReleased");
    mark.expression_attribute_values(":r", text("1")).send().await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), lock.lost().cancelled()).await.expect("its next heartbeat tells");
    assert_eq!(lock.end_reason(), Some(EndReason::ReleasedByAnother));
    assert_eq!(lock.release().await.unwrap(), ReleaseOutcome::AlreadyGone);
}

/// R6: whoever deletes the record under a holder gains nothing.
#[tokio::test(start_paused = true)]
async fn a_record_deleted_under_a_holder_is_waited_out() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
    let lock = one.acquire("job").await.unwrap();
    assert!(two.try_acquire("job").await.unwrap().is_none());
    let seen = tokio::time::Instant::now();
    let delete = engine.client().delete_item().table_name("locks").key("key", AttributeValue::S("job".into()));
    delete.send().await.unwrap();
    let next = two.acquire("job").await.unwrap();
    assert!(!lock.is_valid());
    assert!(seen.elapsed() >= Duration::from_millis(9_900), "{:?}", seen.elapsed());
    assert_eq!(next.fencing_token().unwrap(), 2, "and the tokens go on rising");
}

/// I5: whoever holds a handle has the guard time to notice that the lock has run out, whoever is waiting for it.
#[tokio::test(start_paused = true)]
async fn a_lock_that_runs_out_is_not_handed_on_before_its_holder_can_have_noticed() {
    let engine = Embedded::in_memory().unwrap();
    let one = builder(&engine, &Faults::none(), 1).without_heartbeats().build().await.unwrap();
    let two = client(&engine, &Faults::none(), 2).await;
    for noticed in [false, true] {
        let lock = one.acquire("job").await.unwrap();
        let acquired = tokio::time::Instant::now();
        let waiting = two.acquire("job").refresh_every(Duration::from_millis(5)).into_future();
        let waiting = tokio::spawn(waiting);
        lock.lost().cancelled().await;
        let timing = one.timing();
        assert!(acquired.elapsed() <= timing.validity() + Duration::from_millis(5));
        let outcome = if noticed {
            // It says itself that it has stopped: the next one need not wait.
            lock.release().await.unwrap()
        } else {
            tokio::time::sleep(timing.lease()).await;
            let outcome = lock.release().await.unwrap();
            assert_eq!(outcome, ReleaseOutcome::Expired, "not released under a holder that was silent");
            outcome
        };
        let next = waiting.await.unwrap().unwrap();
        let handed_on = acquired.elapsed() - next.held_for();
        if noticed {
            assert_eq!(outcome, ReleaseOutcome::Released);
            assert!(handed_on < timing.validity() + timing.guard(), "{handed_on:?}");
        } else {
            assert!(handed_on >= timing.validity() + timing.guard(), "handed on after {handed_on:?}");
        }
        next.release().await.unwrap();
    }
}

/// I5, R8: from the moment at which the release leaves nothing says that it is held, whatever becomes of the answer.
#[tokio::test(start_paused = true)]
async fn nothing_is_held_any_more_while_the_release_is_on_its_way() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let lock = locks.acquire("job").await.unwrap();
    assert!(lock.is_valid());
    faults.set(|_| Fault::LoseReply);
    let client = locks.clone();
    let closing = tokio::spawn(async move { client.shutdown().await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!closing.is_finished(), "the release is not answered");
    assert!(!lock.is_valid() && lock.remaining() == Duration::ZERO);
    faults.set(|_| Fault::Deliver);
    closing.await.unwrap();
}

crate::privileges::suite! {
    nothing_is_held_any_more_while_the_release_is_on_its_way,
    a_lock_that_runs_out_is_not_handed_on_before_its_holder_can_have_noticed,
    a_lock_is_held_by_one_and_handed_over_on_release,
    a_dead_holder_is_taken_over_one_lease_after_its_last_beat_was_seen,
    an_applied_heartbeat_whose_reply_is_lost_costs_nothing,
    an_acquisition_that_is_dropped_takes_its_claim_back,
    a_claim_that_was_given_up_leaves_no_broken_record,
    sort_keys_name_different_locks,
    a_try_takes_over_what_earlier_tries_saw_expire,
    shutdown_reports_every_lock_and_may_be_repeated,
    a_panic_on_the_keeper_ends_the_lock,
    a_record_marked_released_ends_the_lock,
    a_record_deleted_under_a_holder_is_waited_out,
}
