//! Where fencing tokens come from, and that they rise whatever others do to the record.

use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{
    DurationText, Elector, Embedded, ErrorKind, Fault, Faults, Fencing, LockClient, ReleaseOutcome, Role,
};

use crate::support::{
    attribute, delete, key_of, kind, number, put, raw, record, refusal, since, sleep, slow, text, value, within,
};
use crate::{builder, client};

async fn fenced(engine: &Embedded, faults: &Faults, seed: u64) -> LockClient {
    builder(engine, faults, seed).fencing(Fencing::FenceRecord).build().await.unwrap()
}

async fn sealed(engine: &Embedded) -> Option<aws_sdk_dynamodb::types::AttributeValue> {
    raw(engine, "job#fence").await?.remove("fencingToken")
}

#[tokio::test(start_paused = true)]
async fn tokens_rise_though_others_replace_and_delete_the_record_between_fresh_clients() {
    let engine = Embedded::in_memory().unwrap();
    for round in 1..=12 {
        let locks = fenced(&engine, &Faults::none(), round).await;
        let lock = within(20_000, locks.acquire("job")).await.unwrap();
        assert_eq!(lock.fencing_token().unwrap(), round, "the number of acquisitions, and never a number twice");
        assert_eq!(sealed(&engine).await, Some(number(round)));
        match round % 4 {
            // Java's PutItem: a holder that is dead, and all that ours kept there gone.
            0 => put(&engine, &record(&format!("java-{round}"), "1000")).await,
            1 => drop(lock.release().await),
            2 => {
                lock.release().await.unwrap();
                delete(&engine, "job").await;
            }
            _ => {
                let mut java = record(&format!("java-{round}"), "10000");
                java.push(("isReleased", text("1")));
                put(&engine, &java).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_sealed_before_the_lock_is_handed_out() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = fenced(&engine, &faults, 1).await;
    faults.set(|call| {
        if call.operation == "UpdateItem" && key_of(call) == "job#fence" { Fault::LoseRequest } else { Fault::Deliver }
    });
    let pending = tokio::spawn(async move { locks.acquire("job").await.unwrap() });
    sleep(60_000).await;
    assert!(!pending.is_finished(), "no seal, no lock");
    assert_eq!(sealed(&engine).await, None);
    let beats = |calls: Vec<dynamo_elector::Call>| {
        calls.iter().filter(|call| call.operation == "UpdateItem" && key_of(call) == "job").count()
    };
    assert!((22..=27).contains(&beats(since(&faults, 0))), "meanwhile it is renewed: {}", beats(since(&faults, 0)));
    faults.set(|_| Fault::Deliver);
    let lock = within(3_000, pending).await.unwrap();
    assert!(lock.is_valid());
    assert_eq!(sealed(&engine).await, Some(number(lock.fencing_token().unwrap())));
}

#[tokio::test(start_paused = true)]
async fn a_seal_whose_reply_is_lost_is_recognised() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = fenced(&engine, &faults, 1).await;
    let mut lost = 0;
    faults.set(move |call| {
        let seal = call.operation == "UpdateItem" && key_of(call) == "job#fence";
        lost += u32::from(seal);
        if seal && lost == 1 { Fault::LoseReply } else { Fault::Deliver }
    });
    let lock = within(3_000, locks.acquire("job")).await.unwrap();
    assert_eq!(lock.fencing_token().unwrap(), 1, "its own write, repeated: no number is burnt");
    assert_eq!(sealed(&engine).await, Some(number(1)));
    lock.release().await.unwrap();
    // Every attempt of one request is lost: what is in the table is somebody's then, and the next number is taken.
    let mut lost = 0;
    faults.set(move |call| {
        let seal = call.operation == "UpdateItem" && key_of(call) == "job#fence";
        lost += u32::from(seal);
        if seal && lost <= 2 { Fault::LoseReply } else { Fault::Deliver }
    });
    let lock = within(6_000, locks.acquire("job")).await.unwrap();
    let token = lock.fencing_token().unwrap();
    assert!((2..=3).contains(&token), "{token}");
    assert_eq!(sealed(&engine).await, Some(number(token)), "what is handed out is what is sealed");
}

#[tokio::test(start_paused = true)]
async fn a_seal_in_conflict_with_a_transaction_is_tried_again() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = fenced(&engine, &faults, 1).await;
    let mut conflicts = 0;
    faults.set(move |call| {
        let seal = call.operation == "UpdateItem" && key_of(call) == "job#fence";
        conflicts += u32::from(seal);
        if seal && conflicts <= 20 {
            refusal("TransactionConflictException", "Transaction is ongoing for the item")
        } else {
            Fault::Deliver
        }
    });
    let lock = within(10_000, locks.acquire("job")).await.unwrap();
    let seals = since(&faults, 0).iter().filter(|call| key_of(call) == "job#fence").count();
    assert!(seals >= 21, "{seals} requests: it went on until the conflict was over");
    assert_eq!(lock.fencing_token().unwrap(), 1);
}

/// Somebody sealed a number that this client has not seen: it goes above it, and says so in the lock's record too.
#[tokio::test(start_paused = true)]
async fn a_seal_below_anothers_raises_the_token_and_the_record_follows() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = fenced(&engine, &faults, 1).await;
    put(&engine, &[("key", text("job#fence")), ("fencingToken", number(41))]).await;
    faults.set(|call| match call.operation.as_str() {
        "GetItem" if key_of(call) == "job#fence" => Fault::Respond { status: 200, body: "{}".into() },
        _ => Fault::Deliver,
    });
    let lock = within(3_000, locks.acquire("job")).await.unwrap();
    assert_eq!(lock.fencing_token().unwrap(), 42);
    assert_eq!(sealed(&engine).await, Some(number(42)));
    assert_eq!(attribute(&engine, "fencingToken").await, Some(number(1)), "claimed with what was known then");
    lock.heartbeat().await.unwrap();
    assert_eq!(attribute(&engine, "fencingToken").await, Some(number(42)));
    assert_eq!(locks.get("job").await.unwrap().unwrap().fencing_token(), Some(42));
    sleep(20_000).await;
    lock.release().await.unwrap();
    assert_eq!(locks.acquire("job").await.unwrap().fencing_token().unwrap(), 43);
}

