//! Planned ends: announced in the record while work goes on, so that the next leader is there when it is released.

use std::time::Duration;

use dynamo_elector::{Elector, ElectorBuilder, Embedded, EndReason, Fault, Faults};
use tokio::time::Instant;

use crate::client;
use crate::support::{Idle, millis, raw, since, sleep, slow, value, within};

/// One way: a round trip takes twice as long.
const HALF_TRIP: u64 = 10;
const HEARTBEAT: u64 = 2_500;
const POLL: u64 = 1_000;

struct Replica {
    faults: Faults,
    elector: Elector,
}

impl Replica {
    async fn start(engine: &Embedded, seed: u64, configure: impl FnOnce(ElectorBuilder) -> ElectorBuilder) -> Self {
        let faults = Faults::none();
        faults.set(|_| slow(HALF_TRIP, HALF_TRIP));
        let locks = client(engine, &faults, seed).await;
        let elector = configure(Elector::builder(&locks, "e")).build().unwrap();
        drop(elector.start(Idle).unwrap());
        Self { faults, elector }
    }

    fn leads(&self) -> bool {
        self.elector.status().borrow().is_leader()
    }

    /// Until a heartbeat has just been sent: the next one is as far away as it can be.
    async fn beats(&self) {
        let before = self.faults.calls().len();
        while self.faults.calls().len() == before {
            sleep(1).await;
        }
    }

    fn cut_off(&self) {
        self.faults.set(|_| Fault::LoseRequest);
    }
}

/// A leader and two followers that have found its schedule.
async fn replicas(engine: &Embedded, configure: impl FnOnce(ElectorBuilder) -> ElectorBuilder) -> Vec<Replica> {
    let leader = Replica::start(engine, 1, configure).await;
    within(5_000, leader.elector.until_leading()).await.unwrap();
    let mut all = vec![leader];
    for seed in 2..4 {
        all.push(Replica::start(engine, seed, |builder| builder).await);
    }
    sleep(25_000 + fastrand::u64(0..HEARTBEAT)).await;
    all
}

async fn has(engine: &Embedded, attribute: &str) -> bool {
    raw(engine, "e").await.unwrap().contains_key(attribute)
}

