//! Many followers that are woken at the same moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynamo_elector::{Elector, Embedded, Fault, Faults, Timing};
use tokio::time::Instant;

use super::pair::{LEASE, VALIDITY};
use crate::builder;
use crate::support::{Idle, millis, sleep, within};

/// The requests of all of them, by the moment at which they were sent.
#[derive(Clone)]
struct Traffic {
    start: Instant,
    sent: Arc<Mutex<BTreeMap<Duration, (u32, u32)>>>,
}

impl Traffic {
    fn new() -> Self {
        Self { start: Instant::now(), sent: Arc::default() }
    }

    fn script(&self, faults: &Faults, fault: Fault) {
        let traffic = self.clone();
        faults.set(move |call| {
            let mut sent = traffic.sent.lock().unwrap();
            let (requests, writes) = sent.entry(traffic.start.elapsed()).or_default();
            *requests += 1;
            *writes += u32::from(call.operation == "UpdateItem");
            fault.clone()
        });
    }

    /// Requests, and writes among them, in a time that begins here.
    fn during(&self, from: Instant, length: u64) -> (u32, u32) {
        let from = from - self.start;
        let sent = self.sent.lock().unwrap();
        let within = sent.range(from..from + millis(length)).map(|(_, counts)| counts);
        within.fold((0, 0), |(requests, writes), (more, of_them)| (requests + more, writes + of_them))
    }

    /// The most requests within any second of a time that begins here.
    fn worst_second(&self, from: Instant, length: u64) -> u32 {
        (0..length / 50).map(|step| self.during(from + millis(step * 50), 1_000).0).max().unwrap_or(0)
    }
}

/// Replicas, the first of which leads, with one network for all the others.
struct Herd {
    leader: (Faults, Elector),
    others: Faults,
    followers: Vec<Elector>,
    traffic: Traffic,
}

impl Herd {
    async fn new(size: u64, timing: Timing) -> Self {
        let engine = Embedded::in_memory().unwrap();
        let (own, others) = (Faults::none(), Faults::none());
        let start = async |faults: &Faults, seed| {
            let locks = builder(&engine, faults, seed).timing(timing).build().await.unwrap();
            let elector = Elector::builder(&locks, "e").build().unwrap();
            drop(elector.start(Idle).unwrap());
            elector
        };
        let leader = start(&own, 1).await;
        within(5_000, leader.until_leading()).await.unwrap();
        let traffic = Traffic::new();
        traffic.script(&others, Fault::Deliver);
        let mut followers = Vec::new();
        for seed in 0..size {
            // A rollout starts them one after the other.
            sleep(3).await;
            followers.push(start(&others, seed + 2).await);
        }
        sleep(5_000).await;
        Self { leader: (own, leader), others, followers, traffic }
    }

    fn leaders(&self) -> usize {
        let all = self.followers.iter().chain([&self.leader.1]);
        all.filter(|elector| elector.status().borrow().is_leader()).count()
    }

    async fn until_one_leads(&self, bound: u64) -> Instant {
        let began = Instant::now();
        while self.leaders() == 0 {
            sleep(5).await;
            assert!(began.elapsed() <= millis(bound), "nobody leads after {:?}", began.elapsed());
        }
        Instant::now()
    }
}

const HERD: u64 = 200;

/// The record expires for all of them at nearly the same moment: each claims once at most, one wins, and the others search
/// for its heartbeats.
#[tokio::test(start_paused = true)]
async fn two_hundred_followers_of_a_leader_that_dies_claim_once_each() {
    fastrand::seed(1);
    let herd = Herd::new(HERD, Timing::default()).await;
    let (before, writes) = herd.traffic.during(Instant::now() - millis(4_000), 4_000);
    assert!(writes == 0 && before <= 1_000, "some looks each: {before} in four seconds");
    herd.leader.0.set(|_| Fault::LoseRequest);
    let died = Instant::now();
    sleep(VALIDITY).await;
    assert_eq!(herd.leaders(), 0);
    let won = herd.until_one_leads(LEASE).await;
    sleep(12_000).await;
    assert_eq!(herd.leaders(), 1);
    let (_, claims) = herd.traffic.during(died, 12_000);
    let worst = herd.traffic.worst_second(died, 20_000);
    println!("{HERD} followers, the leader dies: {claims} writes, at most {worst} requests in a second");
    // The winner renews besides.
    assert!(claims <= u32::try_from(HERD).unwrap() + 3, "{claims} writes");
    assert!(
        worst <= 5 * u32::try_from(HERD).unwrap(),
        "{worst} requests in a second: a claim each, looks for a heartbeat that does not come, a search for the next leader's"
    );
    let (after, writes) = herd.traffic.during(won + millis(10_000), 2_000);
    assert!(after <= 500 && writes <= 1, "and as before: {after} requests, {writes} writes");
}

