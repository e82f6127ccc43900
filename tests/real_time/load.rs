//! Many locks on one client: each keeps its own schedule.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dynamo_elector::{Embedded, Fault, Faults, LockClient, Timing};
use futures::StreamExt;

use crate::clock;

/// Half of the round trip before the store, half after it.
const LEG: Duration = Duration::from_millis(10);

/// When each lock's heartbeats were sent.
type Beats = Arc<Mutex<BTreeMap<String, Vec<Instant>>>>;

fn record(faults: &Faults) -> Beats {
    let beats = Beats::default();
    let sent = Arc::clone(&beats);
    faults.set(move |call| {
        let body: serde_json::Value = serde_json::from_str(&call.body).unwrap();
        if let (true, Some(key)) = (call.operation == "UpdateItem", body["Key"]["key"]["S"].as_str()) {
            sent.lock().unwrap().entry(key.to_owned()).or_default().push(clock());
        }
        Fault::Delay { request: LEG, reply: LEG }
    });
    beats
}

/// How far each heartbeat was from its place in its lock's absolute schedule, as shares of the period.
fn deviations(beats: &BTreeMap<String, Vec<Instant>>, period: Duration) -> Vec<f64> {
    let of_lock = |times: &Vec<Instant>| -> Vec<f64> {
        let places = times.iter().enumerate().skip(1);
        places
            .map(|(index, at)| {
                let due = period * u32::try_from(index).unwrap();
                let since = at.duration_since(times[0]);
                since.abs_diff(due).as_secs_f64() / period.as_secs_f64()
            })
            .collect()
    };
    let mut all: Vec<f64> = beats.values().flat_map(of_lock).collect();
    all.sort_by(f64::total_cmp);
    all
}

/// `LOAD_LOCKS` and `LOAD_SECONDS` change how many and how long. dynamolock lost 70 of 100 at half this rate.
#[test]
#[ignore = "takes a minute: `just load` runs it"]
fn two_hundred_locks_are_renewed_on_schedule_for_a_minute() {
    let set = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (count, time) = (set("LOAD_LOCKS", 200), Duration::from_secs(set("LOAD_SECONDS", 60)));
    let (engine, faults, timing) = (Embedded::in_memory().unwrap(), Faults::none(), Timing::default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let beats = record(&faults);
    let held = runtime.block_on(async {
        let locks =
            LockClient::builder(&engine.client_with_faults(&faults), "locks").share_http_client().create_table();
        let locks = locks.timing(timing).build().await.unwrap();
        let acquire = |number| {
            let locks = locks.clone();
            async move { locks.try_acquire(format!("lock-{number}")).await.unwrap().expect("free") }
        };
        // Not all at once: an unoptimized SDK takes seconds of computing for that, and a lease is 10.
        let held: Vec<_> = futures::stream::iter((0..count).map(acquire)).buffer_unordered(16).collect().await;
        beats.lock().unwrap().clear();
        let start = clock();
        while start.elapsed() < time {
            let lost = held.iter().filter(|lock| !lock.is_valid() || lock.end_reason().is_some()).count();
            assert_eq!(lost, 0, "lost after {:?}", start.elapsed());
            assert_eq!(locks.held().len(), held.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        held
    });
    let beats = std::mem::take(&mut *beats.lock().unwrap());
    assert_eq!(beats.len(), held.len(), "each was renewed");
    let off = deviations(&beats, timing.heartbeat());
    let at = |share: usize| off[(off.len() - 1) * share / 100];
    println!(
        "{count} locks, {time:?}, {} heartbeats: off their schedule by {:.1} % at p50, {:.1} % at p99, {:.1} % at most; none lost",
        off.len(),
        at(50) * 100.0,
        at(99) * 100.0,
        at(100) * 100.0
    );
    let least = time.as_secs_f64() / timing.heartbeat().as_secs_f64() - 2.0;
    assert!(beats.values().all(|times| times.len() as f64 >= least), "none was left out");
    assert!(at(99) <= 0.1, "{:.3} of a period at p99", at(99));
}
