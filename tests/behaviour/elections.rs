//! Electors: when they lead, when they stop, what they tell.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynamo_elector::{Elector, Embedded, EndReason, ErrorKind, Fault, Faults, Role, Timing, Transition};
use futures::StreamExt;

use crate::client;

/// R1, R5, R9: whatever the moment at which the store starts to hang, the leader is deposed at its
/// send plus its validity, before anybody takes over.
#[tokio::test(start_paused = true)]
async fn when_the_store_hangs_the_token_fires_before_the_take_over_in_200_seeds() {
    let validity = Timing::default().validity();
    for seed in 0..200_u64 {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let (one, two) = (client(&engine, &faults, seed).await, client(&engine, &Faults::none(), seed + 1_000).await);
        let first = Elector::builder(&one, "election").build().unwrap();
        let second = Elector::builder(&two, "election").build().unwrap();
        let leadership = first.campaign().await.unwrap();
        let mut status = first.status();
        // Remembers when the last heartbeat that is answered was sent.
        let last_sent = Arc::new(Mutex::new(tokio::time::Instant::now()));
        let hang_at = tokio::time::Instant::now() + Duration::from_millis(1 + seed * 37 % 7_000);
        let sent = Arc::clone(&last_sent);
        faults.set(move |_| {
            let now = tokio::time::Instant::now();
            if now >= hang_at {
                return if seed % 2 == 0 { Fault::LoseRequest } else { Fault::LoseReply };
            }
            *sent.lock().unwrap() = now;
            Fault::Deliver
        });
        let won = tokio::spawn(async move { (second.campaign().await.unwrap(), tokio::time::Instant::now()) });
        leadership.cancelled().await;
        let fired = tokio::time::Instant::now();
        assert!(!leadership.is_valid() && !status.borrow_and_update().is_leader(), "seed {seed}");
        assert_eq!(leadership.end_reason(), Some(EndReason::Deadline), "seed {seed}");
        let deadline = *last_sent.lock().unwrap() + validity;
        let late = fired.duration_since(deadline);
        assert!(late <= Duration::from_millis(2), "seed {seed}: {late:?} after the deadline");
        assert!(fired + Duration::from_millis(2) >= deadline, "seed {seed}: too early");
        let (next, taken) = won.await.unwrap();
        assert!(taken >= fired + Timing::default().guard(), "seed {seed}: taken over too early");
        assert_eq!(next.fencing_token(), 2, "seed {seed}");
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
    assert_eq!(elector.status().borrow().role, Role::Stopped);
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
