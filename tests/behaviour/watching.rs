//! What those are told who only watch: of many elections at once, late readers, probes, status pages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dynamo_elector::{
    Elections, Elector, Embedded, EndReason, ErrorKind, Fault, Faults, Observer, Role, StopReason, Transition,
};
use futures::StreamExt;
use tokio::time::Instant;

use crate::client;
use crate::observers::observing;
use crate::support::{Idle, kind, sleep, within};

#[tokio::test(start_paused = true)]
async fn an_observer_follows_hundreds_of_elections() {
    let engine = Embedded::in_memory().unwrap();
    let watching = Faults::none();
    let one = client(&engine, &Faults::none(), 1).await;
    let locks = observing(&engine, &watching).await;
    let names: Vec<String> = (0..300).map(|index| format!("e-{index}")).collect();
    let observer =
        Observer::builder(&locks).elections(names.clone()).poll_every(Duration::from_secs(10)).start().unwrap();
    assert_eq!(observer.elections().count(), 300);
    let group = Elections::new(&one);
    for name in names.iter().step_by(3) {
        group.elector(name.clone()).start().unwrap();
    }
    sleep(11_000).await;
    for (index, name) in names.iter().enumerate() {
        let status = observer.status(name).unwrap().borrow().clone();
        assert_eq!(status.leader.is_some(), index % 3 == 0, "{name}");
    }
    let reads = watching.calls().len();
    sleep(20_000).await;
    let reads = watching.calls().len() - reads;
    assert!((580..=620).contains(&reads), "one read each in 10 s: {reads}");
    group.shutdown().await;
    sleep(10_100).await;
    assert!(names.iter().all(|name| observer.status(name).unwrap().borrow().leader.is_none()));
}

