//! What an operator sees: metrics by their names, and trace events.

use std::collections::BTreeMap;
use std::time::Duration;

use dynamo_elector::{Elector, Embedded, Fault, Faults};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::client;
use crate::support::Lines;

/// Everything recorded since the last look, as `name{label=value,…}`; of a histogram, how many values.
pub(crate) fn look(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let snapshot = snapshotter.snapshot().into_vec();
    let text = |key: &metrics::Key| {
        let mut labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        labels.sort();
        format!("{}{{{}}}", key.name(), labels.join(","))
    };
    #[allow(clippy::cast_precision_loss, reason = "small counts")]
    let number = |value: DebugValue| match value {
        DebugValue::Counter(count) => count as f64,
        DebugValue::Gauge(value) => value.0,
        DebugValue::Histogram(values) => values.len() as f64,
    };
    snapshot.into_iter().map(|(key, _, _, value)| (text(key.key()), number(value))).collect()
}

pub(crate) fn at(seen: &BTreeMap<String, f64>, key: &str) -> f64 {
    seen.get(key).copied().unwrap_or(f64::NAN)
}

#[tokio::test(start_paused = true)]
async fn metrics_tell_the_life_of_an_election() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let snapshotter = recorder.snapshotter();
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let elector = Elector::builder(&locks, "e").build().unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let zero = look(&snapshotter);
    assert_eq!(
        at(&zero, "leader_election_master_status{name=e}").to_bits(),
        0.0_f64.to_bits(),
        "told from the start: {zero:?}"
    );

    let leadership = elector.campaign().await.unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    let leads = look(&snapshotter);
    for (key, value) in [
        ("leader_election_master_status{name=e}", 1.0),
        ("leader_election_fencing_token{name=e}", 1.0),
        ("leader_election_transitions_total{name=e,to=leader}", 1.0),
        ("leader_election_acquire_attempts_total{name=e,outcome=acquired}", 1.0),
        ("leader_election_renew_duration_seconds{name=e}", 4.0),
        ("leader_election_margin_seconds{name=e}", 4.0),
        ("leader_election_requests_total{op=UpdateItem}", 5.0),
        ("leader_election_requests_total{op=GetItem}", 1.0),
    ] {
        assert!(
            (at(&leads, key) - value).abs() < 1e-9,
            "{key} is {}, {value} expected, in {leads:#?}",
            at(&leads, key)
        );
    }

    faults.set(|_| Fault::ServerError);
    leadership.cancelled().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let lost = look(&snapshotter);
    assert!(at(&lost, "leader_election_master_status{name=e}").abs() < 1e-9, "{lost:#?}");
    assert!((at(&lost, "leader_election_lost_total{name=e,reason=deadline}") - 1.0).abs() < 1e-9, "{lost:#?}");
    assert!(at(&lost, "leader_election_renew_failures_total{kind=unavailable,name=e}") >= 3.0, "{lost:#?}");
    assert!((at(&lost, "leader_election_tenure_seconds{name=e}") - 1.0).abs() < 1e-9, "{lost:#?}");

    faults.set(|_| Fault::Deliver);
    drop(leadership);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let over = look(&snapshotter);
    assert!((at(&over, "leader_election_release_total{name=e,outcome=released}") - 1.0).abs() < 1e-9, "{over:#?}");
    assert!((at(&over, "leader_election_drain_seconds{name=e}") - 1.0).abs() < 1e-9, "{over:#?}");
}

#[tokio::test(start_paused = true)]
async fn traces_tell_changes_once_and_no_secrets() {
    let (lines, _guard) = Lines::record();
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let elector = Elector::builder(&locks, "e").advertise("secret-address").build().unwrap();
    let leadership = elector.campaign().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    faults.set(|_| Fault::AccessDenied);
    leadership.cancelled().await;
    drop(leadership);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let text = lines.text();
    let times = |what: &str| text.matches(what).count();
    assert_eq!(times("elected"), 1, "{text}");
    assert_eq!(times("leadership lost"), 1, "{text}");
    assert_eq!(times("the store fails; retrying"), 1, "a change of state, not every failure: {text}");
    assert!(text.contains("leadership{name=e owner=node-1 token=1}"), "one span a term: {text}");
    assert_eq!(times("secret-address"), 0, "{text}");
}

/// Plain locks: events of each, metrics over all, since their keys may be as many as there are orders.
#[tokio::test(start_paused = true)]
async fn plain_locks_tell_changes_once_and_are_counted_together() {
    let (lines, _traced) = Lines::record();
    let recorder = DebuggingRecorder::new();
    let _counted = metrics::set_default_local_recorder(&recorder);
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let lock = locks.acquire("e").data("secret").await.unwrap();
    let other = locks.acquire("election").await.unwrap();
    other.release().await.unwrap();
    faults.set(|_| Fault::ServerError);
    lock.lost().cancelled().await;
    faults.set(|_| Fault::Deliver);
    lock.release().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let counted = look(&recorder.snapshotter());
    for (name, value) in [
        ("locks_acquired_total{}", 2.0),
        ("locks_held{}", 0.0),
        ("locks_ended_total{reason=deadline}", 1.0),
        ("locks_ended_total{reason=resigned}", 1.0),
        ("locks_released_total{outcome=released}", 2.0),
    ] {
        assert!((at(&counted, name) - value).abs() < 1e-9, "{name} in {counted:#?}");
    }
    assert!(at(&counted, "locks_renew_failures_total{kind=unavailable}") >= 3.0, "{counted:#?}");
    let text = lines.text();
    let times = |what: &str| text.matches(what).count();
    assert_eq!(times("the store fails; retrying"), 1, "a change of state, not every failure: {text}");
    assert_eq!((times("lock lost"), times("the store answers again"), times("secret")), (1, 1, 0), "{text}");
}

crate::privileges::suite! {
    plain_locks_tell_changes_once_and_are_counted_together,
    metrics_tell_the_life_of_an_election,
    traces_tell_changes_once_and_no_secrets,
}
