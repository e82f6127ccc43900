//! A leader's own writes beside a check of its fence record: sent with a client of its own, which has no other business in the
//! lock table.

use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use dynamo_elector::{Elector, Embedded, Faults, Fencing, LockClient};

use super::record;
use crate::operations;

#[tokio::test(start_paused = true)]
async fn a_fenced_writer_only_checks_the_fence_record() {
    let engine = Embedded::in_memory().unwrap();
    // The candidate and the table have policies of their own.
    let unseen = LockClient::builder(&engine.client(), super::OWN_TABLE).share_http_client().create_table();
    unseen.simulated(3).build().await.unwrap();
    let locks = LockClient::builder(&engine.client(), "locks").share_http_client().create_table().simulated(2);
    let locks = locks.fencing(Fencing::FenceRecord).build().await.unwrap();
    let leadership = Elector::builder(&locks, "nightly-billing").build().unwrap().campaign().await.unwrap();
    let faults = Faults::none();
    record(&faults);
    let client = engine.client_with_faults(&faults);
    let item = |id: &str| Put::builder().table_name(super::OWN_TABLE).item("key", AttributeValue::S(id.into()));
    for id in ["one", "two"] {
        let check = leadership.fence().condition_check().unwrap();
        let transaction = client.transact_write_items();
        let transaction = transaction
            .transact_items(TransactWriteItem::builder().condition_check(check).build())
            .transact_items(TransactWriteItem::builder().put(item(id).build().unwrap()).build());
        transaction.send().await.unwrap();
    }
    assert_eq!(operations(&faults, 0), ["TransactWriteItems"; 2]);
}

super::suite! {
    a_fenced_writer_only_checks_the_fence_record,
}
