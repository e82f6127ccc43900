//! Fifty elections on three replicas for two minutes, replicas dying and coming back: one leader each at the end, at no time two,
//! and metrics that tell what the transitions told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use dynamo_elector::{Elections, Embedded, Fault, Faults, LockClient, Transition};
use futures::StreamExt;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::time::Instant;

use crate::builder;
use crate::support::{Idle, sleep, within};
use crate::telemetry::look;

const ELECTIONS: usize = 50;
const MINUTES: u64 = 2;
/// When a replica dies, in milliseconds.
const DEATHS: [u64; 4] = [20_000, 45_000, 70_000, 95_000];

/// How often each thing was told, by the names that metrics use.
type Told = Arc<Mutex<BTreeMap<String, f64>>>;

struct Replica {
    faults: Faults,
    locks: LockClient,
    group: Elections,
}

impl Replica {
    async fn start(engine: &Embedded, seed: u64, told: &Told) -> Self {
        let faults = Faults::none();
        let locks = builder(engine, &faults, seed).without_election_labels().build().await.unwrap();
        let group = Elections::new(&locks);
        let (mut transitions, told) = (group.transitions(), Arc::clone(told));
        tokio::spawn(async move {
            while let Some((_, transition)) = transitions.next().await {
                let name = match transition {
                    Transition::Elected { .. } => "leader_election_transitions_total{to=leader}".to_owned(),
                    Transition::Demoted { reason, .. } => format!("leader_election_lost_total{{reason={reason}}}"),
                    Transition::Released { outcome, .. } => {
                        format!("leader_election_release_total{{outcome={}}}", outcome.as_str())
                    }
                    Transition::Missed(missed) => panic!("{missed} transitions were missed"),
                    _ => continue,
                };
                *told.lock().unwrap().entry(name).or_default() += 1.0;
            }
        });
        for election in 0..ELECTIONS {
            let elector = group.elector(format!("e-{election}")).build().unwrap();
            drop(elector.start(Idle).unwrap());
        }
        Self { faults, locks, group }
    }

    /// Nothing of it reaches the store any more, and nothing reaches it: it stops by its own clock. Its machine is taken away
    /// when it has stopped.
    fn die(&self) {
        self.faults.set(|_| Fault::LoseRequest);
        let group = self.group.clone();
        tokio::spawn(async move {
            sleep(15_000).await;
            group.shutdown().await;
        });
    }

    fn leads(&self) -> Vec<String> {
        let leaders = self.group.electors().into_iter().filter(|elector| elector.status().borrow().is_leader());
        leaders.map(|elector| elector.name().to_owned()).collect()
    }
}

/// The leaders of each election, over all replicas, the dead included.
fn leaders(replicas: &[Replica]) -> BTreeMap<String, usize> {
    let mut leaders = BTreeMap::new();
    for name in replicas.iter().flat_map(Replica::leads) {
        *leaders.entry(name).or_default() += 1;
    }
    leaders
}

#[tokio::test(start_paused = true)]
async fn fifty_elections_on_three_replicas_with_deaths_end_with_one_leader_each() {
    fastrand::seed(7);
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let engine = Embedded::in_memory().unwrap();
    let told = Told::default();
    let mut replicas = Vec::new();
    for seed in 1..=3 {
        replicas.push(Replica::start(&engine, seed, &told).await);
    }
    let began = Instant::now();
    let mut deaths = DEATHS.into_iter().peekable();
    let mut died = 0;
    while began.elapsed().as_millis() < u128::from(MINUTES * 60_000) {
        sleep(100).await;
        for (name, count) in leaders(&replicas) {
            assert_eq!(count, 1, "{name} has {count} leaders at {:?}", began.elapsed());
        }
        if deaths.next_if(|at| began.elapsed().as_millis() >= u128::from(*at)).is_some() {
            // The oldest that lives; another process takes its place.
            replicas[died].die();
            died += 1;
            let seed = replicas.len() as u64 + 1;
            replicas.push(Replica::start(&engine, seed, &told).await);
        }
    }
    let leaders = leaders(&replicas);
    assert_eq!(leaders.len(), ELECTIONS, "each has one: {leaders:?}");
    let living = &replicas[died..];
    assert_eq!(living.len(), 3);
    for replica in living {
        for name in replica.leads() {
            let record = replica.locks.get(name.as_str()).await.unwrap().unwrap();
            assert_eq!(record.owner(), replica.locks.owner(), "{name}");
        }
    }
    sleep(1).await;
    let metrics = look(&recorder);
    assert!((metrics["leader_election_master_status{}"] - 50.0).abs() < 1e-9, "{metrics:#?}");
    agree(&told, &metrics);
    assert!(told.lock().unwrap()["leader_election_lost_total{reason=deadline}"] > 20.0, "the dead led some: {told:?}");

    for replica in living {
        within(60_000, replica.group.shutdown()).await;
    }
    sleep(60_000).await;
    let metrics = look(&recorder);
    assert!(metrics["leader_election_master_status{}"].abs() < 1e-9, "{metrics:#?}");
}

/// The counters have counted what the streams told, and nothing else.
fn agree(told: &Told, metrics: &BTreeMap<String, f64>) {
    let told = told.lock().unwrap();
    let counted = metrics.iter().filter(|(name, value)| {
        let family = ["_transitions_total{to=leader}", "_lost_total{", "_release_total{"];
        family.iter().any(|part| name.contains(part)) && **value > 0.0
    });
    let counted: BTreeMap<String, f64> = counted.map(|(name, value)| (name.clone(), *value)).collect();
    assert_eq!(counted, *told);
}
