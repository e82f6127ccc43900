//! Metrics and traces of a keeper and a herald on threads of their own, and a process to scrape.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{Elector, Embedded, LockClient, Timing};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::server::Server;

/// The bounds of buckets that `docs/observability.md` recommends.
fn seconds() -> Vec<f64> {
    let document = include_str!("../../docs/observability.md");
    let bounds = document.split("const SECONDS: &[f64] = &[").nth(1).unwrap().split("];").next().unwrap();
    bounds
        .split(',')
        .map(str::trim)
        .filter(|bound| !bound.is_empty())
        .map(|bound| bound.replace('_', "").parse().unwrap())
        .collect()
}

/// A thread-local recorder does not see the herald's thread: one for the process, and elections with names of their own.
fn global_recorder() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &seconds()).unwrap();
        builder.install_recorder().unwrap()
    })
}

/// What the threads of the crate trace, at every level, of every target: the SDK's too.
#[derive(Clone, Default)]
struct OwnThreads(Arc<Mutex<Vec<String>>>);

impl OwnThreads {
    /// For the process: a subscriber of the test's thread alone would not show what reaches the keeper's.
    fn record() -> Self {
        let own = Self::default();
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(own.clone())).unwrap();
        own
    }

    fn is_own() -> bool {
        std::thread::current().name().is_some_and(|name| name.starts_with("dynamo-elector"))
    }
}

impl Visit for OwnThreads {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.lock().unwrap().push(format!("{}={value:?}", field.name()));
    }
}

impl<S: tracing::Subscriber> Layer<S> for OwnThreads {
    fn on_new_span(&self, span: &tracing::span::Attributes<'_>, _: &tracing::span::Id, _: Context<'_, S>) {
        if Self::is_own() {
            span.record(&mut self.clone());
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if Self::is_own() {
            event.record(&mut self.clone());
        }
    }
}

/// Over HTTP, with credentials that sign each request: neither they nor what records carry are in a trace event of any level,
/// or in a label. The keeper itself, where the SDK would trace whole requests, traces nothing.
#[test]
fn no_credentials_and_no_data_are_traced_or_scraped() {
    let (traced, metrics, server) = (OwnThreads::record(), global_recorder(), Server::start());
    let credentials = Credentials::new("secret-id", "secret-key", Some("secret-session".into()), None, "test");
    let client = aws_sdk_dynamodb::Client::from_conf(crate::config(&server.url(), credentials).build());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let builder = LockClient::builder(&client, "locks").owner("traced-node").create_table();
        let locks = builder.timing(Timing::aggressive()).build().await.unwrap();
        let elector = Elector::builder(&locks, "traced").advertise("secret-address").build().unwrap();
        let leadership = elector.campaign().await.unwrap();
        leadership.proclaim("secret-data");
        let lock = locks
            .acquire("job")
            .data("secret-data")
            .attribute("note", AttributeValue::S("secret-note".into()))
            .await
            .unwrap();
        lock.release().await.unwrap();
        server.hang();
        leadership.cancelled().await;
        drop(leadership);
        elector.shutdown().await;
        locks.shutdown().await;
    });
    std::thread::sleep(Duration::from_millis(200));
    let told = traced.0.lock().unwrap().join("\n");
    for expected in ["traced-node", "reason=deadline", "the store fails; retrying"] {
        assert!(told.contains(expected), "{expected} is missing: {told}");
    }
    let text = metrics.render();
    assert!(text.contains(r#"leader_election_lost_total{name="traced",reason="deadline"} 1"#), "{text}");
    for (what, text) in [("traced", told), ("scraped", text)] {
        assert!(!text.contains("secret"), "{what}: {text}");
    }
}

/// In real time: what the herald's thread records reaches the recorder of the process, and agrees.
#[test]
fn a_term_in_real_time_is_scraped() {
    let metrics = global_recorder();
    let line = |series: &str| {
        let text = metrics.render();
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse::<f64>().ok())
    };
    let eventually = |series: &str, value: f64| {
        for _ in 0..200 {
            if line(series) == Some(value) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{series} is {:?}, not {value}", line(series));
    };
    let engine = Embedded::in_memory().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let locks = LockClient::embedded(&engine, "locks").timing(Timing::aggressive()).build().await.unwrap();
        let elector = Elector::builder(&locks, "in-real-time").build().unwrap();
        eventually(r#"leader_election_release_total{name="in-real-time",outcome="released"}"#, 0.0);
        let leadership = elector.campaign().await.unwrap();
        eventually(r#"leader_election_master_status{name="in-real-time"}"#, 1.0);
        tokio::time::sleep(Timing::aggressive().heartbeat() * 3).await;
        leadership.resign().await;
    });
    eventually(r#"leader_election_master_status{name="in-real-time"}"#, 0.0);
    eventually(r#"leader_election_release_total{name="in-real-time",outcome="released"}"#, 1.0);
    let margins = line(r#"leader_election_margin_seconds_sum{name="in-real-time"}"#).unwrap();
    let count = line(r#"leader_election_margin_seconds_count{name="in-real-time"}"#).unwrap();
    assert!(count >= 2.0, "{count} heartbeats in three periods");
    let timing = Timing::aggressive();
    let most = (timing.validity() - timing.heartbeat() / 3).as_secs_f64();
    assert!(margins / count <= most, "the margin is what was left before: {margins} / {count}");
}
