//! Ends: releases that fail, clients that close, leaders that are cut off.

use std::sync::{Arc, Mutex};

use dynamo_elector::{Elector, Embedded, EndReason, ErrorKind, Fault, Faults, Key, ReleaseOutcome, Timing};
use tokio::time::{Instant, sleep, timeout};

use super::{TICK, VALIDITY, cut, millis, releases, seconds};
use crate::{client, operations};

/// Go: closing waits behind an acquire that is running, and meanwhile the heartbeats of held locks have stopped.
#[tokio::test(start_paused = true)]
async fn closing_ends_a_running_acquire_and_renews_what_still_winds_down() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
    let _busy = two.acquire("busy").await.unwrap();
    let lock = one.acquire("job").await.unwrap();
    let elector = Elector::builder(&one, "e").drain_timeout(seconds(60)).build().unwrap();
    let leadership = elector.campaign().await.unwrap();
    let acquiring = one.clone();
    let running = tokio::spawn(async move { acquiring.acquire("busy").await });
    sleep(seconds(1)).await;
    let (from, start, closing) = (faults.calls().len(), Instant::now(), one.clone());
    let closing = tokio::spawn(async move { closing.shutdown().await });
    assert_eq!(running.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    sleep(TICK).await;
    assert!(start.elapsed() < millis(10), "nobody waits for the acquire: {:?}", start.elapsed());
    assert!(lock.lost().is_cancelled() && two.get("job").await.unwrap().unwrap().is_released());
    // The leadership winds down for four leases.
    leadership.cancelled().await;
    while start.elapsed() < seconds(40) {
        sleep(millis(100)).await;
        assert!(leadership.is_valid(), "after {:?}", start.elapsed());
    }
    assert!(operations(&faults, from).len() >= 16, "by heartbeats: {:?}", operations(&faults, from));
    drop(leadership);
    let mut report = closing.await.unwrap().locks;
    report.sort_by(|a, b| a.0.cmp(&b.0));
    let released = |key: &str| (Key::from(key), ReleaseOutcome::Released);
    assert_eq!(report, [released("e"), released("job")]);
}

/// The releases of one key are denied.
fn deny(faults: &Faults, key: &'static str) {
    faults.set(move |call| {
        let denied = releases(call) && call.body.contains(&format!("\"S\":\"{key}\""));
        if denied { Fault::AccessDenied } else { Fault::Deliver }
    });
}

/// Go: closing ends at the first release that fails, with the other locks still held, and can't be called again.
#[tokio::test(start_paused = true)]
async fn closing_goes_on_past_a_release_that_fails_and_can_be_repeated() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
    let mut held = Vec::new();
    for key in ["a", "b", "c", "d"] {
        held.push(one.acquire(key).await.unwrap());
    }
    deny(&faults, "b");
    let start = Instant::now();
    let report = timeout(seconds(60), one.shutdown()).await.expect("it ends");
    assert!(start.elapsed() <= seconds(11), "bounded by the lease: {:?}", start.elapsed());
    assert_eq!(report.locks.len(), 4);
    assert_eq!(report.unreleased().collect::<Vec<_>>(), [&Key::from("b")]);
    for key in ["a", "c", "d"] {
        assert!(two.try_acquire(key).await.unwrap().is_some(), "{key} was released");
    }
    assert!(two.try_acquire("b").await.unwrap().is_none());
    faults.set(|_| Fault::Deliver);
    let again = one.shutdown().await;
    assert_eq!((again.locks.len(), again.unreleased().count()), (4, 0), "{again:?}");
    assert!(two.try_acquire("b").await.unwrap().is_some(), "the second time");
}

/// Java: one release that fails leaves the other locks with heartbeats for ever.
#[tokio::test(start_paused = true)]
async fn nothing_is_renewed_after_a_shutdown_with_a_release_that_fails() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let mut held = Vec::new();
    for key in ["a", "b", "c"] {
        held.push(locks.acquire(key).await.unwrap());
    }
    deny(&faults, "a");
    let from = faults.calls().len();
    let report = timeout(seconds(60), locks.shutdown()).await.expect("it ends");
    assert_eq!(report.unreleased().count(), 1);
    let calls = faults.calls();
    assert!(calls[from..].iter().all(|(call, _)| releases(call)), "releases, and not one heartbeat");
    sleep(seconds(60)).await;
    assert_eq!(faults.calls().len(), calls.len(), "and then nothing, for a minute");
    assert!(held.iter().all(|lock| !lock.is_valid() && lock.end_reason() == Some(EndReason::ShutDown)));
}

/// Go: after one release that failed, `Lock.Close()` can never release again.
#[tokio::test(start_paused = true)]
async fn a_release_that_fails_is_tried_until_it_comes_through() {
    for fault in [Fault::ServerError, Fault::Throttle, Fault::ConnectError, Fault::AccessDenied, Fault::LoseReply] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let (one, two) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
        let lock = one.acquire("job").await.unwrap();
        let (start, injected) = (Instant::now(), fault.clone());
        faults.set(move |_| if start.elapsed() < seconds(5) { injected.clone() } else { Fault::Deliver });
        let release = timeout(seconds(60), lock.release().into_future()).await.expect("no request hangs for ever");
        assert_eq!(release.unwrap(), ReleaseOutcome::Released, "{fault:?}");
        assert!(start.elapsed() >= seconds(5) && start.elapsed() < seconds(8), "{fault:?}: {:?}", start.elapsed());
        assert!(two.try_acquire("job").await.unwrap().is_some(), "{fault:?}");
    }
}

