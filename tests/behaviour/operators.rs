//! What operators do: release by force, repair, retire.

use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{Embedded, EndReason, ErrorKind, Fault, Faults, ReleaseOutcome};
use tokio::time::Instant;

use crate::client;
use crate::support::{attribute, bytes, kind, millis, number, put, raw, record, since, sleep, text, within};

#[tokio::test(start_paused = true)]
async fn a_forced_release_ends_a_live_holder_and_frees_the_lock_at_once() {
    let engine = Embedded::in_memory().unwrap();
    let (one, two) = (client(&engine, &Faults::none(), 1).await, client(&engine, &Faults::none(), 2).await);
    let lock = one.acquire("job").data("kept").attribute("team", text("blue")).await.unwrap();
    sleep(30_000).await;
    let forced = Instant::now();
    let released = two.force_release("job").await.unwrap().unwrap();
    assert!(released.is_released() && released.is_expired());
    assert_eq!((released.owner(), released.data()), ("node-1", Some(&b"kept"[..])), "all the rest is left alone");
    let next = two.try_acquire("job").await.unwrap().expect("free at once");
    assert_eq!(forced.elapsed(), millis(0));
    assert_eq!(next.fencing_token().unwrap(), 2);
    lock.lost().cancelled().await;
    assert!(forced.elapsed() <= millis(2_501), "at its next heartbeat: {:?}", forced.elapsed());
    // Somebody else holds it by then, so that is what it finds.
    assert_eq!(lock.end_reason(), Some(EndReason::TakenOver));
    assert!(!lock.is_valid());
    assert_eq!(lock.release().await.unwrap(), ReleaseOutcome::AlreadyGone);
    sleep(20_000).await;
    assert!(next.is_valid(), "the loser's release does not touch the next one");
    two.force_release("job").await.unwrap();
    next.lost().cancelled().await;
    assert_eq!(next.end_reason(), Some(EndReason::ReleasedByAnother));
}

/// A heartbeat of Go's dynamolock: conditional on the version it wrote, and on nothing else.
async fn go_heartbeat(engine: &Embedded, seen: &str) -> bool {
    let beat = engine.client().put_item().table_name("locks").condition_expression("#v = :v");
    let beat = beat.expression_attribute_names("#v", "recordVersionNumber");
    let beat = beat.expression_attribute_values(":v", text(seen));
    let item = record("go-2", "20s");
    item.iter().fold(beat, |beat, (name, value)| beat.item(*name, value.clone())).send().await.is_ok()
}

/// A client of another make does not look at the mark when it renews: only another version stops it.
#[tokio::test(start_paused = true)]
async fn a_forced_release_of_a_foreign_holder_makes_its_heartbeat_fail() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let mut item = record("go-1", "20s");
    item.push(("team", text("blue")));
    put(&engine, &item).await;
    let released = locks.force_release("job").await.unwrap().unwrap();
    assert!(released.is_released());
    assert_eq!((released.owner(), released.fencing_token()), ("somebody", None), "no token is claimed for its term");
    assert_eq!(released.attributes().get("team"), Some(&text("blue")));
    assert!(!go_heartbeat(&engine, "go-1").await, "it would have revived the lock");
    let lock = locks.try_acquire("job").await.unwrap().expect("free at once");
    assert!(!go_heartbeat(&engine, "go-1").await && lock.is_valid());
}

/// What another make keeps in our attributes is not vouched for by what an operator writes.
#[tokio::test(start_paused = true)]
async fn a_foreign_record_with_odd_attributes_stays_readable_under_operators() {
    for (name, odd) in [("fencingToken", text("seven")), ("heartbeatMillis", text("often"))] {
        let engine = Embedded::in_memory().unwrap();
        let locks = client(&engine, &Faults::none(), 1).await;
        let mut item = record("go-1", "20s");
        item.push((name, odd));
        put(&engine, &item).await;
        assert!(locks.get("job").await.unwrap().is_some(), "a lock record as it stands");
        let released = locks.force_release("job").await.unwrap().unwrap();
        assert!(released.is_released(), "{name}");
        locks.retire("job").await.unwrap();
        let lock = locks.try_acquire("job").await.unwrap().expect("free");
        let token = lock.fencing_token().unwrap_err();
        assert_eq!(token.kind(), ErrorKind::NoFencing, "{name}: nobody vouches for what another client left");
        assert!(locks.get("job").await.unwrap().is_some(), "{name}: what was claimed is sound");
    }
}