#[tokio::test(start_paused = true)]
async fn the_fence_of_one_sort_key_is_not_that_of_another() {
    let engine = Embedded::in_memory().unwrap();
    let sorted = builder(&engine, &Faults::none(), 1).sort_key_name("part").fencing(Fencing::FenceRecord);
    let locks = sorted.build().await.unwrap();
    for round in 1..=3 {
        let lock = locks.acquire(("job", "one")).await.unwrap();
        assert_eq!(lock.fencing_token().unwrap(), round);
        lock.release().await.unwrap();
    }
    assert_eq!(locks.acquire(("job", "two")).await.unwrap().fencing_token().unwrap(), 1);
}

/// A damaged fence record says nothing of the numbers before: nothing is handed out on its word.
#[tokio::test(start_paused = true)]
async fn a_damaged_fence_record_is_an_error_and_the_lock_stays_free() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = fenced(&engine, &faults, 1).await;
    put(&engine, &[("key", text("job#fence")), ("fencingToken", text("7"))]).await;
    let error = within(3_000, locks.acquire("job")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MalformedRecord);
    assert!(error.to_string().contains("job#fence") && error.to_string().contains("fencingToken"), "{error}");
    assert!(since(&faults, 0).iter().all(|call| call.operation != "UpdateItem"), "nothing was claimed");
}

#[tokio::test(start_paused = true)]
async fn a_seal_that_is_denied_gives_the_lock_back() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = fenced(&engine, &faults, 1).await;
    faults.set(|call| {
        if call.operation == "UpdateItem" && key_of(call) == "job#fence" { Fault::AccessDenied } else { Fault::Deliver }
    });
    assert_eq!(kind(within(3_000, locks.acquire("job")).await), ErrorKind::AccessDenied);
    assert_eq!(attribute(&engine, "isReleased").await, Some(text("1")), "nobody waits for it");
    assert!(!locks.has_lock("job").unwrap());
}

