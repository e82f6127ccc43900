//! What can become of the table while electors run on it.

use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use dynamo_elector::{Embedded, EndReason, ErrorKind};
use tokio::time::Instant;

use super::pair::{HEARTBEAT, LEASE, POLL, Pair, VALIDITY};
use crate::support::{millis, sleep};

async fn remove(engine: &Embedded) {
    engine.client().delete_table().table_name("locks").send().await.unwrap();
}

/// By other tools, with a partition key of this name.
async fn make(engine: &Embedded, key: &str) {
    let key_schema = KeySchemaElement::builder().attribute_name(key).key_type(KeyType::Hash).build().unwrap();
    let kind = AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S).build();
    let table = engine.client().create_table().table_name("locks").billing_mode(BillingMode::PayPerRequest);
    table.key_schema(key_schema).attribute_definitions(kind.unwrap()).send().await.unwrap();
}

/// Neither leads for ten minutes, and both say why.
async fn nobody_leads(pair: &Pair, kind: ErrorKind) {
    let (stopped, took_over) = pair.watch(20_000).await;
    assert!(stopped.is_some_and(|stopped| stopped <= millis(VALIDITY)) && took_over.is_none(), "{stopped:?}");
    assert_eq!(pair.one.last_end(), Some(EndReason::Deadline));
    let from = (pair.one.faults.calls().len(), pair.two.faults.calls().len());
    sleep(600_000).await;
    for (replica, from) in [(&pair.one, from.0), (&pair.two, from.1)] {
        assert!(!replica.leads() && replica.elector.health().is_live && !replica.elector.health().is_ready);
        assert_eq!(replica.trouble(), Some(kind));
        // A claim, what takes it back for as long as a lease, and another claim: two or three requests a second.
        let asked = replica.faults.calls().len() - from;
        assert!((50..=1_800).contains(&asked), "{asked} requests in ten minutes");
    }
    assert!(
        pair.metric(&format!("leader_election_store_failures_total{{kind={},name=e}}", kind.as_str())).await > 50.0
    );
}

/// Somebody leads again soon, under a number above all that were handed out.
async fn one_leads(pair: &Pair, bound: u64) {
    let back = Instant::now();
    while !pair.one.leads() && !pair.two.leads() {
        sleep(5).await;
        assert!(back.elapsed() <= millis(bound), "nobody leads {:?} after it was mended", back.elapsed());
    }
    sleep(30_000).await;
    assert!(pair.one.leads() != pair.two.leads());
    assert_eq!(pair.one.token().max(pair.two.token()), Some(2), "the number of the term before is remembered");
    assert!(pair.one.trouble().is_none() && pair.two.trouble().is_none());
}

/// Deleted under a leader, and made anew much later, empty.
#[tokio::test(start_paused = true)]
async fn a_table_that_is_deleted_and_made_anew_costs_the_time_in_between() {
    let pair = Pair::new().await;
    remove(&pair.engine).await;
    nobody_leads(&pair, ErrorKind::TableMissing).await;
    make(&pair.engine, "key").await;
    one_leads(&pair, 10 * POLL + 100).await;
}

/// Made anew at once: to the leader its record is gone, and nobody comes before its lease is over.
#[tokio::test(start_paused = true)]
async fn a_table_that_is_replaced_at_once_lets_nobody_in_before_the_lease_is_over() {
    let pair = Pair::new().await;
    remove(&pair.engine).await;
    make(&pair.engine, "key").await;
    let replaced = Instant::now();
    let (mut stopped, mut led) = (None, None);
    while led.is_none() {
        let leads = (pair.one.leads(), pair.two.leads());
        assert!(leads != (true, true));
        if stopped.is_none() && leads != (true, false) {
            stopped = Some(replaced.elapsed());
        }
        if stopped.is_some() && (leads.0 || leads.1) {
            led = Some(replaced.elapsed());
        }
        sleep(5).await;
    }
    assert_eq!(pair.one.last_end(), Some(EndReason::RecordGone), "its next heartbeat is refused");
    assert!(
        led >= Some(millis(LEASE - HEARTBEAT - POLL)) && led <= Some(millis(LEASE + 2 * POLL)),
        "{stopped:?} {led:?}"
    );
    assert_eq!(pair.one.token().max(pair.two.token()), Some(2));
}

/// Made anew with other keys: an error that says so, until somebody makes the right one.
#[tokio::test(start_paused = true)]
async fn a_table_that_comes_back_with_other_keys_is_told_and_survived() {
    let pair = Pair::new().await;
    remove(&pair.engine).await;
    make(&pair.engine, "name").await;
    nobody_leads(&pair, ErrorKind::TableUnfit).await;
    let told = pair.two.elector.status().borrow().trouble.clone().unwrap();
    assert!(told.message.contains("key names"), "{told:?}");
    remove(&pair.engine).await;
    make(&pair.engine, "key").await;
    one_leads(&pair, 10 * POLL + 100).await;
}
