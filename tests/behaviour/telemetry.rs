//! What an operator sees: metrics by their names, and trace events.

use std::collections::BTreeMap;
use std::time::Duration;

use dynamo_elector::{Elector, Embedded, Fault, Faults};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use crate::support::Lines;
use crate::{builder, client};

/// Everything recorded, as `name{label=value,…}`; of a histogram, how many values.
pub(crate) fn look(recorder: &PrometheusRecorder) -> BTreeMap<String, f64> {
    let text = recorder.handle().render();
    let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let seen = samples.map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let series = series.replace('"', "");
        let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((&series, ""));
        let mut labels: Vec<&str> = labels.split(',').collect();
        labels.sort_unstable();
        (format!("{}{{{}}}", name.trim_end_matches("_count"), labels.join(",")), value.parse().unwrap())
    });
    seen.collect()
}

pub(crate) fn at(seen: &BTreeMap<String, f64>, key: &str) -> f64 {
    seen.get(key).copied().unwrap_or(f64::NAN)
}

#[tokio::test(start_paused = true)]
async fn metrics_tell_the_life_of_an_election() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let elector = Elector::builder(&locks, "e").build().unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let zero = look(&recorder);
    assert_eq!(
        at(&zero, "leader_election_master_status{name=e}").to_bits(),
        0.0_f64.to_bits(),
        "told from the start: {zero:?}"
    );

    let leadership = elector.campaign().await.unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    let leads = look(&recorder);
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
    let lost = look(&recorder);
    assert!(at(&lost, "leader_election_master_status{name=e}").abs() < 1e-9, "{lost:#?}");
    assert!((at(&lost, "leader_election_lost_total{name=e,reason=deadline}") - 1.0).abs() < 1e-9, "{lost:#?}");
    assert!(at(&lost, "leader_election_renew_failures_total{kind=unavailable,name=e}") >= 3.0, "{lost:#?}");
    assert!((at(&lost, "leader_election_tenure_seconds{name=e}") - 1.0).abs() < 1e-9, "{lost:#?}");

    faults.set(|_| Fault::Deliver);
    drop(leadership);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let over = look(&recorder);
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
    let recorder = PrometheusBuilder::new().build_recorder();
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
    let counted = look(&recorder);
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

/// Two elections that share a partition key: one of them led must not look like the other, nor both like two leaders.
#[tokio::test(start_paused = true)]
async fn elections_that_differ_in_their_sort_key_are_told_apart() {
    let (lines, _traced) = Lines::record();
    let recorder = PrometheusBuilder::new().build_recorder();
    let _counted = metrics::set_default_local_recorder(&recorder);
    let engine = Embedded::in_memory().unwrap();
    let builder = builder(&engine, &Faults::none(), 1).sort_key_name("part").sort_key_value("usual");
    let locks = builder.build().await.unwrap();
    let other = Elector::builder(&locks, ("e", "other")).build().unwrap();
    let usual = Elector::builder(&locks, "e").build().unwrap();
    let (_one, _two) = (other.campaign().await.unwrap(), usual.campaign().await.unwrap());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let counted = look(&recorder);
    for name in ["e/other", "e"] {
        let series = format!("leader_election_master_status{{name={name}}}");
        assert!((at(&counted, &series) - 1.0).abs() < 1e-9, "{series} in {counted:#?}");
        assert!(lines.text().contains(&format!("leadership{{name={name} ")), "{}", lines.text());
    }
}

crate::privileges::suite! {
    elections_that_differ_in_their_sort_key_are_told_apart,
    plain_locks_tell_changes_once_and_are_counted_together,
    metrics_tell_the_life_of_an_election,
    traces_tell_changes_once_and_no_secrets,
}
