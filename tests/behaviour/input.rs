//! Bad input, bad tables, bad records: a typed error that says what to do, and nothing lost.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{Elector, Embedded, ErrorKind, Fault, Faults, LockClient, Timing};

use crate::support::{kind, put, record, text};
use crate::{client, operations};

#[tokio::test(start_paused = true)]
async fn bad_input_is_refused_with_a_reason() {
    let engine = Embedded::in_memory().unwrap();
    let sdk = engine.client();
    assert_eq!(
        kind(LockClient::builder(&sdk, "locks").build().await),
        ErrorKind::InvalidInput,
        "http_client not shared"
    );
    let shared = || LockClient::builder(&sdk, "locks").share_http_client();
    assert_eq!(kind(shared().build().await), ErrorKind::TableMissing);
    assert_eq!(kind(shared().owner("a\nb").create_table().build().await), ErrorKind::InvalidInput);
    let locks = shared().create_table().build().await.unwrap();
    assert_eq!(kind(shared().partition_key_name("id").build().await), ErrorKind::TableUnfit);
    for key in [String::new(), "k".repeat(2_043), "a\tb".into()] {
        assert_eq!(locks.acquire(key).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let deleting = shared().delete_on_release().build().await.unwrap();
    assert_eq!(Elector::builder(&deleting, "e").build().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(Timing::builder().lease(Duration::ZERO).build().is_err());
    assert!(Timing::builder().heartbeat(Duration::from_secs(11)).build().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_malformed_record_is_reported_and_never_taken_over() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let put = engine.client().put_item().table_name("locks").item("key", text("job")).item("precious", text("data"));
    put.send().await.unwrap();
    assert_eq!(locks.acquire("job").await.unwrap_err().kind(), ErrorKind::MalformedRecord);
    let elector = Elector::builder(&locks, "job").build().unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(120), elector.campaign()).await.is_err());
    let trouble = elector.status().borrow().trouble.clone().unwrap();
    assert_eq!(trouble.kind, ErrorKind::MalformedRecord);
    let item = engine.client().get_item().table_name("locks").key("key", text("job")).send().await.unwrap();
    assert_eq!(item.item().unwrap().len(), 2, "untouched");
}

#[tokio::test(start_paused = true)]
async fn a_table_with_other_keys_is_refused() {
    use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
    let engine = Embedded::in_memory().unwrap();
    let numbers = engine.client().create_table().table_name("numbers").billing_mode(BillingMode::PayPerRequest);
    let definition = AttributeDefinition::builder().attribute_name("key").attribute_type(ScalarAttributeType::N);
    let schema = KeySchemaElement::builder().attribute_name("key").key_type(KeyType::Hash);
    let create = numbers.attribute_definitions(definition.build().unwrap()).key_schema(schema.build().unwrap());
    create.send().await.unwrap();
    let build = LockClient::builder(&engine.client(), "numbers").share_http_client().build().await;
    assert!(build.as_ref().unwrap_err().to_string().contains("type N"), "{build:?}");
    assert_eq!(kind(build), ErrorKind::TableUnfit);
}

/// R14: each kind of damage, told by the attribute's name, and never taken over.
#[tokio::test(start_paused = true)]
async fn damaged_records_are_told_by_the_attribute() {
    let damage: [(&str, Option<AttributeValue>); 13] = [
        ("ownerName", None),
        ("leaseDuration", None),
        ("leaseDuration", Some(text("1d"))),
        ("leaseDuration", Some(text("-5s"))),
        ("leaseDuration", Some(text("3000000h"))),
        ("leaseDuration", Some(text("20000h"))),
        ("leaseDuration", Some(text(""))),
        ("ownerName", Some(text(""))),
        ("recordVersionNumber", Some(text(""))),
        ("leaseDuration", Some(AttributeValue::N("10".into()))),
        ("recordVersionNumber", None),
        ("recordVersionNumber", Some(AttributeValue::Bool(true))),
        ("data", Some(text("not binary"))),
    ];
    for (attribute, value) in damage {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = client(&engine, &faults, 1).await;
        let mut item = record("v1", "10s");
        item.retain(|(name, _)| *name != attribute);
        item.extend(value.map(|value| (attribute, value)));
        put(&engine, &item).await;
        let error = locks.acquire("job").await.unwrap_err();
        assert!(error.to_string().contains(attribute), "{error} does not name {attribute}");
        assert_eq!(error.kind(), ErrorKind::MalformedRecord);
        assert_eq!(locks.get("job").await.unwrap_err().kind(), ErrorKind::MalformedRecord);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(kind(locks.try_acquire("job").await), ErrorKind::MalformedRecord);
        assert!(!operations(&faults, 0).contains(&"UpdateItem".into()), "nothing was written");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_of_a_newer_format_is_waited_for_and_never_taken_over() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let mut item = record("v1", "10s");
    item.push(("stampedVersion", text("2:v1")));
    put(&engine, &item).await;
    let elector = Elector::builder(&locks, "job").build().unwrap();
    let campaign = tokio::time::timeout(Duration::from_secs(600), elector.campaign()).await;
    assert!(campaign.is_err(), "never");
    assert_eq!(elector.status().borrow().trouble.as_ref().unwrap().kind, ErrorKind::NewerFormat);
    assert!(operations(&faults, 0).iter().filter(|op| *op == "GetItem").count() < 120, "a slow retry");
    assert_eq!(kind(locks.acquire("job").await), ErrorKind::NewerFormat);
}

/// A lease below the sane minimum is raised to it, and a foreign holder gets a quarter more.
#[tokio::test(start_paused = true)]
async fn a_foreign_lease_is_waited_for_with_a_margin() {
    for (lease, least) in [("10s", 12_500), ("10000", 12_500), ("1ms", 1_250)] {
        let engine = Embedded::in_memory().unwrap();
        let locks = client(&engine, &Faults::none(), 1).await;
        put(&engine, &record("v1", lease)).await;
        let start = tokio::time::Instant::now();
        let lock = locks.acquire("job").await.unwrap();
        let waited = start.elapsed();
        let range = Duration::from_millis(least)..Duration::from_millis(least + 100);
        assert!(range.contains(&waited), "{lease}: {waited:?}");
        lock.release().await.unwrap();
        let kept = locks.get("job").await.unwrap().unwrap();
        assert_eq!(
            kept.duration_text(),
            if lease == "10000" { dynamo_elector::DurationText::JavaMillis } else { dynamo_elector::DurationText::Go }
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_of_400_kilobytes_is_an_error_and_not_a_panic() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let acquired = locks.acquire("job").data(vec![0; 400 * 1024]).wait_up_to(Duration::from_secs(5)).await;
    let error = acquired.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert!(operations(&faults, 0).len() < 10, "refused for good: not tried again and again");
    assert!(locks.get("job").await.unwrap().is_none());
    // One that somebody else made is read, and taken over if it fits.
    let mut item = record("v1", "1s");
    item.push(("data", AttributeValue::B(aws_sdk_dynamodb::primitives::Blob::new(vec![7; 380 * 1024]))));
    put(&engine, &item).await;
    let lock = locks.acquire("job").await.unwrap();
    assert_eq!(locks.get("job").await.unwrap().unwrap().data().unwrap().len(), 380 * 1024, "data is kept");
    drop(lock);
}

#[tokio::test(start_paused = true)]
async fn no_permission_is_said_at_once() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    faults.set(|_| Fault::AccessDenied);
    let error = locks.acquire("job").await.unwrap_err();
    assert!(error.to_string().contains("dynamodb:GetItem"), "names the permission that is missing: {error}");
    assert_eq!(error.kind(), ErrorKind::AccessDenied);
    assert_eq!(kind(locks.try_acquire("job").await), ErrorKind::AccessDenied);
    assert_eq!(kind(locks.get("job").await), ErrorKind::AccessDenied);
    assert!(operations(&faults, 0).len() < 10);
}

/// Without `DescribeTable` it starts, and says that the table was not checked.
#[tokio::test(start_paused = true)]
async fn a_table_that_can_not_be_checked_is_reported() {
    let engine = Embedded::in_memory().unwrap();
    drop(client(&engine, &Faults::none(), 1).await);
    let denied =
        Faults::script(|call| if call.operation == "DescribeTable" { Fault::AccessDenied } else { Fault::Deliver });
    let locks = LockClient::builder(&engine.client_with_faults(&denied), "locks").share_http_client().simulated(2);
    let locks = locks.build().await.unwrap();
    assert!(!locks.table_was_checked());
    assert!(locks.acquire("job").await.is_ok());
}

/// What another client left in our attributes stays unbelieved, and does no damage, when an operator writes the record.
#[tokio::test(start_paused = true)]
async fn numbers_that_can_not_be_read_keep_no_operator_from_mending_a_record() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let mut foreign = record("v1", "10s");
    foreign.push(("fencingToken", text("seven")));
    put(&engine, &foreign).await;
    assert!(locks.force_release("job").await.unwrap().unwrap().is_released());
    assert!(locks.retire("job").await.unwrap().is_released());
    let lock = locks.acquire("job").await.unwrap();
    assert_eq!(kind(lock.fencing_token()), ErrorKind::NoFencing, "there was no number to go on from");
    lock.release().await.unwrap();
    let mut damaged = record("v1", "10s");
    damaged.extend([("stampedVersion", text("1:v1")), ("heartbeatMillis", AttributeValue::N("1.5".into()))]);
    put(&engine, &damaged).await;
    assert_eq!(kind(locks.get("job").await), ErrorKind::MalformedRecord);
    assert!(locks.repair("job").await.unwrap().is_released());
    assert!(locks.acquire("job").await.unwrap().is_valid());
}

crate::privileges::suite! {
    bad_input_is_refused_with_a_reason,
    a_malformed_record_is_reported_and_never_taken_over,
    a_table_with_other_keys_is_refused,
    damaged_records_are_told_by_the_attribute,
    a_record_of_a_newer_format_is_waited_for_and_never_taken_over,
    a_foreign_lease_is_waited_for_with_a_margin,
    a_record_of_400_kilobytes_is_an_error_and_not_a_panic,
    no_permission_is_said_at_once,
    a_table_that_can_not_be_checked_is_reported,
    numbers_that_can_not_be_read_keep_no_operator_from_mending_a_record,
}
