//! An administrator: makes the table, lists what is in it, and mends it.

use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{Embedded, ErrorKind, Faults, LockClient, LockClientBuilder, TableOptions};
use futures::StreamExt;

use super::record;
use crate::{builder, client, operations};

/// Settings of a client on a table that an administrator made for it.
pub(super) async fn made_table(engine: &Embedded, faults: &Faults, seed: u64) -> LockClientBuilder {
    let admin = LockClient::builder(&engine.client(), "locks").share_http_client();
    admin.table().unwrap().ensure(&TableOptions::on_demand()).await.unwrap();
    record(faults);
    LockClient::builder(&engine.client_with_faults(faults), "locks").share_http_client().simulated(seed)
}

async fn put(engine: &Embedded, item: &[(&str, AttributeValue)]) {
    let put = engine.client().put_item().table_name("locks");
    item.iter().fold(put, |put, (name, value)| put.item(*name, value.clone())).send().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_administrator_makes_and_checks_the_table() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let table = builder(&engine, &faults, 1).table().unwrap();
    assert!(!table.exists().await.unwrap());
    table.ensure(&TableOptions::provisioned(5, 5).tag("team", "billing").deletion_protection()).await.unwrap();
    assert!(table.check().await.unwrap().is_active);
    let made = operations(&faults, 0).iter().filter(|operation| *operation == "CreateTable").count();
    assert_eq!(made, 1);
    table.ensure(&TableOptions::on_demand()).await.unwrap();
    let made = operations(&faults, 0).iter().filter(|operation| *operation == "CreateTable").count();
    assert_eq!(made, 1, "what exists is left alone");
}

#[tokio::test(start_paused = true)]
async fn an_administrator_lists_all_locks_and_those_of_a_key() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let admin = client(&engine, &faults, 1).await;
    let holder = LockClient::builder(&engine.client(), "locks").share_http_client().simulated(2).build().await.unwrap();
    let _held = (holder.acquire("one").await.unwrap(), holder.acquire("two").await.unwrap());
    let from = faults.calls().len();
    let mut all: Vec<String> = admin.list().map(|lock| lock.unwrap().key().to_string()).collect().await;
    all.sort();
    assert_eq!(all, ["one", "two"]);
    assert_eq!(operations(&faults, from), ["Scan"]);
    let from = faults.calls().len();
    let one: Vec<String> = admin.list_partition("one").map(|lock| lock.unwrap().key().to_string()).collect().await;
    assert_eq!(one, ["one"]);
    assert_eq!(operations(&faults, from), ["Query"]);
}

#[tokio::test(start_paused = true)]
async fn an_administrator_releases_repairs_and_retires() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let admin = client(&engine, &faults, 1).await;
    let holder = LockClient::builder(&engine.client(), "locks").share_http_client().simulated(2).build().await.unwrap();
    let lock = holder.acquire("job").data("payload").await.unwrap();
    let from = faults.calls().len();
    assert!(admin.force_release("job").await.unwrap().unwrap().is_released());
    lock.lost().cancelled().await;
    let retired = admin.retire("job").await.unwrap();
    assert_eq!((retired.is_released(), retired.data(), retired.fencing_token()), (true, None, Some(1)));
    let text = |text: &str| AttributeValue::S(text.into());
    put(&engine, &[("key", text("odd")), ("recordVersionNumber", text("v1")), ("data", text("not binary"))]).await;
    assert_eq!(admin.get("odd").await.unwrap_err().kind(), ErrorKind::MalformedRecord);
    assert!(admin.repair("odd").await.unwrap().is_released());
    let sent = operations(&faults, from);
    assert!(sent.iter().all(|operation| ["GetItem", "UpdateItem"].contains(&operation.as_str())), "{sent:?}");
    assert_eq!(holder.acquire("job").await.unwrap().fencing_token().unwrap(), 2, "the tokens go on rising");
}

super::suite! {
    an_administrator_makes_and_checks_the_table,
    an_administrator_lists_all_locks_and_those_of_a_key,
    an_administrator_releases_repairs_and_retires,
}
