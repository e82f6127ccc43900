//! What `docs/observability.md` promises, held against what is scraped and traced: names, labels, fields, values, and
//! what must never be in them.

mod life;
mod scrape;
mod traced;

use std::collections::BTreeSet;
use std::time::Duration;

use dynamo_elector::{Elector, Embedded, Faults};

use crate::builder;
use crate::support::{raw, sleep, text};
use life::{Life, SECRET, restore};
use scrape::{Scrape, recorder};
use traced::Traced;

/// The rows of the table of the document under this heading, and in each the words between backticks by cell.
fn table(heading: &str) -> Vec<Vec<Vec<String>>> {
    let document = include_str!("../../docs/observability.md");
    let section = document.split("\n## ").find(|section| section.starts_with(heading)).expect("a section");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    rows.map(|row| row.trim_matches('|').split('|').map(quoted).collect()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_document_lists_every_metric_as_it_is_scraped() {
    let recorder = recorder();
    let _counted = metrics::set_default_local_recorder(&recorder);
    let life = Life::begin().await;
    sleep(1).await;
    let scrape = Scrape::of(&recorder);
    let labels = scrape.labels();
    let scraped: BTreeSet<_> =
        scrape.types.iter().map(|(name, kind)| (name.clone(), kind.clone(), labels[name].clone())).collect();
    let document = include_str!("../../docs/observability.md");
    let documented: BTreeSet<_> = table("Metrics")
        .into_iter()
        .map(|row| {
            let name = row[0][0].clone();
            let line = document.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap();
            let kind = line.split(" | ").nth(1).unwrap().to_owned();
            (name, kind, row[3].iter().cloned().collect())
        })
        .collect();
    let only = |these: &BTreeSet<_>, those: &BTreeSet<_>| these.difference(those).cloned().collect::<Vec<_>>();
    assert_eq!(only(&scraped, &documented), [], "scraped, but not documented like this");
    assert_eq!(only(&documented, &scraped), [], "documented, but not scraped like this");
    assert!(scraped.len() >= 27, "{}", scraped.len());
    for name in scrape.types.keys() {
        assert!(scrape.helps.get(name).is_some_and(|help| help.len() > 15), "{name} has no HELP: {}", scrape.text);
    }
    drop(life);
}

/// `increase()` does not see the first event of a series that comes into being with it.
#[tokio::test(start_paused = true)]
async fn every_series_is_there_at_zero_and_none_comes_later() {
    let recorder = recorder();
    let _counted = metrics::set_default_local_recorder(&recorder);
    let life = Life::begin().await;
    sleep(1).await;
    let before = Scrape::of(&recorder);
    for (series, value) in &before.values {
        let asked = series.starts_with("leader_election_requests_total{") || series.contains("capacity_units");
        assert!(asked || *value == 0.0, "{series} is {value} before anything happened");
    }
    for series in [
        r#"leader_election_master_status{name="e"}"#,
        r#"leader_election_fencing_token{name="e"}"#,
        r#"leader_election_lost_total{name="e",reason="taken_over"}"#,
        r#"leader_election_release_total{name="e",outcome="expired"}"#,
        r#"leader_election_renew_failures_total{kind="throttled",name="e"}"#,
        r#"leader_election_store_failures_total{kind="malformed_record",name="e"}"#,
        r#"leader_election_callback_failures_total{callback="on_demoted",name="e"}"#,
        r#"leader_election_margin_seconds_bucket{le="+Inf",name="e"}"#,
        r#"leader_election_requests_total{op="DeleteItem"}"#,
        r#"locks_ended_total{reason="deadline"}"#,
    ] {
        assert_eq!(before.at(series).to_bits(), 0.0_f64.to_bits(), "{series}");
    }
    life.live().await;
    life.lose_a_lock().await;
    let after = Scrape::of(&recorder);
    let late: Vec<_> = after.values.keys().filter(|series| !before.values.contains_key(*series)).collect();
    assert!(late.is_empty(), "{late:#?}");
}

/// Through the exporter: what is scraped agrees with what happened.
#[tokio::test(start_paused = true)]
async fn what_is_scraped_agrees_with_what_happened() {
    let recorder = recorder();
    let _counted = metrics::set_default_local_recorder(&recorder);
    let life = Life::begin().await;
    let leadership = life.elector.campaign().await.unwrap();
    sleep(1).await;
    let leads = Scrape::of(&recorder);
    assert_eq!(leads.at(r#"leader_election_master_status{name="e"}"#).to_bits(), 1.0_f64.to_bits());
    assert_eq!(leads.at(r#"leader_election_fencing_token{name="e"}"#).to_bits(), 1.0_f64.to_bits());
    leadership.resign().await;
    life.live().await;
    life.lose_a_lock().await;
    let after = Scrape::of(&recorder);
    for (series, value) in [
        (r#"leader_election_master_status{name="e"}"#, 0.0),
        (r#"leader_election_fencing_token{name="e"}"#, 5.0),
        (r#"leader_election_transitions_total{name="e",to="leader"}"#, 5.0),
        (r#"leader_election_transitions_total{name="e",to="follower"}"#, 5.0),
        (r#"leader_election_transitions_total{name="e",to="stopped"}"#, 2.0),
        (r#"leader_election_lost_total{name="e",reason="deadline"}"#, 1.0),
        (r#"leader_election_lost_total{name="e",reason="resigned"}"#, 3.0),
        (r#"leader_election_lost_total{name="e",reason="work_failed"}"#, 1.0),
        (r#"leader_election_acquire_attempts_total{name="e",outcome="acquired"}"#, 5.0),
        (r#"leader_election_release_total{name="e",outcome="released"}"#, 4.0),
        (r#"leader_election_release_total{name="e",outcome="unknown"}"#, 1.0),
        (r#"leader_election_token_regressions_total{name="e"}"#, 1.0),
        (r#"leader_election_tenure_seconds_count{name="e"}"#, 5.0),
        (r#"leader_election_drain_seconds_count{name="e"}"#, 5.0),
        (r#"locks_acquired_total{}"#, 1.0),
        (r#"locks_held{}"#, 0.0),
        (r#"locks_ended_total{reason="deadline"}"#, 1.0),
        (r#"locks_released_total{outcome="released"}"#, 1.0),
    ] {
        assert_eq!(after.at(series), value, "{series} in {}", after.text);
    }
    // Four heartbeats in the 11 s that were free of faults, and the margin is what was left of the one before.
    let count = after.at(r#"leader_election_margin_seconds_count{name="e"}"#);
    let mean = after.at(r#"leader_election_margin_seconds_sum{name="e"}"#) / count;
    assert!(count >= 4.0 && (5.0..=7.0).contains(&mean), "{count} heartbeats with {mean} s left: {}", after.text);
    let failures = after.at(r#"leader_election_renew_failures_total{kind="unavailable",name="e"}"#);
    let all = after.at(r#"leader_election_store_failures_total{kind="unavailable",name="e"}"#);
    assert!(failures >= 3.0 && all >= failures, "{failures} of {all}");
    assert!(after.at(r#"leader_election_store_failures_total{kind="throttled",name="e"}"#) >= 1.0, "{}", after.text);
    assert!(after.at(r#"leader_election_requests_total{op="UpdateItem"}"#) >= 10.0, "{}", after.text);
}

/// For estates of thousands: the same events, without a series for each election.
#[tokio::test(start_paused = true)]
async fn elections_without_labels_are_counted_together() {
    let recorder = recorder();
    let _counted = metrics::set_default_local_recorder(&recorder);
    let engine = Embedded::in_memory().unwrap();
    let locks = builder(&engine, &Faults::none(), 1).without_election_labels().build().await.unwrap();
    let names = ["e", "election", "careful"];
    let electors: Vec<_> = names.iter().map(|name| Elector::builder(&locks, *name).build().unwrap()).collect();
    let mut leaderships = Vec::new();
    for elector in &electors {
        leaderships.push(elector.campaign().await.unwrap());
    }
    sleep(1).await;
    assert_eq!(Scrape::of(&recorder).at("leader_election_master_status{}"), 3.0);
    for round in 1..=4_u32 {
        leaderships.pop().unwrap().resign().await;
        sleep(1).await;
        let fewer = Scrape::of(&recorder);
        assert_eq!(fewer.at("leader_election_master_status{}"), 2.0, "round {round}");
        assert_eq!(fewer.at(r#"leader_election_lost_total{reason="resigned"}"#), f64::from(round));
        leaderships.push(electors[2].campaign().await.unwrap());
        sleep(1).await;
        assert_eq!(Scrape::of(&recorder).at("leader_election_master_status{}"), 3.0, "round {round}");
    }
    let scrape = Scrape::of(&recorder);
    assert!(!scrape.text.contains("name=\""), "{}", scrape.text);
    assert!(!scrape.types.contains_key("leader_election_fencing_token"), "{}", scrape.text);
    assert_eq!(scrape.at("leader_election_tenure_seconds_count{}"), 4.0);
}

#[tokio::test(start_paused = true)]
async fn the_document_lists_every_field_that_is_traced() {
    let (traced, _guard) = Traced::record();
    let life = Life::begin().await;
    life.live().await;
    life.lose_a_lock().await;
    life.overflow().await;
    let documented: BTreeSet<String> = table("Trace events").into_iter().map(|row| row[0][0].clone()).collect();
    assert_eq!(traced.fields(), documented);
    assert_eq!(traced.values("attribute"), ["expires_at"]);
    assert!(traced.values("leader").contains(&"\"node-1\"".to_owned()), "{:?}", traced.values("leader"));
    assert_eq!((traced.values("floor"), traced.values("found")), (vec!["2".into()], vec!["1".into()]));
}

#[tokio::test(start_paused = true)]
async fn a_term_is_one_span_and_tells_each_change_once() {
    let (traced, _guard) = Traced::record();
    let life = Life::begin().await;
    life.live().await;
    let told = traced.values("message");
    let times = |what: &str| told.iter().filter(|message| message.as_str() == what).count();
    assert_eq!(traced.values("owner"), vec!["node-1"; 4], "one span a term");
    assert_eq!(times("elected"), 4);
    assert_eq!((times("leadership lost"), times("leadership ends")), (1, 3), "{told:?}");
    assert_eq!(times("lease released") + times("lease not released: others wait for it to run out"), 4, "{told:?}");
    assert_eq!(times("a callback failed"), 1, "{told:?}");
    assert!(times("the store still fails") >= 2, "{told:?}");
    assert_eq!(times("the store fails; retrying"), 2, "one for each trouble: {told:?}");
}

/// Neither what records carry nor what DynamoDB answers is in a trace event or a label.
#[tokio::test(start_paused = true)]
async fn nothing_that_records_and_answers_carry_is_told() {
    let recorder = recorder();
    let _counted = metrics::set_default_local_recorder(&recorder);
    let (traced, _guard) = Traced::record();
    let life = Life::begin().await;
    life.live().await;
    life.lose_a_lock().await;
    // A damaged record, with somebody's data and attributes in it.
    let mut damaged = raw(&life.engine, "e").await.unwrap();
    damaged.remove("isReleased");
    damaged.insert("recordVersionNumber".into(), text("another"));
    damaged.insert("leaseDuration".into(), text("secret lease"));
    damaged.insert("note".into(), text("secret note"));
    restore(&life.engine, damaged).await;
    let second = Elector::builder(&life.locks, "e").build().unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(5), second.campaign()).await.is_err());
    let told = traced.0.lock().unwrap();
    assert!(told["kind"].iter().any(|kind| kind.contains("malformed_record")), "{:?}", told["kind"]);
    for (field, values) in told.iter() {
        let leak = values.iter().find(|value| value.contains(SECRET));
        assert!(leak.is_none(), "{field}: {leak:?}");
    }
    let scrape = Scrape::of(&recorder);
    assert!(scrape.at(r#"leader_election_store_failures_total{kind="malformed_record",name="e"}"#) >= 1.0);
    assert!(!scrape.text.contains(SECRET), "{}", scrape.text);
}

crate::privileges::suite! {
    the_document_lists_every_metric_as_it_is_scraped,
    every_series_is_there_at_zero_and_none_comes_later,
    what_is_scraped_agrees_with_what_happened,
    elections_without_labels_are_counted_together,
    the_document_lists_every_field_that_is_traced,
    a_term_is_one_span_and_tells_each_change_once,
    nothing_that_records_and_answers_carry_is_told,
}