/// Everybody is cut off until the lease is over and the back-off grows no more, and everybody is back at the same moment.
#[tokio::test(start_paused = true)]
async fn two_hundred_followers_come_back_from_an_outage_without_a_storm() {
    fastrand::seed(2);
    let herd = Herd::new(HERD, Timing::default()).await;
    herd.traffic.script(&herd.others, Fault::LoseRequest);
    herd.leader.0.set(|_| Fault::LoseRequest);
    sleep(20_000).await;
    let outage = herd.traffic.worst_second(Instant::now() - millis(5_000), 4_000);
    assert_eq!(herd.leaders(), 0);
    herd.traffic.script(&herd.others, Fault::Deliver);
    let back = Instant::now();
    herd.until_one_leads(2_000).await;
    sleep(12_000).await;
    assert_eq!(herd.leaders(), 1);
    let (_, writes) = herd.traffic.during(back, 6_000);
    let worst = herd.traffic.worst_second(back, 12_000);
    println!(
        "{HERD} followers in an outage: at most {outage} requests in a second; after it {writes} writes, at most {worst}"
    );
    // What each had under way, and a search for the heartbeats of the next leader.
    assert!(outage <= 500 && worst <= 1_000, "{outage} and {worst} requests in a second");
    assert!(writes <= 10, "everybody looks before it claims: {writes} writes");
    let (after, _) = herd.traffic.during(back + millis(10_000), 2_000);
    assert!(after <= 500, "and as before: {after} requests in two seconds");
}

/// No name for the store for three hours: it is asked for as often at the end as at the beginning, and when it is back it is
/// asked once a poll or heartbeat.
#[tokio::test(start_paused = true)]
async fn names_that_do_not_resolve_for_three_hours_end_without_a_storm() {
    fastrand::seed(3);
    let (lease, poll) = (millis(100_000), 10_000);
    let timing = Timing::builder().lease(lease).operation_timeout(millis(2_000)).poll(millis(poll)).build().unwrap();
    let herd = Herd::new(3, timing).await;
    herd.traffic.script(&herd.others, Fault::ConnectError);
    let since = Instant::now();
    sleep(3 * 3_600_000).await;
    let first = herd.traffic.during(since + millis(600_000), 1_200_000).0;
    let last = herd.traffic.during(Instant::now() - millis(1_200_000), 1_200_000).0;
    println!(
        "three without a name, a poll every ten seconds: {first} requests in twenty minutes, and {last} three hours later"
    );
    // One in three quarters of a poll: nobody claims what it can't look at.
    assert!(first <= 3 * 160 + 10 && last <= first + first / 10, "{first} and then {last}");
    assert!(herd.followers.iter().all(|follower| follower.health().is_live), "a restart mends no name server");
    assert!(herd.leader.1.status().borrow().is_leader(), "whoever has a name goes on");
    herd.traffic.script(&herd.others, Fault::Deliver);
    let back = Instant::now();
    sleep(10 * poll).await;
    let (requests, writes) = herd.traffic.during(back, 10 * poll);
    // A poll each, and now and then some looks for a heartbeat.
    assert!(requests <= 3 * (10 + 8) && writes <= 2 * 3, "{requests} requests, {writes} writes");
    assert!(herd.followers.iter().all(|follower| follower.status().borrow().trouble.is_none()) && herd.leaders() == 1);
}
