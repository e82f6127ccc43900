//! Networks that carry one way only, or only for some.

use std::sync::{Arc, Mutex};

use dynamo_elector::{EndReason, ErrorKind, Fault, Role};
use tokio::time::Instant;

use super::pair::{HEARTBEAT, LEASE, POLL, Pair, VALIDITY};
use crate::support::{millis, sleep};

/// When requests were sent that arrived, by the first replica.
fn arrivals(pair: &Pair, fault: Fault) -> Arc<Mutex<Instant>> {
    let last = Arc::new(Mutex::new(Instant::now()));
    let seen = Arc::clone(&last);
    pair.one.faults.set(move |call| {
        if call.operation == "UpdateItem" && fault == Fault::LoseReply {
            *seen.lock().unwrap() = Instant::now();
        }
        fault.clone()
    });
    last
}

/// Its heartbeats arrive and nobody tells it: it stops by its own clock, however fresh its record is. Its release arrives as
/// well, so nobody has to wait for the lease.
#[tokio::test(start_paused = true)]
async fn a_leader_that_is_heard_and_hears_nothing_stops_by_its_own_clock() {
    let pair = Pair::new().await;
    let last = arrivals(&pair, Fault::LoseReply);
    let began = Instant::now();
    let (stopped, took_over) = pair.watch(25_000).await;
    let (stopped, took_over) = (stopped.unwrap(), took_over.unwrap());
    assert!(stopped <= millis(VALIDITY) && stopped >= millis(VALIDITY - HEARTBEAT - 10), "{stopped:?}");
    assert_eq!((pair.one.last_end(), pair.one.trouble()), (Some(EndReason::Deadline), Some(ErrorKind::Unavailable)));
    assert_eq!(pair.two.token(), Some(2));
    assert!(*last.lock().unwrap() - began >= millis(3_000), "some heartbeats arrived meanwhile");
    assert!(took_over > stopped && took_over <= stopped + millis(2_000 + POLL + 100), "{stopped:?} {took_over:?}");
    assert!(pair.metric("leader_election_renew_failures_total{kind=unavailable,name=e}").await >= 2.0);
}

/// The other way: nothing of it arrives.
#[tokio::test(start_paused = true)]
async fn a_leader_that_is_not_heard_stops_before_it_is_followed() {
    let pair = Pair::new().await;
    arrivals(&pair, Fault::LoseRequest);
    let (stopped, took_over) = pair.watch(25_000).await;
    let (stopped, took_over) = (stopped.unwrap(), took_over.unwrap());
    assert!(stopped <= millis(VALIDITY) && stopped >= millis(VALIDITY - HEARTBEAT - 10), "{stopped:?}");
    // `L - V` apart, both counted from the same send: the guard and the room for clocks lie in between.
    let gap = took_over - stopped;
    assert!(gap >= millis(LEASE - VALIDITY) && gap <= millis(LEASE - VALIDITY + POLL + 100), "{gap:?}");
    assert_eq!((pair.one.last_end(), pair.two.token()), (Some(EndReason::Deadline), Some(2)));
}

/// A follower that is cut off either way claims nothing, says so, and disturbs nobody when it is back.
#[tokio::test(start_paused = true)]
async fn a_follower_that_is_cut_off_claims_nothing() {
    for fault in [Fault::LoseRequest, Fault::LoseReply] {
        let pair = Pair::new().await;
        let from = pair.two.faults.calls().len();
        let script = fault.clone();
        pair.two.faults.set(move |_| script.clone());
        let (stopped, _) = pair.watch(5 * LEASE).await;
        assert_eq!(stopped, None, "{fault:?}: the leader is none of its business");
        let claims = pair.two.faults.calls()[from..].iter().filter(|(call, _)| call.operation != "GetItem").count();
        // Its reads are not answered, so for all it knows the lease it saw has run out: it may ask, and is refused.
        let asked = pair.two.faults.calls().len() - from;
        assert!(claims < asked && asked <= 60, "{fault:?}: {claims} claims among {asked} requests");
        assert_eq!(pair.two.trouble(), Some(ErrorKind::Unavailable), "{fault:?}");
        assert!(!pair.two.elector.health().is_ready && pair.two.elector.health().is_live, "{fault:?}");
        pair.two.faults.set(|_| Fault::Deliver);
        let (stopped, _) = pair.watch(2 * LEASE).await;
        assert_eq!((stopped, pair.one.token(), pair.two.trouble()), (None, Some(1), None), "{fault:?}");
        assert_eq!(pair.two.elector.status().borrow().role, Role::Follower, "{fault:?}");
        pair.close().await;
    }
}

/// Everybody is cut off, each in another way, for longer than the lease: nobody leads, and then one does.
#[tokio::test(start_paused = true)]
async fn when_nobody_is_heard_nobody_leads() {
    let pair = Pair::new().await;
    pair.one.faults.set(|_| Fault::LoseReply);
    pair.two.faults.set(|_| Fault::LoseRequest);
    let (stopped, took_over) = pair.watch(3 * LEASE).await;
    assert!(stopped.is_some() && took_over.is_none());
    pair.one.faults.set(|_| Fault::Deliver);
    pair.two.faults.set(|_| Fault::Deliver);
    let back = Instant::now();
    while !pair.one.leads() && !pair.two.leads() {
        sleep(5).await;
        assert!(back.elapsed() <= millis(LEASE + 2 * POLL), "{:?}", back.elapsed());
    }
    let terms = pair.one.token().max(pair.two.token());
    sleep(30_000).await;
    assert!(pair.one.leads() != pair.two.leads() && pair.one.token().max(pair.two.token()) == terms);
}