/// Whoever can't seal in the time it has must not hold the lock for ever, renewing it for nobody.
#[tokio::test(start_paused = true)]
async fn an_acquisition_that_can_not_seal_in_time_gives_the_lock_back() {
    for hangs in [true, false] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = fenced(&engine, &faults, 1).await;
        faults.set(move |call| match call.operation.as_str() {
            "UpdateItem" if key_of(call) == "job#fence" && hangs => Fault::LoseRequest,
            "UpdateItem" if key_of(call) == "job#fence" => Fault::Throttle,
            _ => Fault::Deliver,
        });
        let acquired = within(6_000, locks.acquire("job").wait_up_to(std::time::Duration::from_secs(5))).await;
        assert!(kind(acquired).is_transient(), "hangs: {hangs}");
        sleep(100).await;
        assert_eq!(attribute(&engine, "isReleased").await, Some(text("1")), "hangs: {hangs}");
        assert!(kind(within(6_000, locks.try_acquire("job")).await).is_transient(), "hangs: {hangs}");
        sleep(100).await;
        assert_eq!(attribute(&engine, "isReleased").await, Some(text("1")), "hangs: {hangs}");
        faults.set(|_| Fault::Deliver);
        assert!(within(2_000, locks.try_acquire("job")).await.unwrap().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_while_it_is_sealed_is_not_handed_out() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = fenced(&engine, &faults, 1).await;
    let mut claimed = false;
    faults.set(move |call| match (call.operation.as_str(), key_of(call).as_str()) {
        ("UpdateItem", "job") if !std::mem::replace(&mut claimed, true) => Fault::Deliver,
        ("UpdateItem", "job") => Fault::ServerError,
        ("UpdateItem", _) => slow(300, 500),
        _ => Fault::Deliver,
    });
    // The seal is answered in time here, so it is handed out; the renewals fail and it is lost at its deadline.
    let lock = within(3_000, locks.acquire("job")).await.unwrap();
    assert!(lock.remaining() <= std::time::Duration::from_millis(7_300), "counted from the claim, not from the seal");
    drop(lock);
    faults.set(|_| Fault::Deliver);
    sleep(15_000).await;
    let mut claimed = false;
    faults.set(move |call| match (call.operation.as_str(), key_of(call).as_str()) {
        ("UpdateItem", "job") if !std::mem::replace(&mut claimed, true) => Fault::Deliver,
        ("UpdateItem", _) => Fault::LoseRequest,
        _ => Fault::Deliver,
    });
    let acquired = within(20_000, locks.acquire("job").wait_up_to(std::time::Duration::from_secs(15))).await;
    assert!(acquired.is_err(), "neither sealed nor renewed: {acquired:?}");
}

/// Java's PutItem drops the number, so a record in its text promises none.
#[tokio::test(start_paused = true)]
async fn on_a_record_shared_with_java_there_is_no_token_but_from_a_fence_record() {
    let engine = Embedded::in_memory().unwrap();
    let plain = builder(&engine, &Faults::none(), 1).build().await.unwrap();
    let mut java = record("v1", "10000");
    java.push(("isReleased", text("1")));
    put(&engine, &java).await;
    let lock = plain.acquire("job").await.unwrap();
    assert!(lock.is_valid(), "a lock all the same");
    assert_eq!(kind(lock.fencing_token()), ErrorKind::NoFencing);
    lock.release().await.unwrap();
    let elector = Elector::builder(&plain, "job").build().unwrap();
    assert!(tokio::time::timeout(std::time::Duration::from_secs(120), elector.campaign()).await.is_err());
    let status = elector.status().borrow().clone();
    assert_eq!(status.trouble.map(|trouble| trouble.kind), Some(ErrorKind::NoFencing));
    assert_ne!(status.role, Role::Leader);
    let record = plain.get("job").await.unwrap().unwrap();
    assert!(record.is_released(), "it never led");
    assert_eq!(record.duration_text(), DurationText::JavaMillis);
    let fenced = fenced(&engine, &Faults::none(), 2).await;
    let leads = Elector::builder(&fenced, "job").build().unwrap();
    let leadership = within(20_000, leads.campaign()).await.unwrap();
    assert_eq!(sealed(&engine).await, Some(number(leadership.fencing_token())));
    assert_eq!(attribute(&engine, "leaseDuration").await, Some(text("10000")), "the text follows the record");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_others_change_to_another_text_is_followed() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = builder(&engine, &faults, 1).duration_text(DurationText::JavaMillis).build().await.unwrap();
    let lock = locks.acquire("job").await.unwrap();
    assert_eq!(attribute(&engine, "leaseDuration").await, Some(text("10000")), "the setting serves creation");
    assert_eq!(kind(lock.fencing_token()), ErrorKind::NoFencing);
    lock.release().await.unwrap();
    let mut go = record("go-1", "10s");
    go.push(("isReleased", text("1")));
    put(&engine, &go).await;
    // The claim on what was known is refused and shows the record as it is.
    let lock = within(3_000, locks.acquire("job")).await.unwrap();
    assert_eq!(attribute(&engine, "leaseDuration").await, Some(text("10s")));
    assert_eq!(kind(lock.fencing_token()), ErrorKind::NoFencing, "the Go client may have brought an old number back");
    let last = since(&faults, 0).pop().unwrap();
    assert_eq!(value(&last, ":lease").unwrap()["S"], "10s");
}

/// dynamolock writes back the attributes of its first look, an old token among them: no number rather than one that was
/// handed out before, neither now nor in any later term, however many of ours follow.
#[tokio::test(start_paused = true)]
async fn where_another_client_has_written_there_is_no_token_for_good() {
    let engine = Embedded::in_memory().unwrap();
    let first = client(&engine, &Faults::none(), 1).await;
    for token in 1..=3 {
        let lock = first.acquire("job").await.unwrap();
        assert_eq!(lock.fencing_token().unwrap(), token);
        lock.release().await.unwrap();
    }
    let mut go = record("go-1", "10s");
    let old = AttributeValue::N("1".into());
    go.extend([("isReleased", text("1")), ("fencingToken", old), ("stampedVersion", text("1:an-old-one"))]);
    put(&engine, &go).await;
    for seed in 2..5 {
        // Each remembers nothing.
        let faults = Faults::none();
        let fresh = client(&engine, &faults, seed).await;
        let elector = Elector::builder(&fresh, "job").build().unwrap();
        assert!(tokio::time::timeout(std::time::Duration::from_secs(60), elector.campaign()).await.is_err());
        let trouble = elector.status().borrow().trouble.clone().unwrap();
        assert_eq!(trouble.kind, ErrorKind::NoFencing, "{trouble:?}");
        assert!(faults.calls().len() < 15, "looked at rarely: {} requests in a minute", faults.calls().len());
        let lock = within(3_000, fresh.acquire("job")).await.unwrap();
        assert_eq!(kind(lock.fencing_token()), ErrorKind::NoFencing, "node {seed}");
        assert_eq!(attribute(&engine, "fencingToken").await, None, "nothing that a later holder could believe");
        lock.release().await.unwrap();
    }
    let fenced = fenced(&engine, &Faults::none(), 5).await;
    let lock = within(3_000, fenced.acquire("job")).await.unwrap();
    assert_eq!(lock.fencing_token().unwrap(), 1, "a fence record begins a count of its own");
}

/// A claim that is taken back may never have been applied: what it leaves must not vouch for the number that was there.
#[tokio::test(start_paused = true)]
async fn a_claim_that_is_taken_back_vouches_for_no_number_of_another_client() {
    for fencing in [Fencing::Record, Fencing::Off] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = builder(&engine, &faults, 1).fencing(fencing).build().await.unwrap();
        let mut go = record("go-1", "10s");
        go.extend([("isReleased", text("1")), ("fencingToken", AttributeValue::N("5".into()))]);
        put(&engine, &go).await;
        faults.set(move |call| {
            // Only the claim: it arrives nowhere.
            let claim = call.operation == "UpdateItem" && call.body.contains(":acquired");
            if claim { Fault::LoseRequest } else { Fault::Deliver }
        });
        assert!(locks.try_acquire("job").await.is_err());
        sleep(15_000).await;
        let item = raw(&engine, "job").await.unwrap();
        assert!(item.contains_key("isReleased") && item.contains_key("stampedVersion"), "taken back: {item:?}");
        let fresh = client(&engine, &Faults::none(), 2).await;
        let lock = within(3_000, fresh.acquire("job")).await.unwrap();
        assert_eq!(kind(lock.fencing_token()), ErrorKind::NoFencing, "{fencing:?}: 6 may have been handed out before");
    }
}

