//! Observers: they follow, and never write.

use std::time::Duration;

use dynamo_elector::{Elector, Embedded, ErrorKind, Fault, Faults, LockClient, Observer, Role, StopReason, Transition};
use futures::StreamExt;
use tokio::time::Instant;

use crate::operations;
use crate::support::{kind, sleep, within};

/// On a table that exists, as an observer finds it.
pub(crate) async fn observing(engine: &Embedded, faults: &Faults) -> LockClient {
    crate::privileges::record(faults);
    let builder = LockClient::builder(&engine.client_with_faults(faults), "locks").share_http_client().simulated(9);
    builder.build().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_observer_sees_leaders_come_go_and_die_and_never_writes() {
    let engine = Embedded::in_memory().unwrap();
    let (leading, watching) = (Faults::none(), Faults::none());
    // The leader has a policy of its own.
    let one = LockClient::builder(&engine.client_with_faults(&leading), "locks").share_http_client().create_table();
    let one = one.owner("node-1").simulated(1).build().await.unwrap();
    let locks = observing(&engine, &watching).await;
    let observer = Observer::builder(&locks).election("nightly-billing").start().unwrap();
    let mut told = observer.transitions();
    let mut status = observer.status("nightly-billing").unwrap();
    within(100, status.wait_for(|status| status.role == Role::Follower)).await.unwrap();
    assert_eq!(status.borrow().leader, None, "no record yet");
    let (name, first) = told.next().await.unwrap();
    assert_eq!(name.as_deref(), Some("nightly-billing"));
    assert!(matches!(first, Transition::LeaderChanged { epoch: 1, leader: None, .. }), "{first:?}");

    let elector = Elector::builder(&one, "nightly-billing").advertise("http://one").build().unwrap();
    let leadership = elector.campaign().await.unwrap();
    let leader = within(1_100, observer.until_leader("nightly-billing")).await.unwrap();
    assert_eq!((leader.address(), leader.fencing_token), (Some("http://one"), Some(1)));
    sleep(30_000).await;
    {
        let status = status.borrow_and_update();
        assert!(status.leader_seen_for().unwrap() >= Duration::from_secs(29));
        let left = status.leader_expires_in().unwrap();
        assert!(left > Duration::from_millis(6_400) && left <= Duration::from_secs(10), "{left:?}");
        assert!(status.last_contact().unwrap() <= Duration::from_secs(1));
        assert!(!status.is_leader() && status.fencing_token().is_none(), "the observer is not it");
    }
    leadership.resign().await;
    within(1_100, status.wait_for(|status| status.leader.is_none())).await.unwrap();

    let leadership = elector.campaign().await.unwrap();
    within(1_100, observer.until_leader("nightly-billing")).await.unwrap();
    // Dead: no further heartbeat. Seen when the lease is over, by a timer of its own.
    leading.set(|_| Fault::LoseRequest);
    let died = Instant::now();
    within(11_500, status.wait_for(|status| status.leader.is_none())).await.unwrap();
    assert!(died.elapsed() >= Duration::from_millis(7_500), "{:?}", died.elapsed());
    assert_eq!(status.borrow().leader_expires_in(), None);
    sleep(30_000).await;
    assert_eq!(status.borrow().leader, None, "the old record does not bring it back");
    drop(leadership);

    let operations = operations(&watching, 0);
    assert!(
        operations
            .iter()
            .all(|operation| ["GetItem", "DescribeTable", "DescribeTimeToLive"].contains(&operation.as_str()))
    );
    drop((observer, told));
    sleep(1_000).await;
    let before = watching.calls().len();
    sleep(10_000).await;
    assert_eq!(watching.calls().len(), before, "an observer that is gone reads no more");
    assert!(matches!(status.borrow().role, Role::Stopped(StopReason::ShutDown)));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_leader_hears_of_the_end() {
    let (engine, faults) = (Embedded::in_memory().unwrap(), Faults::none());
    let locks = LockClient::builder(&engine.client_with_faults(&Faults::none()), "locks").share_http_client();
    locks.create_table().simulated(1).build().await.unwrap();
    let locks = observing(&engine, &faults).await;
    let observer = Observer::builder(&locks).election("nightly-billing").start().unwrap();
    let waiting = observer.clone();
    let waiting = tokio::spawn(async move { waiting.until_leader("nightly-billing").await });
    sleep(3_000).await;
    locks.shutdown().await;
    assert_eq!(kind(within(100, waiting).await.unwrap()), ErrorKind::Closed);
    assert_eq!(kind(within(1, observer.until_leader("nightly-billing")).await), ErrorKind::Closed, "and from then on");
}

crate::privileges::suite! {
    whoever_waits_for_a_leader_hears_of_the_end,
    an_observer_sees_leaders_come_go_and_die_and_never_writes,
}
