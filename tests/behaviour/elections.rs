//! Electors: when they lead, when they stop, what they tell.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynamo_elector::{
    Call, Elector, Embedded, EndReason, ErrorKind, Fault, Faults, Role, StopReason, Timing, Transition,
};
use futures::StreamExt;
use tokio::time::Instant;

use crate::client;

/// Everything that happens, with its simulated time: requests with their bodies, transitions, results.
#[derive(Clone)]
struct Log {
    start: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    fn line(&self, text: &str) {
        self.lines.lock().unwrap().push(format!("{:>12} {text}", self.start.elapsed().as_micros()));
    }

    /// The body's fields in the order of their names: the SDK keeps them in a randomly seeded map.
    fn call(&self, who: &str, call: &Call) {
        let body: serde_json::Value = serde_json::from_str(&call.body).unwrap();
        self.line(&format!("{who} {} {body}", call.operation));
    }

    fn follow(&self, who: &'static str, elector: &Elector) {
        let (log, mut transitions) = (self.clone(), elector.transitions());
        tokio::spawn(async move {
            while let Some(transition) = transitions.next().await {
                log.line(&format!("{who} {transition:?}"));
            }
        });
    }
}

/// R1, R5, R9: whatever the moment at which the store starts to hang, the leader is deposed at its
/// send plus its validity, before anybody takes over.
async fn the_store_hangs(seed: u64) -> String {
    // The SDK scatters its own retries with this generator.
    fastrand::seed(seed);
    let log = Log { start: Instant::now(), lines: Arc::default() };
    let timing = Timing::default();
    let engine = Embedded::in_memory().unwrap();
    let (faults, others) = (Faults::none(), Faults::none());
    let (one, two) = (client(&engine, &faults, seed).await, client(&engine, &others, seed + 1_000).await);
    let first = Elector::builder(&one, "election").build().unwrap();
    let second = Elector::builder(&two, "election").build().unwrap();
    log.follow("first", &first);
    log.follow("second", &second);
    let leadership = first.campaign().await.unwrap();
    let mut status = first.status();
    // Remembers when the last heartbeat that is answered was sent, and when a take-over was tried.
    let last_sent = Arc::new(Mutex::new(Instant::now()));
    let hang_at = Instant::now() + Duration::from_millis(1 + seed * 37 % 7_000);
    let (sent, sent_log) = (Arc::clone(&last_sent), log.clone());
    faults.set(move |call| {
        sent_log.call("first", call);
        let now = Instant::now();
        if now >= hang_at {
            return if seed.is_multiple_of(2) { Fault::LoseRequest } else { Fault::LoseReply };
        }
        *sent.lock().unwrap() = now;
        // Slow answers must not lengthen what counts from the send.
        let slow = Fault::Delay { request: Duration::from_millis(20), reply: Duration::from_millis(600) };
        if seed.is_multiple_of(3) { slow } else { Fault::Deliver }
    });
    let claimed = Arc::new(Mutex::new(None));
    let (first_claim, other_log) = (Arc::clone(&claimed), log.clone());
    others.set(move |call| {
        other_log.call("second", call);
        if call.operation == "UpdateItem" {
            first_claim.lock().unwrap().get_or_insert(Instant::now());
        }
        Fault::Deliver
    });
    let won = tokio::spawn(async move { second.campaign().await.unwrap() });
    leadership.cancelled().await;
    let fired = Instant::now();
    assert!(!leadership.is_valid() && !status.borrow_and_update().is_leader(), "seed {seed}");
    assert_eq!(status.borrow().role, Role::Follower, "seed {seed}: demoted with the token");
    assert_eq!(leadership.end_reason(), Some(EndReason::Deadline), "seed {seed}");
    let deadline = *last_sent.lock().unwrap() + timing.validity();
    let late = fired.duration_since(deadline);
    assert!(late <= Duration::from_millis(2), "seed {seed}: {late:?} after the deadline");
    assert!(fired + Duration::from_millis(2) >= deadline, "seed {seed}: too early");
    let next = won.await.unwrap();
    let taken = claimed.lock().unwrap().expect("somebody took over");
    assert!(taken >= fired + timing.guard(), "seed {seed}: taken over too early");
    assert_eq!(next.fencing_token(), 2, "seed {seed}");
    assert!(log.start.elapsed() <= Duration::from_secs(30), "seed {seed}: {:?}", log.start.elapsed());
    log.line("taken over");
    let lines = log.lines.lock().unwrap().join("\n");
    assert!(lines.contains("first Demoted") && lines.contains("second UpdateItem"), "seed {seed}: {lines}");
    lines
}

