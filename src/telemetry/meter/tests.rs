use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::*;
use crate::ending::EndReason;
use crate::telemetry::CALLBACKS;

/// A herald's meter under a recorder, fed as the queue feeds it.
struct Bench {
    recorder: PrometheusRecorder,
    meter: Meter,
    standing: Arc<Standing>,
}

impl Bench {
    fn new(naming: Naming) -> Self {
        let (recorder, standing) = (PrometheusBuilder::new().build_recorder(), Arc::new(Standing::default()));
        let meter = metrics::with_local_recorder(&recorder, || Meter::new(Arc::clone(&standing), naming));
        Self { recorder, meter, standing }
    }

    fn send(&mut self, event: &Event) {
        self.standing.note(event);
        metrics::with_local_recorder(&self.recorder, || self.meter.record(event, 0));
    }

    /// The queue was full.
    fn drop_event(&self, event: &Event) {
        self.standing.note(event);
    }

    /// All series whose name and labels, as `name{label=value,…}`, begin like this.
    fn values(&self, beginning: &str) -> Vec<(String, f64)> {
        let text = self.recorder.handle().render();
        let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let seen = samples.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let series = series.replace('"', "");
            (if series.contains('{') { series } else { series + "{}" }, value.parse().unwrap())
        });
        seen.filter(|(series, _)| series.starts_with(beginning)).collect()
    }

    fn value(&self, series: &str) -> Option<f64> {
        self.values(series).first().map(|(_, value)| *value)
    }
}

fn registered(name: &str) -> Event {
    Event::Registered { name: name.into() }
}

fn elected(name: &str) -> Event {
    Event::Elected { name: name.into(), owner: "node".into(), token: 7 }
}

fn ended(name: &str) -> Event {
    Event::Ended { name: name.into(), reason: EndReason::Resigned, tenure: Duration::from_secs(1) }
}

fn beacon(name: &str, age: u64) -> Event {
    Event::Beacon { name: name.into(), age: Duration::from_secs(age) }
}

fn paused(name: &str, paused: bool) -> Event {
    Event::Paused { name: name.into(), paused }
}

#[test]
fn without_labels_the_status_is_the_number_of_elections_led_after_many_terms() {
    let mut bench = Bench::new(Naming::Together);
    for name in ["a", "b", "c"] {
        bench.send(&registered(name));
    }
    assert_eq!(bench.value("leader_election_master_status{}"), Some(0.0));
    bench.send(&elected("c"));
    for _ in 0..1_000 {
        bench.send(&elected("a"));
        bench.send(&elected("b"));
        assert_eq!(bench.value("leader_election_master_status{}"), Some(3.0));
        bench.send(&ended("a"));
        bench.send(&ended("b"));
        assert_eq!(bench.value("leader_election_master_status{}"), Some(1.0));
    }
    assert!(bench.values("leader_election_fencing_token").is_empty(), "tokens of several elections say nothing");
    bench.send(&elected("a"));
    assert!(bench.values("leader_election_fencing_token").is_empty());
    let named: Vec<_> = bench.values("").into_iter().filter(|(series, _)| series.contains("name=")).collect();
    assert!(named.is_empty(), "{named:?}");
}

/// Each herald of a process writes to the same recorder.
#[test]
fn two_clients_of_a_process_add_up() {
    let mut bench = Bench::new(Naming::Each);
    let other = Arc::new(Standing::default());
    bench.send(&registered("a"));
    bench.send(&elected("a"));
    metrics::with_local_recorder(&bench.recorder, || {
        let mut meter = Meter::new(Arc::clone(&other), Naming::Each);
        other.note(&registered("a"));
        meter.record(&registered("a"), 0);
    });
    assert_eq!(bench.value("leader_election_master_status{name=a}"), Some(1.0), "a second candidate changes nothing");
    bench.send(&ended("a"));
    assert_eq!(bench.value("leader_election_master_status{name=a}"), Some(0.0));
}

