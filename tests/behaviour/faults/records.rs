//! What others can do to the record under a running election: operators, backups, forgers.

use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{EndReason, ErrorKind, Fencing, LockClientBuilder, Role};
use tokio::time::Instant;

use super::pair::{HEARTBEAT, LEASE, POLL, Pair};
use crate::support::{Item, bytes, millis, number, put, raw, sleep, text};

/// What somebody puts in the place of the record.
fn forged(lease: &str) -> Vec<(&'static str, AttributeValue)> {
    vec![
        ("key", text("e")),
        ("ownerName", text("forger")),
        ("leaseDuration", text(lease)),
        ("recordVersionNumber", text("forged")),
    ]
}

/// The end of the first one, and who leads after that, if anybody does within `bound`.
async fn outcome(pair: &Pair, bound: u64) -> Option<std::time::Duration> {
    let began = Instant::now();
    while pair.one.leads() {
        assert!(!pair.two.leads());
        sleep(5).await;
    }
    assert!(began.elapsed() <= millis(HEARTBEAT + 10), "its next heartbeat tells it: {:?}", began.elapsed());
    while began.elapsed() <= millis(bound) {
        assert!(!(pair.one.leads() && pair.two.leads()));
        if pair.one.leads() || pair.two.leads() {
            return Some(began.elapsed());
        }
        sleep(20).await;
    }
    None
}

/// Two replicas whose numbers do not depend on what others leave in the record.
async fn fenced() -> Pair {
    let fenced = |builder: LockClientBuilder| builder.fencing(Fencing::FenceRecord);
    Pair::with(fenced, fenced).await
}

/// A lease of next to nothing is read as the least that makes sense, with the margin that others get.
#[tokio::test(start_paused = true)]
async fn a_forged_lease_of_nothing_is_waited_out_as_a_second() {
    for lease in ["0s", "1ns", "-5s"] {
        let pair = fenced().await;
        put(&pair.engine, &forged(lease)).await;
        let led = outcome(&pair, 60_000).await;
        if lease == "-5s" {
            assert_eq!((led, pair.two.trouble()), (None, Some(ErrorKind::MalformedRecord)), "no duration at all");
            continue;
        }
        assert_eq!(pair.one.last_end(), Some(EndReason::TakenOver), "{lease}");
        let led = led.unwrap();
        assert!(led >= millis(1_250) && led <= millis(1_250 + HEARTBEAT + POLL), "{lease}: {led:?}");
        assert_eq!(pair.one.token().max(pair.two.token()), Some(2), "{lease}: the number goes on");
        pair.close().await;
    }
}

/// Without a fence record nobody can vouch for the numbers after that: nobody leads, and an operator is told what to do.
#[tokio::test(start_paused = true)]
async fn a_forged_record_stops_numbers_that_only_the_record_keeps() {
    let pair = Pair::new().await;
    put(&pair.engine, &forged("1s")).await;
    assert_eq!(outcome(&pair, 60_000).await, None);
    assert_eq!(pair.one.last_end(), Some(EndReason::TakenOver));
    for replica in [&pair.one, &pair.two] {
        assert_eq!(replica.trouble(), Some(ErrorKind::NoFencing));
        assert!(replica.elector.health().is_live && !replica.elector.health().is_ready);
    }
    assert!(pair.metric("leader_election_store_failures_total{kind=no_fencing,name=e}").await >= 1.0);
}

/// One for ever, or for longer than a number can say, is never taken over and never believed shorter: it is told.
#[tokio::test(start_paused = true)]
async fn a_forged_lease_for_ever_is_told_and_mended_by_an_operator() {
    for lease in ["9223372036854775808".to_owned(), format!("1{}s", "0".repeat(40)), format!("{}h", "9".repeat(400))] {
        let pair = Pair::new().await;
        put(&pair.engine, &forged(&lease)).await;
        assert_eq!(outcome(&pair, 60_000).await, None, "{lease}");
        for replica in [&pair.one, &pair.two] {
            assert_eq!(replica.trouble(), Some(ErrorKind::MalformedRecord), "{lease}");
            let status = replica.elector.status().borrow().clone();
            let trouble = status.trouble.unwrap();
            assert!(trouble.message.contains("leaseDuration") && trouble.message.len() < 300, "{trouble:?}");
            assert_ne!(status.role, Role::Leader);
        }
        assert!(pair.metric("leader_election_store_failures_total{kind=malformed_record,name=e}").await >= 1.0);
        pair.two.locks.repair("e").await.unwrap();
        let mended = Instant::now();
        while !pair.one.leads() && !pair.two.leads() {
            sleep(5).await;
            assert!(mended.elapsed() <= millis(10 * POLL + 100), "{lease}: {:?}", mended.elapsed());
        }
        assert!(pair.one.token().max(pair.two.token()) >= Some(2), "{lease}");
        pair.close().await;
    }
}

