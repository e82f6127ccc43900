//! Reads, and what reads and writes cost.

use std::time::Duration;

use aws_sdk_dynamodb::types::{ConsumedCapacity, ReturnConsumedCapacity};

use super::engine::Engine;
use super::quirks::Quirk;
use super::table::{Change, Item, Table, b, item, n, s};

fn units(consumed: Option<&ConsumedCapacity>) -> f64 {
    consumed.and_then(ConsumedCapacity::capacity_units).unwrap_or(f64::NAN)
}

#[track_caller]
fn assert_units(consumed: Option<&ConsumedCapacity>, expected: f64, what: &str) {
    let units = units(consumed);
    assert!((units - expected).abs() < 1e-9, "{what}: {units} units, {expected} expected");
}

/// What an eventually consistent read shows once it shows what is expected; anything else after a while.
async fn eventually(table: &Table<'_>, key: &str, expected: Option<&Item>) -> Option<Item> {
    let mut shown = None;
    for _ in 0..100 {
        shown = table.get(&[("key", s(key))]).consistent_read(false).send().await.unwrap().item;
        if shown.as_ref() == expected {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    shown
}

pub(super) async fn a_read_shows_the_item_or_none(engine: &Engine) {
    let table = engine.table().await;
    assert_eq!(table.read("job").await, None);
    assert_eq!(eventually(&table, "job", None).await, None);
    let record = [("key", s("job")), ("recordVersionNumber", s("v1")), ("fencingToken", n(7))];
    table.put(&record).await;
    assert_eq!(table.read("job").await, Some(item(&record)), "a strong read shows the write before it");
    assert_eq!(eventually(&table, "job", Some(&item(&record))).await, Some(item(&record)));
}

pub(super) async fn a_projection_shows_what_it_names(engine: &Engine) {
    let table = engine.table().await;
    let token = async |key: &str| {
        let get = table.get(&[("key", s(key))]).consistent_read(true).projection_expression("#token");
        get.expression_attribute_names("#token", "fencingToken").send().await.unwrap().item
    };
    table.put(&[("key", s("job#fence")), ("fencingToken", n(7)), ("ownerName", s("me"))]).await;
    assert_eq!(token("job#fence").await, Some(item(&[("fencingToken", n(7))])));
    table.put(&[("key", s("bare#fence"))]).await;
    assert_eq!(token("bare#fence").await, Some(Item::new()), "there is an item, without the attribute");
    assert_eq!(token("no#fence").await, None);
}

/// DynamoDB: 1 unit for each 4 KiB read, half of it where eventual consistency is enough, at least that for nothing.
pub(super) async fn reads_cost_by_size_and_consistency(engine: &Engine) {
    let table = engine.table().await;
    table.put(&[("key", s("small"))]).await;
    let large = [("key", s("large")), ("data", b(&[7; 9 * 1024]))];
    table.put(&large).await;
    assert!(
        eventually(&table, "large", Some(&item(&large))).await.is_some(),
        "else a weaker read costs as for nothing"
    );
    let by_size = if engine.has(Quirk::LargeReadsCostOneUnit) { 1.0 } else { 3.0 };
    for (key, strong) in [("small", 1.0), ("absent", 1.0), ("large", by_size)] {
        for (consistent, expected) in [(true, strong), (false, strong / 2.0)] {
            let read = table.get(&[("key", s(key))]).consistent_read(consistent).send().await.unwrap();
            assert_units(read.consumed_capacity(), expected, &format!("{key}, strong: {consistent}"));
        }
    }
    let scan = |consistent: bool| {
        let scan = engine.client.scan().table_name(&table.name).consistent_read(consistent).limit(250);
        scan.return_consumed_capacity(ReturnConsumedCapacity::Total).send()
    };
    assert_units(scan(true).await.unwrap().consumed_capacity(), by_size, "a Scan, by the sum of sizes");
    assert_units(scan(false).await.unwrap().consumed_capacity(), by_size / 2.0, "a Scan, eventually consistent");
    let query =
        engine.client.query().table_name(&table.name).key_condition_expression("#key = :key").consistent_read(true);
    let query = query.expression_attribute_names("#key", "key").expression_attribute_values(":key", s("small"));
    let query = query.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await.unwrap();
    assert_units(query.consumed_capacity(), 1.0, "a Query of one small item");
}

/// DynamoDB: 1 unit for each KiB of the larger of the item before and after.
pub(super) async fn writes_cost_by_size(engine: &Engine) {
    let table = engine.table().await;
    let set = |bytes: usize| Change {
        update: "SET #data = :data",
        condition: "attribute_not_exists(#released)",
        values: vec![(":data", b(&vec![7; bytes]))],
    };
    for (bytes, expected, what) in [
        (100, 1.0, "a creation of less than a KiB"),
        (3 * 1024, 4.0, "one that grows beyond 3 KiB"),
        (100, 4.0, "one that shrinks, by its size before"),
        (100, 1.0, "one that stays small"),
    ] {
        let written = table.update("job", &set(bytes)).send().await.unwrap();
        assert_units(written.consumed_capacity(), expected, what);
    }
    let delete = Change { update: "", condition: "attribute_exists(#key)", values: vec![] };
    let delete = table.delete("job", &delete).set_expression_attribute_values(None).send().await.unwrap();
    assert_units(delete.consumed_capacity(), 1.0, "a delete of less than a KiB");
}
