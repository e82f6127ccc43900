//! Pauses, labels and leases that differ: what time and names can do to an election.

use std::sync::{Arc, Mutex};

use dynamo_elector::{EndReason, Fault, Timing};
use tokio::time::Instant;

use super::pair::{LEASE, POLL, Pair, Replica, VALIDITY};
use crate::support::{millis, sleep};

/// The machine stands still between the send of a heartbeat and what is made of its answer.
#[tokio::test(start_paused = true)]
async fn a_pause_between_a_send_and_its_answer_counts_in_full() {
    for pause in [3_000, 5_000, VALIDITY - 100, VALIDITY + 100, 3_600_000] {
        let pair = Pair::new().await;
        let (machine, paused) = (pair.one.locks.clone(), Arc::new(Mutex::new(None)));
        let at = Arc::clone(&paused);
        pair.one.faults.set(move |call| {
            if at.lock().unwrap().is_some() {
                return Fault::LoseRequest;
            }
            if call.operation == "UpdateItem" {
                // The clock was read for this send; the answer is processed after it has run on.
                machine.suspend(millis(pause));
                *at.lock().unwrap() = Some(Instant::now());
            }
            Fault::Deliver
        });
        while paused.lock().unwrap().is_none() {
            sleep(1).await;
        }
        let leads = pair.one.leads();
        if pause <= 5_000 {
            // Nothing comes through any more, so what is left is what this answer gave.
            let left = pair.one.elector.leadership().unwrap().remaining();
            assert!(leads && left <= millis(VALIDITY - pause), "{left:?} left after {pause} ms");
            assert!(left + millis(5) >= millis(VALIDITY - pause), "{left:?} left after {pause} ms");
            let (stopped, took_over) = pair.watch(20_000).await;
            let stopped = stopped.unwrap();
            assert!(stopped <= left + millis(12) && stopped + millis(12) >= left, "{stopped:?}, {left:?} were left");
            assert!(took_over.is_some() && pair.one.last_end() == Some(EndReason::Deadline));
        } else {
            // R8: by then the deadline of the heartbeat before had passed, whatever this answer would have given.
            assert!(!leads, "{pause} ms: an answer that was processed too late revives nothing");
            sleep(1_000).await;
            assert_eq!(pair.one.last_end(), Some(EndReason::Deadline));
            pair.two.led(LEASE + POLL).await;
            assert!(pair.two.token() == Some(2) && !pair.one.leads());
        }
        pair.close().await;
    }
}

/// Two processes of one label: a name is no claim (R4), neither beside a leader nor after its death.
#[tokio::test(start_paused = true)]
async fn the_label_of_another_process_opens_nothing() {
    let same = |builder: dynamo_elector::LockClientBuilder| builder.owner("twin");
    let pair = Pair::with(same, same).await;
    let (stopped, _) = pair.watch(6 * LEASE).await;
    assert_eq!((stopped, pair.one.token()), (None, Some(1)));
    let claims = pair.two.faults.calls().iter().filter(|(call, _)| call.operation == "UpdateItem").count();
    assert_eq!(claims, 0, "it did not even try");
    // Dead, and restarted under its label at once: the new process waits like everybody else.
    pair.one.faults.set(|_| Fault::LoseRequest);
    let died = Instant::now();
    let again = Replica::with(&pair.engine, 3, same).await;
    while !pair.two.leads() && !again.leads() {
        assert!(!(pair.one.leads() && died.elapsed() > millis(VALIDITY)));
        sleep(5).await;
    }
    let failover = died.elapsed();
    assert!(
        !pair.one.leads() && failover >= millis(LEASE - 2_600) && failover <= millis(LEASE + POLL + 100),
        "{failover:?}"
    );
    assert_eq!(pair.two.token().or(again.token()), Some(2));
    sleep(30_000).await;
    assert!(pair.two.leads() != again.leads());
}

/// A rollout changes the lease: each waits for what the record says, whatever its own setting is (R2).
#[tokio::test(start_paused = true)]
async fn during_a_rollout_the_records_lease_counts() {
    let economy = |builder: dynamo_elector::LockClientBuilder| builder.timing(Timing::economy());
    let default = |builder: dynamo_elector::LockClientBuilder| builder;
    let heartbeats = [(Timing::economy(), 10_000), (Timing::default(), 2_500)];
    for (timing, heartbeat) in heartbeats {
        let lease = u64::try_from(timing.lease().as_millis()).unwrap();
        let pair =
            if heartbeat == 10_000 { Pair::with(economy, default).await } else { Pair::with(default, economy).await };
        sleep(2 * heartbeat).await;
        pair.one.faults.set(|_| Fault::LoseRequest);
        let (stopped, took_over) = pair.watch(lease + 5_000).await;
        let (stopped, took_over) = (stopped.unwrap(), took_over.unwrap());
        assert!(stopped <= timing.validity(), "{stopped:?}");
        assert!(took_over >= millis(lease - heartbeat - 10), "{took_over:?} of a lease of {lease} ms: too early");
        assert!(took_over <= millis(lease + POLL + 100), "{took_over:?} of a lease of {lease} ms: its own counted");
        assert!(took_over >= stopped + timing.guard());
        // The new leader writes its own.
        sleep(1).await;
        let own = pair.two.locks.get("e").await.unwrap().unwrap().lease();
        assert_eq!(own, pair.two.locks.timing().lease());
        pair.close().await;
    }
}