#[tokio::test(start_paused = true)]
async fn an_observer_says_what_is_wrong() {
    let engine = Embedded::in_memory().unwrap();
    client(&engine, &Faults::none(), 1).await;
    let watching = Faults::none();
    let locks = observing(&engine, &watching).await;
    assert_eq!(kind(Observer::builder(&locks).start()), ErrorKind::InvalidInput);
    assert_eq!(kind(Observer::builder(&locks).election("").start()), ErrorKind::InvalidInput);
    assert_eq!(kind(Observer::builder(&locks).elections(["a", "a"]).start()), ErrorKind::InvalidInput);
    for period in [Duration::from_millis(9), Duration::from_secs(3_601)] {
        assert_eq!(kind(Observer::builder(&locks).election("a").poll_every(period).start()), ErrorKind::InvalidInput);
    }
    let observer = Observer::builder(&locks).election("a").start().unwrap();
    assert_eq!(kind(observer.until_leader("b").await), ErrorKind::InvalidInput);
    assert!(observer.status("b").is_none());
    let mut status = observer.status("a").unwrap();
    watching.set(|_| Fault::AccessDenied);
    let denied = |status: &dynamo_elector::Status| {
        status.trouble.as_ref().is_some_and(|trouble| trouble.kind == ErrorKind::AccessDenied)
    };
    within(15_000, status.wait_for(denied)).await.unwrap();
    watching.set(|_| Fault::Deliver);
    within(15_000, status.wait_for(|status| status.trouble.is_none())).await.unwrap();
    // The client ends under it.
    locks.shutdown().await;
    within(100, status.wait_for(|status| status.role == Role::Stopped(StopReason::ShutDown))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_group_tells_the_transitions_of_all_its_members_in_one_stream() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let group = Elections::new(&locks);
    let mut told = group.transitions();
    let early = group.elector("early").start().unwrap();
    for index in 0..50 {
        group.elector(format!("e-{index}")).start().unwrap();
    }
    assert_eq!(group.electors().len(), 51);
    for elector in group.electors() {
        elector.until_leading().await.unwrap();
    }
    early.elector().hand_over().await;
    within(60_000, group.shutdown()).await;
    drop((group, early));
    let mut stories: BTreeMap<Arc<str>, Vec<Transition>> = BTreeMap::new();
    // It ends with the group and its members.
    while let Some((name, transition)) = within(1_000, told.next()).await {
        stories.entry(name.expect("nothing is missed")).or_default().push(transition);
    }
    assert_eq!(stories.len(), 51);
    for (name, story) in &stories {
        let epochs: Vec<u64> = story
            .iter()
            .map(|transition| match transition {
                Transition::Elected { epoch, .. }
                | Transition::Demoted { epoch, .. }
                | Transition::Released { epoch, .. }
                | Transition::LeaderChanged { epoch, .. }
                | Transition::Stopped { epoch, .. } => *epoch,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(epochs.windows(2).all(|pair| pair[0] + 1 == pair[1]) && epochs[0] == 1, "{name}: {epochs:?}");
        assert!(matches!(story.last(), Some(Transition::Stopped { reason: StopReason::ShutDown, .. })), "{name}");
        let ends = story.iter().filter_map(|transition| match transition {
            Transition::Demoted { reason, .. } => Some(*reason),
            _ => None,
        });
        let expected: &[EndReason] = if &**name == "early" { &[EndReason::HandedOver] } else { &[EndReason::ShutDown] };
        assert_eq!(ends.collect::<Vec<_>>(), expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_lags_is_told_of_the_gap() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let elector = Elector::builder(&locks, "e").build().unwrap();
    let mut told = elector.transitions();
    for _ in 0..150 {
        drop(elector.campaign().await.unwrap());
    }
    elector.shutdown().await;
    let Some(Transition::Missed(missed)) = told.next().await else { panic!("the gap comes first") };
    let mut seen = 0;
    let mut last = None;
    while let Some(transition) = told.next().await {
        seen += 1;
        last = Some(transition);
    }
    assert_eq!(seen, 256, "as many as are kept");
    let Some(Transition::Stopped { epoch, .. }) = last else { panic!("{last:?}") };
    assert_eq!(missed + seen, epoch, "none is lost without a word");
}

/// Health speaks before a lease expires, and readiness is not leadership.
#[tokio::test(start_paused = true)]
async fn health_tells_liveness_from_readiness_and_neither_is_leadership() {
    let engine = Embedded::in_memory().unwrap();
    let (leading, following) = (Faults::none(), Faults::none());
    let (one, two) = (client(&engine, &leading, 1).await, client(&engine, &following, 2).await);
    let leader = Elector::builder(&one, "e").build().unwrap();
    assert!(leader.health().is_live && !leader.health().is_ready, "idle: {:?}", leader.health());
    let service = leader.start(Idle).unwrap();
    leader.until_leading().await.unwrap();
    let follower = Elector::builder(&two, "e").start().unwrap();
    follower.elector().until_leader().await.unwrap();
    for _ in 0..200 {
        sleep(100).await;
        let (one, two) = (leader.health(), follower.elector().health());
        assert!(one.is_live && one.is_ready && two.is_live && two.is_ready, "{one:?} {two:?}");
        assert!(one.beacon_age.unwrap() <= Duration::from_millis(500));
    }
    // Cut off: not ready, though still leading, and a restart would not help.
    leading.set(|_| Fault::LoseRequest);
    following.set(|_| Fault::LoseRequest);
    let cut = Instant::now();
    let mut ready_for = None;
    while leader.status().borrow().is_leader() {
        sleep(20).await;
        if ready_for.is_none() && !leader.health().is_ready {
            ready_for = Some(cut.elapsed());
            assert!(leader.status().borrow().is_leader(), "before the lease is over");
        }
        assert!(leader.health().is_live);
    }
    assert!(ready_for.unwrap() <= Duration::from_millis(4_600), "{ready_for:?}");
    assert!(!follower.elector().health().is_ready);
    leading.set(|_| Fault::Deliver);
    following.set(|_| Fault::Deliver);
    sleep(15_000).await;
    assert!(leader.health().is_ready && follower.elector().health().is_ready);
    service.shutdown().await.unwrap();
    assert!(leader.health().is_live && !leader.health().is_ready, "an orderly end is no reason for a restart");
    // What only people can mend shows at once.
    following.set(|_| Fault::AccessDenied);
    sleep(2_000).await;
    let denied = follower.elector().health();
    assert!(!denied.is_ready && denied.is_live && !denied.problems.is_empty(), "{denied:?}");
    following.set(|_| Fault::Deliver);
    follower.shutdown().await.unwrap();
}

/// As a web service would show them.
#[tokio::test(start_paused = true)]
async fn status_health_and_transitions_are_data() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let elector = Elector::builder(&locks, "e").advertise("http://one").build().unwrap();
    let mut told = elector.transitions();
    let leadership = elector.campaign().await.unwrap();
    sleep(1_500).await;
    let status = serde_json::to_value(&*elector.status().borrow()).unwrap();
    let expected = serde_json::json!({
        "role": "leader", "is_leader": true, "stop_reason": null, "epoch": status["epoch"], "in_role_ms": 1500, "fencing_token": 1,
        "leader": { "owner": "node-1", "address": "http://one", "fencing_token": 1, "acquired_at": "1970-01-01T00:00:00Z" },
        "leader_seen_ms": 1500, "leader_expires_in_ms": status["leader_expires_in_ms"], "last_end": null, "last_release": null,
        "trouble": null, "is_paused": false, "last_contact_ms": status["last_contact_ms"],
    });
    assert_eq!(status, expected);
    assert!((6_400..=8_000).contains(&status["leader_expires_in_ms"].as_u64().unwrap()), "{status}");
    let health = serde_json::to_value(elector.health()).unwrap();
    assert_eq!(
        (&health["is_live"], &health["is_ready"], &health["problems"]),
        (&true.into(), &true.into(), &serde_json::json!([]))
    );
    assert!(health["beacon_age_ms"].as_u64().unwrap() <= 500, "{health}");
    leadership.resign().await;
    elector.shutdown().await;
    let mut lines = Vec::new();
    while let Some(transition) = told.next().await {
        lines.push(serde_json::to_value(transition).unwrap());
    }
    let last = &lines[lines.len() - 3..];
    assert_eq!(last[0]["demoted"]["reason"], "resigned");
    assert_eq!(last[1]["released"]["outcome"], "released");
    assert_eq!(last[2]["stopped"]["reason"], "shut_down");
    let status = serde_json::to_value(&*elector.status().borrow()).unwrap();
    assert_eq!((&status["role"], &status["stop_reason"]), (&"stopped".into(), &"shut_down".into()));
    assert_eq!((&status["last_end"], &status["leader"]), (&"resigned".into(), &serde_json::Value::Null));
}
