//! Bad input, bad tables, bad records: a typed error that says what to do, and nothing lost.

use std::time::Duration;

use dynamo_elector::{Elector, Embedded, ErrorKind, Faults, LockClient, Timing};

use crate::client;

#[tokio::test(start_paused = true)]
async fn bad_input_is_refused_with_a_reason() {
    let engine = Embedded::in_memory().unwrap();
    let sdk = engine.client();
    let kind = |result: Result<LockClient, dynamo_elector::Error>| result.unwrap_err().kind();
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
    use aws_sdk_dynamodb::types::AttributeValue;
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let text = |text: &str| AttributeValue::S(text.into());
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