/// A runtime of its own for each seed, so that nothing is left over from another.
fn in_simulated_time(seed: u64) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(the_store_hangs(seed))
}

#[test]
fn when_the_store_hangs_the_token_fires_before_the_take_over_in_200_seeds() {
    for seed in 0..200 {
        in_simulated_time(seed);
    }
}

#[test]
fn the_same_seed_replays_to_the_byte() {
    for seed in 0..20 {
        let (once, again) = (in_simulated_time(seed), in_simulated_time(seed));
        assert!(once == again, "seed {seed}:\n{once}\n\nand again\n\n{again}");
    }
}

#[tokio::test(start_paused = true)]
async fn run_leads_again_and_again_and_survives_failing_work() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let elector = Elector::builder(&locks, "election").build().unwrap();
    let mut transitions = elector.transitions();
    let terms = Arc::new(AtomicU32::new(0));
    let (counted, stopper) = (Arc::clone(&terms), elector.clone());
    elector
        .run(async move |leadership| {
            assert!(leadership.is_valid());
            match counted.fetch_add(1, Ordering::SeqCst) {
                0 => Ok(()),
                1 => Err("broken work".into()),
                2 => panic!("work that panics"),
                _ => {
                    let stopper = stopper.clone();
                    tokio::spawn(async move { stopper.shutdown().await });
                    leadership.cancelled().await;
                    assert!(leadership.is_valid(), "valid for last writes while it drains");
                    Ok(())
                }
            }
        })
        .await
        .unwrap();
    assert_eq!(terms.load(Ordering::SeqCst), 4);
    let mut reasons = Vec::new();
    while reasons.len() < 4 {
        if let Transition::Demoted { reason, .. } = transitions.next().await.unwrap() {
            reasons.push(reason);
        }
    }
    assert_eq!(reasons, [EndReason::WorkEnded, EndReason::WorkFailed, EndReason::WorkFailed, EndReason::ShutDown]);
    elector.shutdown().await;
    assert_eq!(elector.status().borrow().role, Role::Stopped(StopReason::ShutDown));
}

#[tokio::test(start_paused = true)]
async fn no_release_is_written_while_work_or_a_view_still_runs() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let elector = Elector::builder(&locks, "election").build().unwrap();
    let leadership = elector.campaign().await.unwrap();
    let view = leadership.view();
    let released =
        || faults.calls().iter().any(|(call, _)| call.body.contains("isReleased") && call.body.contains(":released"));
    drop(leadership);
    view.cancelled().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(view.is_valid(), "renewals go on");
    assert!(!released());
    drop(view);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(released());
}

#[tokio::test(start_paused = true)]
async fn an_elector_outlives_every_error_of_the_store() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let elector = Elector::builder(&locks, "election").build().unwrap();
    for (fault, kind) in [
        (Fault::AccessDenied, ErrorKind::AccessDenied),
        (Fault::Throttle, ErrorKind::Throttled),
        (Fault::ServerError, ErrorKind::Unavailable),
        (Fault::ConnectError, ErrorKind::Unavailable),
        (Fault::LoseRequest, ErrorKind::Unavailable),
    ] {
        let injected = fault.clone();
        faults.set(move |_| injected.clone());
        let before = faults.calls().len();
        let campaign = elector.campaign();
        assert!(tokio::time::timeout(Duration::from_secs(60), campaign).await.is_err(), "{fault:?}");
        let status = elector.status().borrow().clone();
        assert_eq!(status.trouble.map(|trouble| trouble.kind), Some(kind), "{fault:?}");
        let calls = faults.calls().len() - before;
        assert!(calls < 300, "{fault:?} spins: {calls} calls in a minute");
    }
    faults.set(|_| Fault::Deliver);
    assert!(tokio::time::timeout(Duration::from_secs(20), elector.campaign()).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn leadership_can_end_at_the_first_miss() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let careful = Elector::builder(&locks, "careful").cancel_on_first_miss().build().unwrap();
    let patient = Elector::builder(&locks, "patient").build().unwrap();
    let (first, second) = (careful.campaign().await.unwrap(), patient.campaign().await.unwrap());
    let held = Instant::now();
    faults.set(|_| Fault::ServerError);
    first.cancelled().await;
    assert_eq!(first.end_reason(), Some(EndReason::FirstMiss));
    assert!(held.elapsed() < Duration::from_secs(5), "long before the deadline: {:?}", held.elapsed());
    second.at_risk().await;
    assert!(second.is_at_risk() && second.is_valid(), "the other one is only told");
    faults.set(|_| Fault::Deliver);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!second.is_at_risk() && second.is_valid(), "and recovers");
}