/// For how long from now on the first one leads, and how long after its release was applied somebody else does.
async fn handed_over(engine: &Embedded, replicas: &[Replica]) -> (Duration, Duration) {
    let began = Instant::now();
    while replicas[0].leads() {
        assert!(!replicas[1..].iter().any(Replica::leads));
        sleep(1).await;
    }
    let led = began.elapsed();
    within(1_000, async {
        while !has(engine, "isReleased").await {
            sleep(1).await;
        }
    })
    .await;
    let released = Instant::now();
    while !replicas[1..].iter().any(Replica::leads) {
        sleep(1).await;
    }
    (led, released.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_planned_end_is_announced_and_the_next_leader_is_there_within_two_round_trips() {
    for reason in [EndReason::HandedOver, EndReason::Paused, EndReason::ShutDown, EndReason::MaxTenure] {
        let mut gaps = Vec::new();
        for seed in 0..4 {
            fastrand::seed(seed);
            let engine = Embedded::in_memory().unwrap();
            let tenure = reason == EndReason::MaxTenure;
            let limit = |builder: ElectorBuilder| {
                if tenure { builder.max_tenure(millis(30_000)) } else { builder }
            };
            let replicas = replicas(&engine, limit).await;
            let leader = &replicas[0];
            assert!(leader.leads() && !has(&engine, "endingMillis").await);
            let from = leader.faults.calls().len();
            let elector = leader.elector.clone();
            match reason {
                EndReason::HandedOver => drop(tokio::spawn(async move { elector.hand_over().await })),
                EndReason::Paused => drop(tokio::spawn(async move { elector.pause().await })),
                EndReason::ShutDown => drop(tokio::spawn(async move { elector.shutdown().await })),
                _ => {
                    while !has(&engine, "endingMillis").await {
                        sleep(50).await;
                    }
                }
            }
            let (notice, gap) = handed_over(&engine, &replicas).await;
            assert!(notice <= millis(HEARTBEAT + 300), "{reason}: {notice:?}");
            assert!(notice >= millis(POLL - 50), "{reason}: whoever polls has looked once: {notice:?}");
            gaps.push(gap);
            // Off the schedule, and again with the next heartbeat, which those read who follow heartbeats.
            let announced = since(&leader.faults, from);
            let announced = announced.iter().filter_map(|call| value(call, ":ending")).count();
            assert!((1..=3).contains(&announced), "{reason}: {announced}");
            assert!(!has(&engine, "endingMillis").await, "{reason}: the next leader plans nothing");
            assert_eq!(leader.elector.status().borrow().last_end, Some(reason));
        }
        gaps.sort_unstable();
        let (middle, most) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
        println!("{reason}: {gaps:?}");
        assert!(middle <= millis(4 * HALF_TRIP + 25), "{reason}: {middle:?} at p50");
        assert!(most <= millis(100), "{reason}: {most:?}");
    }
}

/// Nothing was promised: who announced its end and died before is followed as any other.
#[tokio::test(start_paused = true)]
async fn an_announced_end_that_falls_through_is_followed_by_an_open_election() {
    let engine = Embedded::in_memory().unwrap();
    let replicas = replicas(&engine, |builder| builder).await;
    let elector = replicas[0].elector.clone();
    drop(tokio::spawn(async move { elector.hand_over().await }));
    while !has(&engine, "endingMillis").await {
        sleep(1).await;
    }
    let died = Instant::now();
    replicas[0].cut_off();
    while !replicas[1..].iter().any(Replica::leads) {
        assert!(died.elapsed() < millis(10_000 + HEARTBEAT + 100), "as after a crash");
        sleep(1).await;
    }
    assert!(died.elapsed() >= millis(10_000 - HALF_TRIP) && !replicas[0].leads(), "{:?}", died.elapsed());
    assert!(!has(&engine, "endingMillis").await);
    sleep(20_000).await;
    assert_eq!(replicas[1..].iter().filter(|replica| replica.leads()).count(), 1, "and it stays");
}

/// Where time is short, or nobody would hear of it.
#[tokio::test(start_paused = true)]
async fn an_end_that_can_not_be_told_does_not_wait() {
    let engine = Embedded::in_memory().unwrap();
    let at_once = replicas(&engine, |builder| builder.hand_over_notice(Duration::ZERO)).await;
    let from = at_once[0].faults.calls().len();
    let elector = at_once[0].elector.clone();
    drop(tokio::spawn(async move { elector.hand_over().await }));
    let (notice, gap) = handed_over(&engine, &at_once).await;
    assert!(notice <= millis(2 * HALF_TRIP), "{notice:?}");
    assert!(gap <= millis(HEARTBEAT + 100), "and is seen at the next look: {gap:?}");
    let told = since(&at_once[0].faults, from).iter().filter(|call| value(call, ":ending").is_some()).count();
    assert_eq!(told, 0);

    // It is cut off while it waits: the first heartbeat that is missed ends the wait.
    let engine = Embedded::in_memory().unwrap();
    let cut_off = replicas(&engine, |builder| builder).await;
    cut_off[0].beats().await;
    sleep(3 * HALF_TRIP).await;
    cut_off[0].cut_off();
    let elector = cut_off[0].elector.clone();
    let began = Instant::now();
    drop(tokio::spawn(async move { elector.hand_over().await }));
    while cut_off[0].leads() {
        sleep(1).await;
    }
    assert!(began.elapsed() <= millis(2_100), "{:?}", began.elapsed());
    assert_eq!(cut_off[0].elector.status().borrow().last_end, Some(EndReason::HandedOver));

    // Whatever else ends meanwhile ends it at once.
    let engine = Embedded::in_memory().unwrap();
    let alone = Replica::start(&engine, 1, |builder| builder).await;
    within(5_000, alone.elector.until_leading()).await.unwrap();
    // Just after a heartbeat, so that the next one is refused before the announced end.
    alone.beats().await;
    let elector = alone.elector.clone();
    drop(tokio::spawn(async move { elector.hand_over().await }));
    sleep(100).await;
    assert!(alone.leads());
    let released = engine.client().update_item().table_name("locks").key("key", crate::support::text("e"));
    let released = released.update_expression("SET isReleased = :one");
    let one = crate::support::text("1");
    released.expression_attribute_values(":one", one).send().await.unwrap();
    within(HEARTBEAT + 100, async {
        while alone.leads() {
            sleep(1).await;
        }
    })
    .await;
    assert_eq!(alone.elector.status().borrow().last_end, Some(EndReason::ReleasedByAnother));
}

/// It is lost while its end is announced, and work takes its time: nothing waits for the announced moment any more, over and over.
#[tokio::test(start_paused = true)]
async fn time_goes_on_when_it_is_lost_meanwhile() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let elector = Elector::builder(&locks, "e").build().unwrap();
    let leadership = elector.campaign().await.unwrap();
    let handing_over = elector.clone();
    let outcome = tokio::spawn(async move { handing_over.hand_over().await });
    sleep(100).await;
    assert!(leadership.is_valid() && has(&engine, "endingMillis").await);
    locks.force_release("e").await.unwrap();
    leadership.cancelled().await;
    assert_eq!(leadership.end_reason(), Some(EndReason::ReleasedByAnother));
    let stopped = Instant::now();
    // Past the announced moment, and still not gone.
    sleep(3 * HEARTBEAT).await;
    assert_eq!(stopped.elapsed(), millis(3 * HEARTBEAT));
    drop(leadership);
    within(1_000, outcome).await.unwrap();
}

crate::privileges::suite! {
    a_planned_end_is_announced_and_the_next_leader_is_there_within_two_round_trips,
    an_announced_end_that_falls_through_is_followed_by_an_open_election,
    an_end_that_can_not_be_told_does_not_wait,
    time_goes_on_when_it_is_lost_meanwhile,
}