#[tokio::test(start_paused = true)]
async fn a_forced_release_of_what_is_free_changes_nothing() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    assert!(locks.force_release("job").await.unwrap().is_none(), "absent");
    locks.acquire("job").await.unwrap().release().await.unwrap();
    let before = raw(&engine, "job").await;
    let from = faults.calls().len();
    assert!(locks.force_release("job").await.unwrap().unwrap().is_released());
    assert_eq!(since(&faults, from).len(), 1, "a look, and no write");
    assert_eq!(raw(&engine, "job").await, before);
    put(&engine, &[("key", text("job")), ("precious", text("data"))]).await;
    assert_eq!(kind(locks.force_release("job").await), ErrorKind::MalformedRecord);
    assert_eq!(kind(locks.retire("job").await), ErrorKind::MalformedRecord);
    assert_eq!(raw(&engine, "job").await.unwrap().len(), 2, "untouched");
}

#[tokio::test(start_paused = true)]
async fn a_forced_release_whose_answer_is_lost_is_recognised() {
    for foreign in [true, false] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = client(&engine, &faults, 1).await;
        if foreign {
            put(&engine, &record("go-1", "20s")).await;
        } else {
            let owner = client(&engine, &Faults::none(), 2).await;
            std::mem::forget(owner.acquire("job").await.unwrap());
        }
        let mut first = true;
        faults.set(move |call| {
            let lost = call.operation == "UpdateItem" && std::mem::take(&mut first);
            if lost { Fault::LoseReply } else { Fault::Deliver }
        });
        assert!(within(3_000, locks.force_release("job")).await.unwrap().unwrap().is_released(), "foreign: {foreign}");
    }
}

