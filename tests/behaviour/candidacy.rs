//! Who leads when several could: preferred replicas, pauses, hand-overs, and the beacon.

use std::time::Duration;

use dynamo_elector::{Elector, Embedded, EndReason, ErrorKind, Fault, Faults, LockClient, Role, Running, StopReason};
use futures::FutureExt;
use tokio::time::Instant;

use crate::client;
use crate::support::{Idle, kind, sleep, within};

/// Replicas of one service, each with its delay.
async fn replicas(engine: &Embedded, delays: &[u64]) -> Vec<(LockClient, Running)> {
    let mut replicas = Vec::new();
    for (seed, delay) in (1..).zip(delays) {
        let locks = client(engine, &Faults::none(), seed).await;
        let running = Elector::builder(&locks, "e").campaign_delay(Duration::from_millis(*delay)).start().unwrap();
        replicas.push((locks, running));
    }
    replicas
}

fn leads(replica: &(LockClient, Running)) -> bool {
    replica.1.elector().status().borrow().is_leader()
}

async fn leader_of(replicas: &[(LockClient, Running)]) -> usize {
    let led = within(60_000, async {
        loop {
            let leaders: Vec<usize> = (0..replicas.len()).filter(|index| leads(&replicas[*index])).collect();
            if let [leader] = leaders[..] {
                return leader;
            }
            sleep(10).await;
        }
    });
    led.await
}

#[tokio::test(start_paused = true)]
async fn a_preferred_replica_wins_when_it_is_healthy() {
    for preferred in 0..3 {
        let engine = Embedded::in_memory().unwrap();
        let mut delays = [3_000, 3_000, 3_000];
        delays[preferred] = 0;
        let replicas = replicas(&engine, &delays).await;
        assert_eq!(leader_of(&replicas).await, preferred, "at first");
        // A hand-over goes to somebody else, late as they are.
        replicas[preferred].1.elector().hand_over().await;
        let other = leader_of(&replicas).await;
        assert_ne!(other, preferred);
        // And back: a leader is not deposed for a preferred one, but that one wins the next time.
        sleep(30_000).await;
        assert!(leads(&replicas[other]));
        replicas[other].1.elector().hand_over().await;
        let began = Instant::now();
        assert_eq!(leader_of(&replicas).await, preferred, "again");
        assert!(began.elapsed() < Duration::from_millis(1_500), "within a poll: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_delayed_replica_leads_when_no_other_is_left_and_its_delay_is_the_price() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 9).await;
    let elector = Elector::builder(&locks, "e").campaign_delay(Duration::from_secs(7)).build().unwrap();
    let began = Instant::now();
    let leadership = within(20_000, elector.campaign()).await.unwrap();
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(7) && took < Duration::from_millis(7_100), "by its own timer: {took:?}");
    drop(leadership);
}

#[tokio::test(start_paused = true)]
async fn a_paused_candidate_follows_and_claims_nothing_until_it_is_resumed() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &Faults::none(), 1).await, client(&engine, &faults, 2).await);
    let leader = Elector::builder(&one, "e").advertise("http://one").start().unwrap();
    leader.elector().until_leading().await.unwrap();
    let paused = Elector::builder(&two, "e").build().unwrap();
    // Also before its first campaign.
    paused.pause().await;
    let running = paused.start(Idle).unwrap();
    assert_eq!(paused.until_leader().await.unwrap().address(), Some("http://one"));
    leader.shutdown().await.unwrap();
    sleep(120_000).await;
    let status = paused.status().borrow().clone();
    assert_eq!((status.role, status.leader, status.is_paused), (Role::Follower, None, true));
    assert!(paused.health().is_ready, "readiness is not candidacy: {:?}", paused.health());
    assert!(faults.calls().iter().all(|(call, _)| call.operation != "UpdateItem"));
    let resumed = Instant::now();
    paused.resume();
    within(1_000, paused.until_leading()).await.unwrap();
    assert!(resumed.elapsed() < Duration::from_millis(100), "at once, not at the next poll: {:?}", resumed.elapsed());
    assert!(!paused.status().borrow().is_paused);
    running.shutdown().await.unwrap();
}

/// The claim is on its way when the pause comes: it is applied, and given back before anybody acts on it.
#[tokio::test(start_paused = true)]
async fn a_claim_that_wins_during_a_pause_is_given_back() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    faults.set(|call| match call.operation.as_str() {
        "UpdateItem" => Fault::Delay { request: Duration::from_millis(10), reply: Duration::from_millis(500) },
        _ => Fault::Deliver,
    });
    let elector = Elector::builder(&locks, "e").build().unwrap();
    let campaign = elector.clone();
    let won = tokio::spawn(async move { campaign.campaign().await.map(|leadership| leadership.fencing_token()) });
    while locks.get("e").await.unwrap().is_none() {
        sleep(5).await;
    }
    elector.pause().await;
    sleep(5_000).await;
    assert!(!won.is_finished());
    assert!(locks.get("e").await.unwrap().unwrap().is_released());
    assert_eq!(elector.status().borrow().last_end, Some(EndReason::Paused));
    elector.resume();
    assert_eq!(within(10_000, won).await.unwrap().unwrap(), 2);
}