#[tokio::test(start_paused = true)]
async fn status_and_transitions_tell_the_same_story_in_order() {
    let engine = Embedded::in_memory().unwrap();
    let (one, two) = (client(&engine, &Faults::none(), 1).await, client(&engine, &Faults::none(), 2).await);
    let leader = Elector::builder(&one, "e").advertise("http://one").build().unwrap();
    let follower = Elector::builder(&two, "e").advertise("http://two").build().unwrap();
    let leadership = leader.campaign().await.unwrap();
    let mut told = follower.transitions();
    let campaign = follower.clone();
    let won = tokio::spawn(async move { campaign.campaign().await.unwrap() });
    let Some(Transition::LeaderChanged { epoch, leader: Some(seen), .. }) = told.next().await else {
        panic!("the follower sees a leader first");
    };
    assert_eq!((epoch, seen.address(), seen.fencing_token), (1, Some("http://one"), Some(1)));
    assert_eq!(follower.status().borrow().role, Role::Follower);
    leadership.resign().await;
    let status = leader.status().borrow().clone();
    assert_eq!((status.role, status.is_leader(), status.fencing_token()), (Role::Idle, false, None));
    let mut epochs = vec![epoch];
    loop {
        match told.next().await.unwrap() {
            Transition::Elected { epoch, fencing_token, .. } => {
                assert_eq!(fencing_token, 2);
                epochs.push(epoch);
                break;
            }
            Transition::LeaderChanged { epoch, leader, .. } => {
                assert_eq!(leader, None, "released, nobody leads");
                epochs.push(epoch);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(epochs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{epochs:?}");
    let next = won.await.unwrap();
    assert!(follower.status().borrow().is_leader() && next.is_valid());
    assert_eq!(follower.status().borrow().leader.as_ref().unwrap().address(), Some("http://two"));
    drop(next);
    follower.shutdown().await;
    assert!(matches!(told.next().await, Some(Transition::Demoted { reason: EndReason::Resigned, .. })));
    assert!(matches!(told.next().await, Some(Transition::Released { .. })));
    assert!(matches!(told.next().await, Some(Transition::Stopped { .. })));
    assert!(told.next().await.is_none(), "the stream ends");
}

/// R8: neither a late reply nor a store that comes back revives what was cancelled.
#[tokio::test(start_paused = true)]
async fn what_was_cancelled_stays_cancelled() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let elector = Elector::builder(&locks, "e").build().unwrap();
    let leadership = elector.campaign().await.unwrap();
    faults.set(|_| Fault::LoseReply);
    leadership.cancelled().await;
    faults.set(|_| Fault::Deliver);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!leadership.is_valid() && leadership.remaining().is_zero());
        assert!(!elector.status().borrow().is_leader());
    }
    assert_eq!(elector.campaign().await.unwrap_err().kind(), ErrorKind::Busy, "the old one still exists");
    drop(leadership);
    let again = elector.campaign().await.unwrap();
    assert_eq!(again.fencing_token(), 2, "a new term, a new token");
}

/// R7: work that ignores its token is dropped at its bound, and only then the record is released.
#[tokio::test(start_paused = true)]
async fn work_that_does_not_stop_is_dropped_at_its_bound() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let elector = Elector::builder(&locks, "e").hand_over_notice(Duration::ZERO);
    let elector = elector.drain_timeout(Duration::from_secs(2)).build().unwrap();
    struct Dropped(Arc<AtomicU32>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicU32::new(0));
    let (inside, stopper) = (Arc::clone(&dropped), elector.clone());
    let started = Instant::now();
    let run = elector.run(async move |_leadership| {
        let _dropped = Dropped(Arc::clone(&inside));
        let stopper = stopper.clone();
        tokio::spawn(async move { stopper.shutdown().await });
        std::future::pending::<()>().await;
        Ok(())
    });
    run.await.unwrap();
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(3), "{took:?}");
    let record = locks.get("e").await.unwrap().unwrap();
    assert!(record.is_released(), "released after the work was dropped");
}

