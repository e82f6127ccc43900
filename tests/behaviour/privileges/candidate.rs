//! A candidate in production: on a table that somebody else made, with its tokens in a fence record.

use dynamo_elector::{Elector, Embedded, Faults, Fencing};

use super::admin::made_table;
use crate::operations;

#[tokio::test(start_paused = true)]
async fn a_candidate_with_a_fence_record_leads_on_a_table_of_others() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let builder = made_table(&engine, &faults, 1).await;
    let locks = builder.fencing(Fencing::FenceRecord).build().await.unwrap();
    assert!(locks.table_was_checked());
    let elector = Elector::builder(&locks, "nightly-billing").advertise("http://one").build().unwrap();
    let leadership = elector.campaign().await.unwrap();
    assert_eq!(leadership.fencing_token(), 1);
    leadership.resign().await;
    let again = elector.campaign().await.unwrap();
    assert_eq!(again.fencing_token(), 2);
    again.resign().await;
    elector.shutdown().await;
    let sent = operations(&faults, 0);
    assert_eq!(sent[..2], ["DescribeTable", "DescribeTimeToLive"], "the start-up check");
    assert!(sent[2..].iter().all(|operation| ["GetItem", "UpdateItem"].contains(&operation.as_str())), "{sent:?}");
}

super::suite! {
    a_candidate_with_a_fence_record_leads_on_a_table_of_others,
}