/// After a term that was given up others have a poll or two to go first, also for those who campaign by hand.
#[tokio::test(start_paused = true)]
async fn whoever_resigns_lets_others_go_first() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let elector = Elector::builder(&locks, "e").build().unwrap();
    for _ in 0..5 {
        elector.campaign().await.unwrap().resign().await;
        let began = Instant::now();
        let again = elector.campaign().await.unwrap();
        let pause = began.elapsed();
        // Followers look once a heartbeat: each of them has.
        assert!(pause >= Duration::from_millis(2_490) && pause < Duration::from_millis(5_100), "{pause:?}");
        // Not after a loss: there every moment counts.
        locks.force_release("e").await.unwrap();
        again.cancelled().await;
        drop(again);
        let began = Instant::now();
        let again = elector.campaign().await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
        again.resign().await;
    }
}

/// For a lease, and not for one after the other: a campaign that is given up early and begun again does not wait anew.
#[tokio::test(start_paused = true)]
async fn whoever_hands_over_and_finds_nobody_leads_again_within_a_lease() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let elector = Elector::builder(&locks, "e").build().unwrap();
    elector.campaign().await.unwrap().hand_over().await;
    let began = Instant::now();
    let again = loop {
        if let Ok(won) = tokio::time::timeout(Duration::from_secs(3), elector.campaign()).await {
            break won.unwrap();
        }
    };
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(9_900) && waited <= Duration::from_secs(13), "{waited:?}");
    // Long after it nobody is owed a courtesy any more.
    again.hand_over().await;
    sleep(60_000).await;
    let began = Instant::now();
    let _leads = elector.campaign().await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
}

/// A pause of the whole process is no silence of its work: one look is not enough.
#[tokio::test(start_paused = true)]
async fn a_suspend_is_no_silence() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let elector = Elector::builder(&locks, "e").step_down_when_silent(Duration::from_secs(3)).build().unwrap();
    let running = elector.start(Idle).unwrap();
    elector.until_leading().await.unwrap();
    for _ in 0..5 {
        sleep(20_000).await;
        // Longer than the silence, shorter than the lease.
        locks.suspend(Duration::from_secs(4));
    }
    sleep(20_000).await;
    assert!(elector.status().borrow().is_leader(), "{:?}", elector.status().borrow().last_end);
    assert_eq!(elector.status().borrow().fencing_token(), Some(1));
    running.shutdown().await.unwrap();
}

/// R9: the machine was suspended for longer than its lease. The first look after it says no, timers or not, and within 250 ms
/// the token, the status and the transitions say so too.
#[tokio::test(start_paused = true)]
async fn after_a_suspend_the_status_demotes_itself() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let elector = Elector::builder(&locks, "e").build().unwrap();
    let leadership = elector.campaign().await.unwrap();
    sleep(5_000).await;
    let mut status = elector.status();
    assert!(status.borrow_and_update().is_leader() && leadership.is_valid());
    let snapshot = status.borrow().clone();
    locks.suspend(Duration::from_secs(20));
    assert!(!leadership.is_valid() && !snapshot.is_leader(), "the clock is asked, not a timer");
    let thawed = Instant::now();
    within(1_000, status.wait_for(|status| status.role != Role::Leader)).await.unwrap();
    assert!(thawed.elapsed() <= Duration::from_millis(260), "{:?}", thawed.elapsed());
    assert!(leadership.cancelled().now_or_never().is_some());
    assert_eq!(leadership.end_reason(), Some(EndReason::Deadline));
}

#[tokio::test(start_paused = true)]
async fn settings_out_of_their_range_are_refused() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let builder = || Elector::builder(&locks, "e");
    let long = Duration::from_secs(3_601);
    for (name, refused) in [
        ("delay", builder().campaign_delay(long).build()),
        ("tenure", builder().max_tenure(Duration::from_millis(9_999)).build()),
        ("silence", builder().step_down_when_silent(Duration::from_millis(1_999)).build()),
        ("advertised", builder().advertise(vec![0; 4_097]).build()),
    ] {
        assert_eq!(kind(refused), ErrorKind::InvalidInput, "{name}");
    }
    assert!(builder().campaign_delay(long - Duration::from_secs(1)).build().is_ok());
    let widest = builder().max_tenure(Duration::MAX).step_down_when_silent(Duration::MAX).drain_timeout(Duration::MAX);
    let elector = widest.build().unwrap();
    let running = elector.start(Idle).unwrap();
    sleep(100_000).await;
    assert!(elector.status().borrow().is_leader());
    assert_eq!(running.shutdown().await.map_err(|error| error.kind()), Ok(()));
    assert_eq!(elector.until_stopped().await, StopReason::ShutDown);
}

crate::privileges::suite! {
    a_preferred_replica_wins_when_it_is_healthy,
    a_delayed_replica_leads_when_no_other_is_left_and_its_delay_is_the_price,
    a_paused_candidate_follows_and_claims_nothing_until_it_is_resumed,
    a_claim_that_wins_during_a_pause_is_given_back,
    whoever_resigns_lets_others_go_first,
    whoever_hands_over_and_finds_nobody_leads_again_within_a_lease,
    a_suspend_is_no_silence,
    after_a_suspend_the_status_demotes_itself,
    settings_out_of_their_range_are_refused,
}