fn damage() -> Vec<(&'static str, Option<AttributeValue>)> {
    vec![
        ("recordVersionNumber", None),
        ("recordVersionNumber", Some(number(7))),
        ("recordVersionNumber", Some(text(""))),
        ("ownerName", None),
        ("ownerName", Some(AttributeValue::Bool(true))),
        ("leaseDuration", None),
        ("leaseDuration", Some(text("1d"))),
        ("leaseDuration", Some(number(10))),
        ("leaseDuration", Some(text("20000h"))),
        ("data", Some(text("not binary"))),
    ]
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_damage_is_repaired_and_the_lock_is_free_at_once() {
    for (name, value) in damage() {
        let engine = Embedded::in_memory().unwrap();
        let locks = client(&engine, &Faults::none(), 1).await;
        let mut item = record("v1", "10s");
        item.extend([("fencingToken", number(41)), ("team", text("blue")), ("data", bytes("kept"))]);
        item.retain(|(attribute, _)| *attribute != name);
        item.extend(value.clone().map(|value| (name, value)));
        put(&engine, &item).await;
        let case = format!("{name} {value:?}");
        assert_eq!(kind(locks.try_acquire("job").await), ErrorKind::MalformedRecord, "{case}");
        let repaired = locks.repair("job").await.unwrap();
        assert!(repaired.is_released() && repaired.is_expired(), "{case}");
        assert_eq!(repaired.attributes().get("team"), Some(&text("blue")), "{case}");
        assert_eq!(repaired.data(), (name != "data").then_some(&b"kept"[..]), "{case}");
        assert_eq!(repaired.owner(), if name == "ownerName" { "repaired" } else { "somebody" }, "{case}");
        let lock = locks.try_acquire("job").await.unwrap().expect("free at once");
        assert_eq!(lock.fencing_token().unwrap(), 42, "{case}: the floor of the tokens is kept");
        lock.release().await.unwrap();
        // Sound again: left alone.
        let before = raw(&engine, "job").await;
        locks.repair("job").await.unwrap();
        assert_eq!(raw(&engine, "job").await, before, "{case}");
    }
}

/// Behind our stamp these count as well, so a repair must mend them too.
#[tokio::test(start_paused = true)]
async fn damage_to_our_own_attributes_is_repaired() {
    for (name, value) in [
        ("heartbeatMillis", text("often")),
        ("heartbeatMillis", AttributeValue::N("2.5".into())),
        ("heartbeatMillis", AttributeValue::N("-1".into())),
        ("fencingToken", text("seven")),
        ("fencingToken", AttributeValue::N("1.5".into())),
        ("fencingToken", number(u64::MAX)),
    ] {
        for foreign in [false, true] {
            let engine = Embedded::in_memory().unwrap();
            let locks = client(&engine, &Faults::none(), 1).await;
            let mut item = record("v1", "10s");
            item.push((name, value.clone()));
            if foreign {
                // Not believed where another make wrote last; the mend makes the record ours.
                item.retain(|(name, _)| *name != "leaseDuration");
            } else {
                item.push(("stampedVersion", text("1:v1")));
            }
            put(&engine, &item).await;
            assert_eq!(kind(locks.get("job").await), ErrorKind::MalformedRecord, "{name} {value:?}");
            let repaired = locks.repair("job").await;
            assert!(repaired.is_ok_and(|record| record.is_released()), "{name} {value:?}, foreign: {foreign}");
            assert!(locks.try_acquire("job").await.unwrap().is_some());
        }
    }
}

/// Where the token can't be read, what this client has seen is the floor.
#[tokio::test(start_paused = true)]
async fn a_repair_raises_the_token_above_all_that_was_seen() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    for _ in 0..5 {
        locks.acquire("job").await.unwrap().release().await.unwrap();
    }
    put(&engine, &[("key", text("job")), ("junk", text("data"))]).await;
    assert_eq!(locks.repair("job").await.unwrap().fencing_token(), Some(5));
    let fresh = client(&engine, &Faults::none(), 2).await;
    assert_eq!(fresh.acquire("job").await.unwrap().fencing_token().unwrap(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_record_is_repaired_loses_it_at_its_next_heartbeat() {
    let engine = Embedded::in_memory().unwrap();
    let (one, two) = (client(&engine, &Faults::none(), 1).await, client(&engine, &Faults::none(), 2).await);
    let lock = one.acquire("job").await.unwrap();
    let mut item = raw(&engine, "job").await.unwrap();
    item.remove("leaseDuration");
    engine.client().put_item().table_name("locks").set_item(Some(item)).send().await.unwrap();
    two.repair("job").await.unwrap();
    let next = two.try_acquire("job").await.unwrap().unwrap();
    within(2_501, lock.lost().cancelled()).await;
    assert!(!lock.is_valid() && next.fencing_token().unwrap() == 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_absent_or_of_a_newer_format_is_not_touched_by_anybody() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    assert_eq!(kind(locks.repair("job").await), ErrorKind::NoRecord);
    assert_eq!(kind(locks.retire("job").await), ErrorKind::NoRecord);
    assert!(raw(&engine, "job").await.is_none(), "nothing is made up");
    let mut item = record("v1", "10s");
    item.push(("stampedVersion", text("2:v1")));
    put(&engine, &item).await;
    let before = raw(&engine, "job").await;
    assert_eq!(kind(locks.repair("job").await), ErrorKind::NewerFormat);
    assert_eq!(kind(locks.force_release("job").await), ErrorKind::NewerFormat);
    assert_eq!(kind(locks.retire("job").await), ErrorKind::NewerFormat);
    assert_eq!(raw(&engine, "job").await, before);
}

#[tokio::test(start_paused = true)]
async fn a_retired_lock_is_empty_and_its_tokens_go_on_rising() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    for _ in 0..6 {
        locks.acquire("job").await.unwrap().release().await.unwrap();
    }
    let lock = locks.acquire("job").data("payload").attribute("team", text("blue")).await.unwrap();
    assert_eq!(kind(locks.retire("job").await), ErrorKind::Held);
    assert!(lock.is_valid(), "its holder is left alone");
    lock.heartbeat().await.unwrap();
    lock.release().await.unwrap();
    let retired = locks.retire("job").await.unwrap();
    assert!(retired.is_released());
    assert_eq!((retired.data(), retired.attributes().len(), retired.fencing_token()), (None, 0, Some(7)));
    for gone in ["data", "team", "heartbeatMillis", "acquiredAt"] {
        assert_eq!(attribute(&engine, gone).await, None, "{gone}");
    }
    // A client that has never seen it.
    let fresh = client(&engine, &Faults::none(), 2).await;
    let next = fresh.try_acquire("job").await.unwrap().unwrap();
    assert_eq!((next.fencing_token().unwrap(), next.data(), next.attributes().len()), (8, None, 0));
    // A dead holder's lock is not released either.
    std::mem::forget(next);
    assert_eq!(kind(locks.retire("job").await), ErrorKind::Held);
}

/// R14: what a newer format leaves out is no damage that we could judge.
#[tokio::test(start_paused = true)]
async fn a_record_of_a_newer_format_is_not_repaired_though_it_looks_damaged() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let mut item = record("v1", "10s");
    item.retain(|(name, _)| *name != "ownerName");
    item.push(("stampedVersion", text("2:v1")));
    put(&engine, &item).await;
    let before = raw(&engine, "job").await;
    assert_eq!(locks.repair("job").await.unwrap_err().kind(), ErrorKind::NewerFormat);
    assert_eq!(raw(&engine, "job").await, before, "untouched");
}

crate::privileges::suite! {
    a_record_of_a_newer_format_is_not_repaired_though_it_looks_damaged,
    a_forced_release_ends_a_live_holder_and_frees_the_lock_at_once,
    a_forced_release_of_a_foreign_holder_makes_its_heartbeat_fail,
    a_foreign_record_with_odd_attributes_stays_readable_under_operators,
    a_forced_release_of_what_is_free_changes_nothing,
    a_forced_release_whose_answer_is_lost_is_recognised,
    every_kind_of_damage_is_repaired_and_the_lock_is_free_at_once,
    damage_to_our_own_attributes_is_repaired,
    a_repair_raises_the_token_above_all_that_was_seen,
    a_holder_whose_record_is_repaired_loses_it_at_its_next_heartbeat,
    what_is_absent_or_of_a_newer_format_is_not_touched_by_anybody,
    a_retired_lock_is_empty_and_its_tokens_go_on_rising,
}
