//! Scan and Query, page by page.

use aws_sdk_dynamodb::types::AttributeValue;

use super::engine::Engine;
use super::table::{Item, Table, b, s};

/// Both end on their own where an engine is sane.
const MAX_PAGES: usize = 100;

/// The pages of a Scan in the form of `Store::scan`, with the items' texts under `name`.
async fn scan(table: &Table<'_>, limit: i32, name: &str) -> Vec<Vec<String>> {
    let (mut pages, mut start) = (Vec::new(), None);
    loop {
        let scan = table.engine.client.scan().table_name(&table.name).consistent_read(true).limit(limit);
        let page = scan.set_exclusive_start_key(start).send().await.unwrap();
        pages.push(texts(page.items(), name));
        start = page.last_evaluated_key.filter(|key| !key.is_empty());
        if start.is_none() {
            return pages;
        }
        assert!(pages.len() < MAX_PAGES, "a Scan without an end: {pages:?}");
    }
}

/// The pages of a Query in the form of `Store::query`.
async fn query(table: &Table<'_>, partition: &str, limit: i32) -> Vec<Vec<String>> {
    let (mut pages, mut start) = (Vec::new(), None);
    loop {
        let query = table.engine.client.query().table_name(&table.name).key_condition_expression("#key = :key");
        let query = query.expression_attribute_names("#key", "key").expression_attribute_values(":key", s(partition));
        let query = query.consistent_read(true).limit(limit).set_exclusive_start_key(start);
        let page = query.send().await.unwrap();
        assert!(page.items().iter().all(|item| item["key"] == s(partition)), "of another partition: {page:?}");
        pages.push(texts(page.items(), "part"));
        start = page.last_evaluated_key.filter(|key| !key.is_empty());
        if start.is_none() {
            return pages;
        }
        assert!(pages.len() < MAX_PAGES, "a Query without an end: {pages:?}");
    }
}

fn texts(items: &[Item], name: &str) -> Vec<String> {
    items.iter().map(|item| item[name].as_s().unwrap().clone()).collect()
}

pub(super) async fn a_scan_shows_every_item_once(engine: &Engine) {
    let table = engine.table().await;
    assert_eq!(scan(&table, 3, "key").await.concat(), Vec::<String>::new(), "an empty table");
    let keys: Vec<String> = (0..10).map(|at| format!("job-{at}")).collect();
    for key in &keys {
        table.put(&[("key", s(key)), ("recordVersionNumber", s("v1"))]).await;
    }
    for limit in [1, 3, 5, 10, 250] {
        let pages = scan(&table, limit, "key").await;
        assert!(pages.iter().all(|page| page.len() <= usize::try_from(limit).unwrap()), "limit {limit}: {pages:?}");
        assert!(pages.len() * usize::try_from(limit).unwrap() >= keys.len(), "limit {limit}: {pages:?}");
        let mut seen = pages.concat();
        seen.sort();
        assert_eq!(seen, keys, "limit {limit}");
    }
}

pub(super) async fn a_query_shows_one_partition_in_the_order_of_its_sort_keys(engine: &Engine) {
    let table = engine.sorted_table().await;
    // By their UTF-8 bytes, not by case, number or UTF-16.
    let parts = ["10", "9", "B", "a", "ä", "\u{ff5e}", "\u{1f980}"];
    for part in parts.iter().rev() {
        table.put(&[("key", s("job")), ("part", s(part))]).await;
    }
    for other in ["jo", "job2", "job#fence", "Job"] {
        table.put(&[("key", s(other)), ("part", s("9"))]).await;
    }
    for limit in [1, 3, 7, 250] {
        let pages = query(&table, "job", limit).await;
        assert!(pages.iter().all(|page| page.len() <= usize::try_from(limit).unwrap()), "limit {limit}: {pages:?}");
        assert_eq!(pages.concat(), parts, "limit {limit}");
    }
    assert_eq!(query(&table, "nothing", 3).await.concat(), Vec::<String>::new());
    let mut all = scan(&table, 4, "part").await.concat();
    all.sort();
    assert_eq!(all.len(), parts.len() + 4, "a Scan pages over both keys: {all:?}");
}

/// DynamoDB ends a page at 1 MB whatever its limit: a listing that did not go on would miss locks.
pub(super) async fn a_page_ends_at_a_megabyte(engine: &Engine) {
    let table = engine.sorted_table().await;
    let parts = ["a", "b", "c", "d", "e"];
    for part in parts {
        let data: AttributeValue = b(&vec![7; 300 * 1024]);
        table.put(&[("key", s("job")), ("part", s(part)), ("data", data)]).await;
    }
    let pages = query(&table, "job", 250).await;
    assert_eq!(pages.concat(), parts);
    assert!(pages[0].len() <= 4, "{pages:?}");
    let pages = scan(&table, 250, "part").await;
    assert_eq!(pages.concat(), parts, "one partition keeps its order in a Scan");
    assert!(pages[0].len() <= 4, "{pages:?}");
}