/// Rust crates: the token starts at 0 again once a lock was released.
#[tokio::test(start_paused = true)]
async fn tokens_rise_across_releases_and_clients() {
    let engine = Embedded::in_memory().unwrap();
    for token in 1..=10 {
        // A client that has never seen the record before, as after a restart.
        let locks = client(&engine, &Faults::none(), token).await;
        let lock = locks.acquire("job").await.unwrap();
        assert_eq!(lock.fencing_token().unwrap(), token);
        assert_eq!(lock.release().await.unwrap(), ReleaseOutcome::Released);
        assert_eq!(locks.get("job").await.unwrap().unwrap().fencing_token(), Some(token), "it stays there");
    }
}

/// client-go with `ReleaseOnCancel`: a leader that is cut off tries to release, for another deadline, before it cancels its
/// work: two leaders in 10 of 10.
#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_stops_its_work_before_it_tries_to_release() {
    for round in 0..10 {
        let engine = Embedded::in_memory().unwrap();
        let (faults, others) = (Faults::none(), Faults::none());
        let (one, two) = (client(&engine, &faults, round).await, client(&engine, &others, 100).await);
        let first = Elector::builder(&one, "e").build().unwrap();
        let second = Elector::builder(&two, "e").build().unwrap();
        // When the last heartbeat came through, work stopped, a release was first sent, somebody else claimed.
        let times = Arc::new(Mutex::new([None; 4]));
        let note = |index: usize| {
            let times = Arc::clone(&times);
            move || {
                times.lock().unwrap()[index].get_or_insert_with(Instant::now);
            }
        };
        let (stopped, released, claimed) = (note(1), note(2), note(3));
        let (cut_at, sent) = (Instant::now() + millis(400 * round + 3_000), Arc::clone(&times));
        faults.set(move |call| {
            if releases(call) {
                released();
            }
            if Instant::now() >= cut_at {
                return Fault::LoseRequest;
            }
            sent.lock().unwrap()[0] = Some(Instant::now());
            Fault::Deliver
        });
        let leads = first.run(async |leadership| {
            leadership.cancelled().await;
            assert!(!leadership.is_valid());
            // Winding down outlasts the heartbeat that hangs, in some rounds: nothing may be released meanwhile.
            sleep(millis(1_200)).await;
            stopped();
            Ok(())
        });
        let follows = async {
            sleep(seconds(1)).await;
            others.set(move |call| {
                if call.operation == "UpdateItem" {
                    claimed();
                }
                Fault::Deliver
            });
            second.campaign().await.unwrap()
        };
        let next = tokio::select! { ran = leads => panic!("{ran:?}"), next = follows => next };
        let [Some(sent), Some(stopped), Some(released), Some(claimed)] = *times.lock().unwrap() else {
            panic!("{times:?}")
        };
        assert!(
            stopped <= sent + VALIDITY + millis(1_200) + TICK,
            "round {round}: {:?} after the send",
            stopped - sent
        );
        assert!(released >= stopped, "round {round}: released before work had stopped");
        assert!(claimed >= stopped + Timing::default().guard(), "round {round}: two leaders");
        assert_eq!(next.fencing_token(), 2);
    }
}

/// client-go with `ReleaseOnCancel`: the same for whoever gives up while cut off: cancelling does not wait for the network.
#[tokio::test(start_paused = true)]
async fn giving_up_while_cut_off_cancels_at_once() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let elector = Elector::builder(&locks, "e").build().unwrap();
    let resigns = Elector::builder(&locks, "resigns").build().unwrap();
    let (leadership, resigned) = (elector.campaign().await.unwrap(), resigns.campaign().await.unwrap());
    let view = resigned.view();
    let (lock, released) = (locks.acquire("job").await.unwrap(), locks.acquire("released").await.unwrap());
    let token = released.lost().clone();
    cut(&faults);
    // A heartbeat of each hangs by now.
    sleep(seconds(3)).await;
    let start = Instant::now();
    let instant = millis(1);
    assert!(timeout(instant, elector.shutdown()).await.is_err(), "the network does not answer");
    assert!(futures::FutureExt::now_or_never(leadership.cancelled()).is_some());
    assert_eq!(leadership.end_reason(), Some(EndReason::ShutDown));
    assert!(timeout(instant, resigned.resign()).await.is_err());
    assert!(futures::FutureExt::now_or_never(view.cancelled()).is_some());
    assert!(timeout(instant, released.release().into_future()).await.is_err());
    assert!(token.is_cancelled());
    assert!(timeout(instant, locks.shutdown()).await.is_err());
    assert!(lock.lost().is_cancelled() && !lock.is_valid() && !locks.has_lock("released").unwrap());
    assert!(start.elapsed() < millis(20), "{:?}", start.elapsed());
    // Work that winds down may go on writing, up to the deadline that was there before and no longer.
    assert!(leadership.is_valid() && view.is_valid());
    sleep(VALIDITY - seconds(3)).await;
    assert!(!leadership.is_valid() && !view.is_valid());
}
