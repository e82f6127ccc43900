//! A store that answers, and not with what was asked for: throttling, server errors, denials, conflicts.

use dynamo_elector::{EndReason, ErrorKind, Fault};
use tokio::time::Instant;

use super::pair::{HEARTBEAT, LEASE, POLL, Pair, VALIDITY};
use crate::support::{millis, refusal, sleep};

/// Every way in which a request can fail at once, and what the user is told.
fn failures() -> Vec<(&'static str, Fault, ErrorKind)> {
    let skewed = "Signature expired: 20250101T000000Z is now earlier than 20250101T010000Z";
    vec![
        ("throttled", Fault::Throttle, ErrorKind::Throttled),
        ("server error", Fault::ServerError, ErrorKind::Unavailable),
        ("no name, no connection", Fault::ConnectError, ErrorKind::Unavailable),
        ("denied", Fault::AccessDenied, ErrorKind::AccessDenied),
        (
            "expired credentials",
            refusal("ExpiredTokenException", "The security token is expired"),
            ErrorKind::AccessDenied,
        ),
        ("deleted credentials", refusal("UnrecognizedClientException", "It is invalid."), ErrorKind::AccessDenied),
        ("clock-skewed signature", refusal("InvalidSignatureException", skewed), ErrorKind::AccessDenied),
        ("clock-skewed request", refusal("RequestExpired", skewed), ErrorKind::AccessDenied),
        ("conflicts", refusal("TransactionConflictException", "Transaction is ongoing"), ErrorKind::Throttled),
    ]
}

/// Nothing but its deadline ends a leadership whose renewals fail, whoever says no and however firmly (R5).
#[tokio::test(start_paused = true)]
async fn a_leader_whose_renewals_fail_stops_at_its_deadline_and_another_leads() {
    for (what, fault, kind) in failures() {
        let pair = Pair::new().await;
        let from = pair.one.faults.calls().len();
        pair.one.faults.set(move |_| fault.clone());
        let (stopped, took_over) = pair.watch(LEASE + POLL + 2_000).await;
        let (stopped, took_over) = (stopped.expect(what), took_over.expect(what));
        // The last heartbeat that came through was sent up to a period before.
        assert!(stopped <= millis(VALIDITY) && stopped >= millis(VALIDITY - HEARTBEAT - 10), "{what}: {stopped:?}");
        assert!(took_over >= stopped + millis(1_900), "{what}: {took_over:?} after an end at {stopped:?}");
        assert_eq!(pair.one.last_end(), Some(EndReason::Deadline), "{what}");
        assert_eq!(pair.one.trouble(), Some(kind), "{what}: the status says why");
        assert!(!pair.one.elector.health().is_ready && pair.one.elector.health().is_live, "{what}");
        assert_eq!((pair.two.token(), pair.two.trouble()), (Some(2), None), "{what}");
        let failed =
            pair.metric(&format!("leader_election_renew_failures_total{{kind={},name=e}}", kind.as_str())).await;
        assert!(failed >= 2.0, "{what}: {failed}");
        let asked = pair.one.faults.calls().len() - from;
        assert!(asked <= 90, "{what}: {asked} requests in {LEASE} ms");

        // Over: for all it knows its own lease has run out, so it may ask, once, and is refused; the trouble is forgotten.
        pair.one.faults.set(|_| Fault::Deliver);
        let from = pair.one.faults.calls().len();
        sleep(10_000).await;
        assert!(pair.two.leads() && pair.two.token() == Some(2), "{what}");
        assert_eq!(pair.one.trouble(), None, "{what}");
        let claims = pair.one.faults.calls()[from..].iter().filter(|(call, _)| call.body.contains(":owner")).count();
        assert!(claims <= 1, "{what}: {claims}");
        pair.close().await;
    }
}

/// Five seconds of it cost nothing but a warning.
#[tokio::test(start_paused = true)]
async fn failures_that_end_before_the_deadline_cost_no_leadership() {
    for (what, fault, kind) in failures() {
        let pair = Pair::new().await;
        let until = Instant::now() + millis(5_000);
        let script = fault.clone();
        pair.one.faults.set(move |_| if Instant::now() < until { script.clone() } else { Fault::Deliver });
        sleep(4_900).await;
        let at_risk = pair.one.locks.held().iter().any(|held| held.is_at_risk);
        assert!(at_risk && pair.one.leads() && pair.one.trouble() == Some(kind), "{what}: told at the first miss");
        let (stopped, _) = pair.watch(5_000).await;
        assert_eq!((stopped, pair.one.token(), pair.one.trouble()), (None, Some(1), None), "{what}");
        assert!(pair.one.locks.held().iter().all(|held| !held.is_at_risk), "{what}");
        pair.close().await;
    }
}

/// The store fails everybody: nobody leads, and nobody claims what is not theirs; then one does.
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_everybody_leaves_nobody_in_the_lead_until_it_is_back() {
    for (what, fault, kind) in failures() {
        let pair = Pair::new().await;
        for replica in [&pair.one, &pair.two] {
            let fault = fault.clone();
            replica.faults.set(move |_| fault.clone());
        }
        let (stopped, took_over) = pair.watch(20_000).await;
        assert!(stopped.is_some_and(|stopped| stopped <= millis(VALIDITY)) && took_over.is_none(), "{what}");
        for replica in [&pair.one, &pair.two] {
            assert_eq!(replica.trouble(), Some(kind), "{what}");
            replica.faults.set(|_| Fault::Deliver);
        }
        // What only a human can mend is looked at every ten polls.
        let slow = if kind.is_transient() { POLL } else { 10 * POLL };
        let back = Instant::now();
        while !pair.one.leads() && !pair.two.leads() {
            sleep(5).await;
            assert!(
                back.elapsed() <= millis(slow + 100),
                "{what}: nobody leads {:?} after it was back",
                back.elapsed()
            );
        }
        sleep(10_000).await;
        assert!(pair.one.leads() != pair.two.leads(), "{what}");
        let won = pair.metric("leader_election_transitions_total{name=e,to=leader}").await;
        assert!((won - 2.0).abs() < 1e-9, "{what}: one election, not a struggle: {won}");
        pair.close().await;
    }
}

/// A transaction of somebody else on the same item: the renewal is refused, and is none the worse for it.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_meets_a_transaction_is_sent_again_at_once() {
    let pair = Pair::new().await;
    let mut conflicts = 0;
    pair.one.faults.set(move |call| {
        conflicts += u32::from(call.operation == "UpdateItem");
        if call.operation == "UpdateItem" && conflicts <= 6 {
            refusal("TransactionConflictException", "Transaction is ongoing")
        } else {
            Fault::Deliver
        }
    });
    let from = pair.one.faults.calls().len();
    let (stopped, _) = pair.watch(2 * HEARTBEAT).await;
    assert_eq!((stopped, pair.one.token()), (None, Some(1)));
    let sent = pair.one.faults.calls().len() - from;
    assert!((7..=11).contains(&sent), "{sent} requests: six in conflict, a look, and then as usual");
    let failures = pair.metric("leader_election_renew_failures_total{kind=throttled,name=e}").await;
    assert!((1.0..=6.0).contains(&failures), "{failures}");
}
