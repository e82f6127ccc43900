//! What the record holds besides the lock: data and additional attributes.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{Call, Embedded, Fault, Faults, LockClient};

use crate::client;
use crate::support::{attribute, body, bytes, millis, number, put, raw, record, since, sleep, text, within};

async fn hand_over(locks: &LockClient) -> Option<Vec<u8>> {
    let lock = within(15_000, locks.acquire("job")).await.unwrap();
    let data = lock.data();
    lock.release().await.unwrap();
    data
}

#[tokio::test(start_paused = true)]
async fn data_is_kept_across_holders_until_somebody_changes_it() {
    let engine = Embedded::in_memory().unwrap();
    let (one, two) = (client(&engine, &Faults::none(), 1).await, client(&engine, &Faults::none(), 2).await);
    let lock = one.acquire("job").data("first").await.unwrap();
    assert_eq!(lock.data().as_deref(), Some(&b"first"[..]), "right after the claim");
    lock.release().await.unwrap();
    for locks in [&two, &one, &two] {
        assert_eq!(hand_over(locks).await.as_deref(), Some(&b"first"[..]), "kept by default");
    }
    let lock = two.acquire("job").data("second").await.unwrap();
    sleep(30_000).await;
    assert_eq!(attribute(&engine, "data").await, Some(bytes("second")), "heartbeats keep it");
    lock.release().data("last words").await.unwrap();
    assert_eq!(hand_over(&one).await.as_deref(), Some(&b"last words"[..]));
    one.acquire("job").await.unwrap().release().clear_data().await.unwrap();
    assert_eq!((hand_over(&two).await, attribute(&engine, "data").await), (None, None), "upstream can't clear it");
    one.acquire("job").data("third").await.unwrap().release().await.unwrap();
    let lock = two.acquire("job").clear_data().await.unwrap();
    assert_eq!((lock.data(), attribute(&engine, "data").await), (None, None));
}

/// The data of a dead holder is there for whoever takes over.
#[tokio::test(start_paused = true)]
async fn data_of_a_dead_or_foreign_holder_is_kept_too() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let mut item = record("v1", "1s");
    item.push(("data", bytes("a checkpoint")));
    put(&engine, &item).await;
    let lock = within(3_000, locks.acquire("job")).await.unwrap();
    assert_eq!(lock.data().as_deref(), Some(&b"a checkpoint"[..]));
}

/// The claim was applied, its answer lost, and the refused repetition shows it: what it set is known all the same.
#[tokio::test(start_paused = true)]
async fn the_content_of_an_adopted_claim_is_known() {
    for lost in 1..=4 {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = client(&engine, &faults, 1).await;
        locks.acquire("job").attribute("older", number(1)).await.unwrap().release().await.unwrap();
        let mut count = 0;
        faults.set(move |call| {
            count += u32::from(call.operation == "UpdateItem");
            if call.operation == "UpdateItem" && count <= lost { Fault::LoseReply } else { Fault::Deliver }
        });
        let acquire = locks.acquire("job").data("new").attribute("team", text("blue"));
        let lock = within(30_000, acquire).await.unwrap();
        assert_eq!(lock.data().as_deref(), Some(&b"new"[..]), "{lost} answers lost");
        let attributes = lock.attributes();
        assert_eq!(attributes.get("team"), Some(&text("blue")), "{lost} answers lost");
        assert_eq!(attributes.get("older"), Some(&number(1)), "{lost} answers lost: {attributes:?}");
    }
}

/// Every type that an attribute can have.
fn all_types() -> Vec<(&'static str, AttributeValue)> {
    let map = HashMap::from([("inside".to_owned(), number(1))]);
    vec![
        ("a-text", text("blue")),
        ("a number", AttributeValue::N("-1.5".into())),
        ("some.bytes", bytes([0, 159, 146, 150])),
        ("a_bool", AttributeValue::Bool(false)),
        ("a:null", AttributeValue::Null(true)),
        ("a#list", AttributeValue::L(vec![text("x"), AttributeValue::L(Vec::new())])),
        ("a map", AttributeValue::M(map)),
        ("texts", AttributeValue::Ss(vec!["a".into(), "b".into()])),
        ("SET", AttributeValue::Ns(vec!["7".into()])),
        ("blobs", AttributeValue::Bs(vec![aws_sdk_dynamodb::primitives::Blob::new("x")])),
    ]
}