#[tokio::test(start_paused = true)]
async fn deleting_and_tokens_exclude_each_other() {
    let engine = Embedded::in_memory().unwrap();
    for fencing in [Fencing::Record, Fencing::FenceRecord] {
        let build = builder(&engine, &Faults::none(), 1).delete_on_release().fencing(fencing).build().await;
        assert_eq!(kind(build), ErrorKind::InvalidInput, "{fencing:?}");
        let locks = builder(&engine, &Faults::none(), 1).fencing(fencing).build().await.unwrap();
        let lock = locks.acquire("job").await.unwrap();
        assert_eq!(kind(lock.release().delete().await), ErrorKind::NoFencing, "{fencing:?}");
        sleep(100).await;
        assert_eq!(attribute(&engine, "isReleased").await, Some(text("1")), "released all the same, and kept");
    }
    let off = builder(&engine, &Faults::none(), 3).fencing(Fencing::Off).build().await.unwrap();
    let lock = off.acquire("job").await.unwrap();
    assert_eq!(kind(lock.fencing_token()), ErrorKind::NoFencing);
    assert_eq!(lock.release().delete().await.unwrap(), ReleaseOutcome::Released);
    assert!(raw(&engine, "job").await.is_none());
}

crate::privileges::suite! {
    a_claim_that_is_taken_back_vouches_for_no_number_of_another_client,
    tokens_rise_though_others_replace_and_delete_the_record_between_fresh_clients,
    a_token_is_sealed_before_the_lock_is_handed_out,
    a_seal_whose_reply_is_lost_is_recognised,
    a_seal_in_conflict_with_a_transaction_is_tried_again,
    a_seal_below_anothers_raises_the_token_and_the_record_follows,
    the_fence_of_one_sort_key_is_not_that_of_another,
    a_damaged_fence_record_is_an_error_and_the_lock_stays_free,
    a_seal_that_is_denied_gives_the_lock_back,
    an_acquisition_that_can_not_seal_in_time_gives_the_lock_back,
    a_lease_that_ends_while_it_is_sealed_is_not_handed_out,
    on_a_record_shared_with_java_there_is_no_token_but_from_a_fence_record,
    a_record_that_others_change_to_another_text_is_followed,
    where_another_client_has_written_there_is_no_token_for_good,
    deleting_and_tokens_exclude_each_other,
}
