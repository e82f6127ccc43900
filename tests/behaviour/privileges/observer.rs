//! An observer: who leads, asked by somebody who never campaigns.

use dynamo_elector::{Elector, Embedded, Faults};

use super::admin::made_table;
use crate::operations;

#[tokio::test(start_paused = true)]
async fn an_observer_sees_who_leads_and_only_reads() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let observer = made_table(&engine, &faults, 1).await.build().await.unwrap();
    assert!(observer.table_was_checked());
    assert!(observer.get("nightly-billing").await.unwrap().is_none(), "nobody campaigned yet");
    // The leader has a policy of its own.
    let leader = dynamo_elector::LockClient::builder(&engine.client(), "locks").share_http_client().simulated(2);
    let leader = leader.owner("node-2").build().await.unwrap();
    let elector = Elector::builder(&leader, "nightly-billing").advertise("http://two").build().unwrap();
    let leadership = elector.campaign().await.unwrap();
    let seen = observer.get("nightly-billing").await.unwrap().unwrap();
    assert_eq!((seen.owner(), seen.data(), seen.fencing_token()), ("node-2", Some(&b"http://two"[..]), Some(1)));
    assert!(!seen.is_released() && !seen.is_expired());
    leadership.resign().await;
    assert!(observer.get("nightly-billing").await.unwrap().unwrap().is_released());
    observer.shutdown().await;
    let sent = operations(&faults, 0);
    assert_eq!(sent, ["DescribeTable", "DescribeTimeToLive", "GetItem", "GetItem", "GetItem"]);
}

super::suite! {
    an_observer_sees_who_leads_and_only_reads,
}