#[tokio::test(start_paused = true)]
async fn attributes_of_every_type_are_kept_and_merged_across_holders() {
    let engine = Embedded::in_memory().unwrap();
    let (one, two) = (client(&engine, &Faults::none(), 1).await, client(&engine, &Faults::none(), 2).await);
    let acquire =
        all_types().into_iter().fold(one.acquire("job"), |acquire, (name, value)| acquire.attribute(name, value));
    let lock = acquire.await.unwrap();
    let expected = all_types().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(lock.attributes(), expected, "right after the claim, and nothing of ours among them");
    sleep(10_000).await;
    lock.release().await.unwrap();
    let lock = two.acquire("job").attribute("a-text", text("red")).attribute("another", number(2)).await.unwrap();
    let mut merged = expected.clone();
    merged.insert("a-text".into(), text("red"));
    merged.insert("another".into(), number(2));
    assert_eq!(lock.attributes(), merged, "replaced where it is named, kept where it is not");
    assert_eq!(one.get("job").await.unwrap().unwrap().attributes(), &merged);
    let raw = raw(&engine, "job").await.unwrap();
    for (name, value) in &merged {
        assert_eq!(raw.get(name), Some(value), "{name}");
    }
}

/// The names that a request sets, removes or looks at.
fn names(call: &Call) -> Vec<String> {
    let names = body(call)["ExpressionAttributeNames"].as_object().cloned().unwrap_or_default();
    names.values().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// No read-modify-write: what another writer adds in between is neither read nor lost.
#[tokio::test(start_paused = true)]
async fn attributes_of_others_are_never_named_and_survive_whenever_they_are_added() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let add = async |name: &str| {
        let update = engine.client().update_item().table_name("locks").key("key", text("job"));
        let update = update.update_expression("SET #n = :n").expression_attribute_names("#n", name);
        update.expression_attribute_values(":n", text("theirs")).send().await.unwrap();
    };
    locks.acquire("job").await.unwrap().release().await.unwrap();
    add("before-the-claim").await;
    let from = faults.calls().len();
    let lock = locks.acquire("job").attribute("mine", text("mine")).await.unwrap();
    assert_eq!(lock.attributes().len(), 2, "the claim's own answer shows what is there");
    add("while-held").await;
    lock.heartbeat().replace_data("data").await.unwrap();
    add("before-the-release").await;
    lock.release().await.unwrap();
    add("after-the-release").await;
    let again = locks.acquire("job").await.unwrap();
    assert_eq!(again.attributes().len(), 5);
    let writes = since(&faults, from);
    assert_eq!(writes.len(), 4, "claim, heartbeat, release, claim: and no read");
    for call in &writes {
        assert!(names(call).iter().all(|name| !name.contains("the-") && name != "while-held"), "{call:?}");
    }
    let naming: Vec<bool> = writes.iter().map(|call| names(call).contains(&"mine".to_owned())).collect();
    assert_eq!(naming, [true, false, false, false], "set by the claim, kept by the table");
}

/// Names are user text: no expression is built from them.
#[tokio::test(start_paused = true)]
async fn a_hundred_attributes_are_one_write() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let acquire =
        (0..100).fold(locks.acquire("job"), |acquire, index| acquire.attribute(format!("a{index}"), number(index)));
    let lock = acquire.wait_up_to(millis(1_000)).await.unwrap();
    assert_eq!(lock.attributes().len(), 100);
    lock.release().await.unwrap();
    let retired = locks.retire("job").await.unwrap();
    assert!(retired.attributes().is_empty(), "and one write takes them out again");
}

crate::privileges::suite! {
    data_is_kept_across_holders_until_somebody_changes_it,
    data_of_a_dead_or_foreign_holder_is_kept_too,
    the_content_of_an_adopted_claim_is_known,
    attributes_of_every_type_are_kept_and_merged_across_holders,
    attributes_of_others_are_never_named_and_survive_whenever_they_are_added,
    a_hundred_attributes_are_one_write,
}