/// The queue is bounded; a gauge that missed an event is right again with the next one.
#[test]
fn a_dropped_event_leaves_no_gauge_wrong() {
    let mut bench = Bench::new(Naming::Each);
    bench.drop_event(&registered("a"));
    bench.send(&elected("a"));
    assert_eq!(bench.value("leader_election_master_status{name=a}"), Some(1.0));
    bench.drop_event(&ended("a"));
    let other = registered("b");
    bench.standing.note(&other);
    metrics::with_local_recorder(&bench.recorder, || bench.meter.record(&other, 1));
    assert_eq!(bench.value("leader_election_master_status{name=a}"), Some(0.0));
    assert_eq!(bench.value("leader_election_events_dropped_total{}"), Some(1.0));
}

#[test]
fn a_recorder_that_comes_late_finds_everything() {
    let standing = Arc::new(Standing::default());
    let mut meter = Meter::new(Arc::clone(&standing), Naming::Each);
    for event in [registered("a"), elected("a")] {
        standing.note(&event);
        meter.record(&event, 0);
    }
    let mut bench = Bench { recorder: PrometheusBuilder::new().build_recorder(), meter, standing };
    bench.send(&Event::Recovered { name: "a".into() });
    assert_eq!(bench.value("leader_election_master_status{name=a}"), Some(1.0));
    assert_eq!(bench.value("leader_election_lost_total{name=a,reason=deadline}"), Some(0.0));
    assert_eq!(bench.value("leader_election_requests_total{op=Scan}"), Some(0.0));
}

#[test]
fn beacons_are_told_apart_or_the_oldest_of_all() {
    let mut each = Bench::new(Naming::Each);
    let mut together = Bench::new(Naming::Together);
    for bench in [&mut each, &mut together] {
        for (name, age) in [("a", 9), ("b", 2), ("a", 4)] {
            bench.send(&registered(name));
            bench.send(&beacon(name, age));
        }
    }
    assert_eq!(each.value("leader_election_beacon_age_seconds{name=a}"), Some(4.0));
    assert_eq!(each.value("leader_election_beacon_age_seconds{name=b}"), Some(2.0));
    assert_eq!(together.value("leader_election_beacon_age_seconds{}"), Some(4.0));
    together.send(&Event::Stopped { name: "a".into() });
    assert_eq!(together.value("leader_election_beacon_age_seconds{}"), Some(2.0), "who has stopped is not silent");
    each.send(&Event::Gone { name: "b".into() });
    assert_eq!(each.value("leader_election_beacon_age_seconds{name=b}"), Some(0.0));
}

#[test]
fn pauses_are_told_once_however_often_they_are_asked_for() {
    let mut bench = Bench::new(Naming::Together);
    bench.send(&registered("a"));
    bench.send(&registered("b"));
    for _ in 0..3 {
        bench.send(&paused("a", true));
        bench.send(&paused("b", true));
    }
    assert_eq!(bench.value("leader_election_paused{}"), Some(2.0));
    bench.send(&paused("a", false));
    assert_eq!(bench.value("leader_election_paused{}"), Some(1.0));
    bench.send(&Event::Gone { name: "b".into() });
    assert_eq!(bench.value("leader_election_paused{}"), Some(0.0), "nobody is left to be paused");
}

#[test]
fn each_callback_has_its_count() {
    let mut bench = Bench::new(Naming::Each);
    bench.send(&registered("a"));
    let failures = bench.values("leader_election_callback_failures_total{name=a,callback=");
    assert_eq!(failures.len(), CALLBACKS.len(), "{failures:?}");
    let failed = Event::CallbackFailed { name: "a".into(), callback: "on_demoted", why: "broken".into() };
    bench.send(&failed);
    for (series, value) in bench.values("leader_election_callback_failures_total{") {
        let expected = if series.contains("on_demoted") { 1.0 } else { 0.0 };
        assert_eq!(value.to_bits(), f64::to_bits(expected), "{series}");
    }
}