/// R9: validity is read off the clock where it is asked for; no timer and no task has to have run.
#[tokio::test(start_paused = true)]
async fn validity_reads_the_clock_and_waits_for_no_timer() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let elector = Elector::builder(&locks, "e").build().unwrap();
    let leadership = elector.campaign().await.unwrap();
    let status = elector.status().borrow().clone();
    assert!(leadership.is_valid() && status.is_leader() && leadership.ensure(Duration::from_secs(7)).is_ok());
    // The first poll moves the clock, as a frozen process finds it; every other task is still asleep.
    let mut frozen = std::pin::pin!(tokio::time::advance(Timing::default().validity()));
    assert!(futures::poll!(&mut frozen).is_pending());
    assert!(futures::FutureExt::now_or_never(leadership.cancelled()).is_none(), "the keeper has not run yet");
    assert!(!leadership.is_valid() && !leadership.view().is_valid());
    assert!(leadership.remaining().is_zero() && leadership.ensure(Duration::ZERO).is_err());
    assert!(!status.is_leader() && !elector.status().borrow().is_leader());
    frozen.await;
    leadership.cancelled().await;
}

/// R2, R13: reads that go back in time neither restart a wait nor show as changes, and harm nobody.
#[tokio::test(start_paused = true)]
async fn reads_that_go_back_in_time_harm_nobody() {
    let engine = Embedded::in_memory().unwrap();
    let (leads, follows) = (Faults::none(), Faults::none());
    let (one, two) = (client(&engine, &leads, 1).await, client(&engine, &follows, 2).await);
    let leader = Elector::builder(&one, "e").build().unwrap();
    let follower = Elector::builder(&two, "e").build().unwrap();
    let leadership = leader.campaign().await.unwrap();
    let mut reads = 0;
    follows.set(move |call| {
        reads += u32::from(call.operation == "GetItem");
        if reads % 3 == 0 { Fault::StaleRead } else { Fault::Deliver }
    });
    let campaign = follower.clone();
    let won = tokio::spawn(async move { campaign.campaign().await.unwrap().fencing_token() });
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(leadership.is_valid());
    let stale = follows.calls().iter().filter(|(_, fault)| *fault == Fault::StaleRead).count();
    let strong = follows.calls().iter().filter(|(call, _)| call.body.contains("\"ConsistentRead\":true")).count();
    assert!(stale > 15 && strong > 10, "{stale} stale reads, {strong} confirmed");
    assert_eq!(follower.status().borrow().epoch, 1, "one change was seen: that somebody leads");
    assert!(!follows.calls().iter().any(|(call, _)| call.operation == "UpdateItem"), "no claim was tried");
    leads.set(|_| Fault::LoseRequest);
    let dead = Instant::now();
    assert_eq!(won.await.unwrap(), 2);
    assert!(dead.elapsed() < Duration::from_secs(12), "the wait was not restarted: {:?}", dead.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_lags_is_told_how_much_it_missed() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let elector = Elector::builder(&locks, "e").build().unwrap();
    let mut slow = elector.transitions();
    for _ in 0..100 {
        elector.campaign().await.unwrap().resign().await;
    }
    let Some(Transition::Missed(missed)) = slow.next().await else { panic!("nothing was marked") };
    let Some(
        Transition::Demoted { epoch, .. }
        | Transition::Elected { epoch, .. }
        | Transition::Released { epoch, .. }
        | Transition::LeaderChanged { epoch, .. },
    ) = slow.next().await
    else {
        panic!("the stream goes on");
    };
    assert_eq!(epoch, missed + 1, "exactly those before it are missing");
}

crate::privileges::suite! {
    run_leads_again_and_again_and_survives_failing_work,
    no_release_is_written_while_work_or_a_view_still_runs,
    an_elector_outlives_every_error_of_the_store,
    leadership_can_end_at_the_first_miss,
    status_and_transitions_tell_the_same_story_in_order,
    what_was_cancelled_stays_cancelled,
    work_that_does_not_stop_is_dropped_at_its_bound,
    validity_reads_the_clock_and_waits_for_no_timer,
    reads_that_go_back_in_time_harm_nobody,
    a_reader_that_lags_is_told_how_much_it_missed,
}
