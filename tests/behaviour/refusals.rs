//! What is refused before anything is sent, and odd records that are no obstacle.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{Embedded, Error, ErrorKind, Faults, Key, LockClient};
use futures::StreamExt;

use crate::support::{attribute, bytes, kind, number, put, raw, record, text, within};
use crate::{builder, client};

/// Upstream takes them, and ends up with two holders or with junk.
#[tokio::test(start_paused = true)]
async fn additional_attributes_take_no_name_of_the_record_or_its_key() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = builder(&engine, &faults, 1).partition_key_name("id").sort_key_name("part").build().await.unwrap();
    let from = faults.calls().len();
    let ours = ["ownerName", "leaseDuration", "recordVersionNumber", "data", "isReleased"];
    let more = ["fencingToken", "heartbeatMillis", "acquiredAt", "stampedVersion", "id", "part", ""];
    for name in ours.into_iter().chain(more).map(str::to_owned).chain(["n".repeat(256)]) {
        let acquire = || locks.acquire(("job", "one")).attribute("fine", text("x")).attribute(&name, text("x"));
        let error = acquire().await.unwrap_err();
        assert!(error.to_string().contains(&name), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        assert_eq!(kind(acquire().try_now().await), ErrorKind::InvalidInput, "{name}");
    }
    assert_eq!(faults.calls().len(), from, "nothing was sent");
    // The default key's name is no key's here.
    assert!(locks.acquire(("job", "one")).attribute("key", text("x")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn data_that_can_never_fit_is_refused_before_it_is_sent() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let large = vec![0; 400 * 1024];
    let from = faults.calls().len();
    assert_eq!(kind(locks.acquire("job").data(large.clone()).try_now().await), ErrorKind::InvalidInput);
    assert_eq!(faults.calls().len(), from, "nothing was sent");
    let lock = locks.acquire("job").data("kept").await.unwrap();
    let from = faults.calls().len();
    assert_eq!(kind(lock.heartbeat().replace_data(large.clone()).await), ErrorKind::InvalidInput);
    assert_eq!(faults.calls().len(), from, "nothing was sent");
    assert!(lock.is_valid());
    assert_eq!(kind(lock.release().data(large).await), ErrorKind::InvalidInput);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(attribute(&engine, "isReleased").await, Some(text("1")), "released without it");
    assert_eq!(attribute(&engine, "data").await, Some(bytes("kept")));
}

/// Judged by presence: an endless wait for its "right" value helps nobody.
#[tokio::test(start_paused = true)]
async fn an_odd_mark_of_release_is_a_release() {
    for odd in [AttributeValue::Bool(false), number(1), text("0"), text(""), AttributeValue::Null(true)] {
        let engine = Embedded::in_memory().unwrap();
        let locks = client(&engine, &Faults::none(), 1).await;
        let mut item = record("v1", "10s");
        item.push(("isReleased", odd.clone()));
        put(&engine, &item).await;
        let found = locks.get("job").await.unwrap().unwrap();
        assert!(found.is_released() && found.is_expired(), "{odd:?}");
        let lock = locks.try_acquire("job").await.unwrap().expect("free at once");
        assert_eq!(attribute(&engine, "isReleased").await, None, "{odd:?}: taken out by the claim");
        lock.heartbeat().await.unwrap();
        lock.release().await.unwrap();
        assert_eq!(attribute(&engine, "isReleased").await, Some(text("1")), "{odd:?}: written exactly");
    }
}

/// Every verb that takes a key refuses one that can't be, and sends nothing.
#[tokio::test(start_paused = true)]
async fn keys_that_can_not_be_are_refused_by_every_verb() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let plain = client(&engine, &faults, 1).await;
    let other = Embedded::in_memory().unwrap();
    let sorted = builder(&other, &faults, 2).sort_key_name("part").build().await.unwrap();
    let from = faults.calls().len();
    let cases = [
        (&plain, Key::from(("job", "sort"))),
        (&plain, Key::new("")),
        (&plain, Key::new("job#fence")),
        (&sorted, Key::new("job")),
        (&sorted, Key::from(("job", ""))),
        (&sorted, Key::from(("", "sort"))),
        (&sorted, Key::from(("job", "s".repeat(1_025).as_str()))),
    ];
    for (locks, key) in cases {
        let all: [Result<(), Error>; 8] = [
            locks.acquire(&key).await.map(drop),
            locks.acquire(&key).only_if_exists().reentrant().await.map(drop),
            locks.try_acquire(&key).await.map(drop),
            locks.get(&key).await.map(drop),
            locks.has_lock(&key).map(drop),
            locks.force_release(&key).await.map(drop),
            locks.repair(&key).await.map(drop),
            locks.retire(&key).await.map(drop),
        ];
        for (verb, result) in all.into_iter().enumerate() {
            assert_eq!(kind(result), ErrorKind::InvalidInput, "{key:?}, verb {verb}");
        }
    }
    assert_eq!(faults.calls().len(), from, "nothing was sent");
    assert_eq!(plain.list().count().await, 0, "nothing was written");
}

#[tokio::test(start_paused = true)]
async fn names_that_can_not_be_are_refused_when_the_client_is_built() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let on = |table: &str| LockClient::builder(&engine.client_with_faults(&faults), table).share_http_client();
    for builder in [
        on(""),
        on("no spaces"),
        on("locks").owner(""),
        on("locks").owner("o".repeat(1_025)),
        on("locks").partition_key_name(""),
        on("locks").partition_key_name("isReleased"),
        on("locks").sort_key_name(""),
        on("locks").sort_key_name("key"),
        on("locks").sort_key_name("part").sort_key_value(""),
        on("locks").sort_key_value("without a name"),
    ] {
        assert_eq!(kind(builder.create_table().build().await), ErrorKind::InvalidInput);
    }
    assert!(faults.calls().is_empty(), "nothing was sent");
}

/// A key that is taken by something else altogether stays that.
#[tokio::test(start_paused = true)]
async fn a_record_of_something_else_survives_every_verb_but_repair() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    put(&engine, &[("key", text("job")), ("recordVersionNumber", number(7)), ("precious", bytes([1, 2, 3]))]).await;
    let before = raw(&engine, "job").await;
    for _ in 0..3 {
        assert_eq!(kind(within(1_000, locks.acquire("job")).await), ErrorKind::MalformedRecord);
        assert_eq!(kind(locks.acquire("job").only_if_exists().try_now().await), ErrorKind::MalformedRecord);
        assert_eq!(kind(locks.force_release("job").await), ErrorKind::MalformedRecord);
        assert_eq!(kind(locks.retire("job").await), ErrorKind::MalformedRecord);
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    assert_eq!(raw(&engine, "job").await, before);
    locks.repair("job").await.unwrap();
    assert_eq!(attribute(&engine, "precious").await, Some(bytes([1, 2, 3])), "nor is it lost by that");
}

crate::privileges::suite! {
    additional_attributes_take_no_name_of_the_record_or_its_key,
    data_that_can_never_fit_is_refused_before_it_is_sent,
    an_odd_mark_of_release_is_a_release,
    keys_that_can_not_be_are_refused_by_every_verb,
    names_that_can_not_be_are_refused_when_the_client_is_built,
    a_record_of_something_else_survives_every_verb_but_repair,
}