/// R6: an old record from a backup, over a live leader: found out, waited for in full and healed.
#[tokio::test(start_paused = true)]
async fn a_record_restored_from_a_backup_ends_the_term_and_the_number_goes_on() {
    let pair = Pair::new().await;
    let backup: Item = raw(&pair.engine, "e").await.unwrap();
    for _ in 0..3 {
        // Each of them leads once more, so that the numbers run ahead of the backup.
        let leader = if pair.one.leads() { &pair.one } else { &pair.two };
        leader.elector.hand_over().await;
        while !pair.one.leads() && !pair.two.leads() {
            sleep(5).await;
        }
    }
    assert_eq!(pair.one.token().max(pair.two.token()), Some(4));
    let (leader, other) = if pair.one.leads() { (&pair.one, &pair.two) } else { (&pair.two, &pair.one) };
    sleep(3_000).await;
    pair.engine.client().put_item().table_name("locks").set_item(Some(backup)).send().await.unwrap();
    let restored = Instant::now();
    while leader.leads() {
        sleep(5).await;
    }
    assert!(restored.elapsed() <= millis(HEARTBEAT + 10), "{:?}", restored.elapsed());
    assert_eq!(leader.last_end(), Some(EndReason::TokenRegressed));
    while !pair.one.leads() && !pair.two.leads() {
        sleep(5).await;
    }
    let led = restored.elapsed();
    assert!(led >= millis(LEASE - 10) && led <= millis(LEASE + HEARTBEAT + 2 * POLL), "waited for as usual: {led:?}");
    assert_eq!(pair.one.token().max(pair.two.token()), Some(5), "above all that were handed out");
    assert!(pair.metric("leader_election_token_regressions_total{name=e}").await >= 1.0);
    assert!(other.trouble().is_none() && leader.trouble().is_none());
}

/// Nothing of a leader's record is left in it.
#[tokio::test(start_paused = true)]
async fn a_record_that_is_damaged_under_a_leader_is_left_alone_and_told() {
    let pair = Pair::new().await;
    put(&pair.engine, &[("key", text("e")), ("note", text("do not touch")), ("fencingToken", number(7))]).await;
    assert_eq!(outcome(&pair, 60_000).await, None);
    assert_eq!(pair.one.last_end(), Some(EndReason::RecordGone));
    for replica in [&pair.one, &pair.two] {
        assert_eq!(replica.trouble(), Some(ErrorKind::MalformedRecord));
        assert!(replica.elector.health().is_live && !replica.elector.health().is_ready);
    }
    assert_eq!(raw(&pair.engine, "e").await.unwrap().get("note"), Some(&text("do not touch")));
}

/// A record as large as a record can be, by somebody else: it is read by everybody at every poll, and to claim it would make
/// it too large, which the table says.
#[tokio::test(start_paused = true)]
async fn a_record_without_room_for_a_claim_is_told_and_left_alone() {
    let pair = fenced().await;
    let mut record = forged("1s");
    let owner = "ownerName".len() + "forger".len();
    record.push(("ballast", bytes(vec![7; 400 * 1024 - owner - 120])));
    put(&pair.engine, &record).await;
    let from = pair.two.faults.calls().len();
    assert_eq!(outcome(&pair, 60_000).await, None);
    assert_eq!(pair.one.last_end(), Some(EndReason::TakenOver));
    for replica in [&pair.one, &pair.two] {
        assert_eq!(replica.trouble(), Some(ErrorKind::InvalidInput), "{:?}", replica.elector.status().borrow().trouble);
    }
    let asked = pair.two.faults.calls().len() - from;
    assert!(asked <= 180, "{asked} requests in a minute");
    // Without the ballast there is room again.
    put(&pair.engine, &forged("1s")).await;
    let mended = Instant::now();
    while !pair.one.leads() && !pair.two.leads() {
        sleep(5).await;
        assert!(mended.elapsed() <= millis(10 * POLL + 2_500), "{:?}", mended.elapsed());
    }
    // The numbers of claims that failed are not used again.
    assert!(pair.one.token().max(pair.two.token()) >= Some(2));
}
