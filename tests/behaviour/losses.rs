//! Every way in which a leadership can end: provoked, and told in the right order everywhere.
//!
//! `src/ending.rs` names the test of each reason, so a reason without one does not compile.

mod tale;

use std::time::Duration;

use dynamo_elector::{Elector, ElectorBuilder, EndReason, Fault, Fence, ReleaseOutcome};

use crate::support::{delete, number, put, raw, text};
use tale::{Tale, Told};

/// R7, voluntary: the token fires, work drains while renewals go on, then the release is written, its outcome is known, the
/// callback is called, and the status shows it last.
const POLITE: &[Told] =
    &[Told::Demoted, Told::WorkToldToStop, Told::WorkDone, Told::ReleaseWritten, Told::Callback, Told::Released];
/// R7, forced, with nothing left of ours in the record: no release is written.
const NOTHING_TO_RELEASE: &[Told] =
    &[Told::Demoted, Told::WorkToldToStop, Told::WorkDone, Told::Callback, Told::Released];

#[tokio::test(start_paused = true)]
async fn deadline() {
    let (tale, running) = Tale::leading(|builder| builder).await;
    // The store comes back only after the deadline: the release is still due.
    tale.faults.set(|_| Fault::LoseRequest);
    tale.told(Told::Demoted).await;
    assert!(!tale.elector.status().borrow().is_leader(), "demoted with the token");
    tale.faults.set(tale.record_writes());
    tale.check(EndReason::Deadline, ReleaseOutcome::Released, POLITE).await;
    running.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn first_miss() {
    let (tale, running) = Tale::leading(ElectorBuilder::cancel_on_first_miss).await;
    tale.faults.set(|_| Fault::ServerError);
    tale.told(Told::Demoted).await;
    assert!(tale.elector.status().borrow().is_leader(), "valid for last writes");
    tale.faults.set(tale.record_writes());
    tale.check(EndReason::FirstMiss, ReleaseOutcome::Released, POLITE).await;
    running.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn taken_over() {
    let (tale, running) = Tale::leading(|builder| builder).await;
    // Somebody outside of the protocol.
    let record = [
        ("key", text("e")),
        ("ownerName", text("somebody")),
        ("leaseDuration", text("10s")),
        ("recordVersionNumber", text("theirs")),
    ];
    put(&tale.engine, &record).await;
    tale.check(EndReason::TakenOver, ReleaseOutcome::AlreadyGone, NOTHING_TO_RELEASE).await;
    running.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn record_gone() {
    let (tale, running) = Tale::leading(|builder| builder).await;
    delete(&tale.engine, "e").await;
    tale.check(EndReason::RecordGone, ReleaseOutcome::AlreadyGone, NOTHING_TO_RELEASE).await;
    running.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn released_by_another() {
    let (tale, running) = Tale::leading(|builder| builder).await;
    let released = tale.rival.force_release("e").await.unwrap();
    assert!(released.is_some_and(|record| record.owner() == tale.locks.owner()));
    tale.check(EndReason::ReleasedByAnother, ReleaseOutcome::AlreadyGone, NOTHING_TO_RELEASE).await;
    running.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn token_regressed() {
    let tale = Tale::new(|builder| builder).await;
    // Two terms before, so that there is an earlier one to go back to.
    for _ in 0..2 {
        let earlier = tale.rival.acquire("e").await.unwrap();
        tale.keep_backup().await;
        earlier.release().await.unwrap();
    }
    let running = tale.start();
    tale.led().await;
    assert_eq!(tale.elector.leadership().unwrap().fencing_token(), 3);
    tale.restore_backup().await;
    tale.check(EndReason::TokenRegressed, ReleaseOutcome::AlreadyGone, NOTHING_TO_RELEASE).await;
    // Healed: the next term is above all that were ever handed out.
    tale.led().await;
    assert_eq!(raw(&tale.engine, "e").await.unwrap().remove("fencingToken"), Some(number(4)));
    running.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn resigned() {
    let (tale, running) = Tale::leading(|builder| builder).await;
    tale.orders.resign.notify_one();
    tale.check(EndReason::Resigned, ReleaseOutcome::Released, POLITE).await;
    running.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn handed_over() {
    let (tale, running) = Tale::leading(|builder| builder).await;
    assert_eq!(tale.elector.hand_over().await, Some(ReleaseOutcome::Released));
    let over = tokio::time::Instant::now();
    tale.check(EndReason::HandedOver, ReleaseOutcome::Released, POLITE).await;
    // Nobody else came, so after a lease it leads again.
    tale.led().await;
    let out = over.elapsed();
    assert!(out >= Duration::from_millis(9_900) && out < Duration::from_secs(12), "{out:?}");
    running.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn paused() {
    let (tale, running) = Tale::leading(|builder| builder).await;
    tale.elector.pause().await;
    tale.check(EndReason::Paused, ReleaseOutcome::Released, POLITE).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(tale.elector.status().borrow().is_paused && !tale.elector.status().borrow().is_leader());
    tale.elector.resume();
    tale.led().await;
    running.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn shut_down() {
    let (tale, running) = Tale::leading(|builder| builder).await;
    running.shutdown().await.unwrap();
    tale.check(EndReason::ShutDown, ReleaseOutcome::Released, POLITE).await;
}

#[tokio::test(start_paused = true)]
async fn work_failed() {
    let (tale, running) = Tale::leading(|builder| builder).await;
    tale.orders.fail.notify_one();
    // The work is over before anybody is told of the end.
    let order = [Told::WorkDone, Told::Demoted, Told::ReleaseWritten, Told::Callback, Told::Released];
    tale.check(EndReason::WorkFailed, ReleaseOutcome::Released, &order).await;
    running.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn work_ended() {
    let tale = Tale::new(ElectorBuilder::stop_after_success).await;
    let log = tale.log.clone();
    let run = tale.elector.run(async move |leadership| {
        log.say(Told::Elected);
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(leadership);
        log.say(Told::WorkDone);
        Ok(())
    });
    run.await.unwrap();
    let order = [Told::WorkDone, Told::Demoted, Told::ReleaseWritten, Told::Released];
    tale.check(EndReason::WorkEnded, ReleaseOutcome::Released, &order).await;
}

#[tokio::test(start_paused = true)]
async fn max_tenure() {
    let (tale, running) = Tale::leading(|builder| builder.max_tenure(Duration::from_secs(30))).await;
    let led = tokio::time::Instant::now();
    tale.told(Told::Demoted).await;
    let tenure = led.elapsed();
    let announced = tenure - Duration::from_secs(30);
    assert!(
        announced > Duration::from_secs(1) && announced < Duration::from_secs(3),
        "followers know of it: {tenure:?}"
    );
    tale.check(EndReason::MaxTenure, ReleaseOutcome::Released, POLITE).await;
    running.shutdown().await.unwrap();
}

/// The task that polls the work does nothing any more, while everything else goes on.
#[tokio::test(start_paused = true)]
async fn silent() {
    let silence = Duration::from_secs(6);
    let tale = Tale::new(|builder| builder.step_down_when_silent(silence).drain_timeout(Duration::from_secs(20))).await;
    let (elector, log) = (tale.elector.clone(), tale.log.clone());
    let mut run = Box::pin(elector.run(async move |leadership| {
        log.say(Told::Elected);
        leadership.cancelled().await;
        log.say(Told::WorkToldToStop);
        drop(leadership);
        log.say(Told::WorkDone);
        Ok(())
    }));
    tokio::select! { biased;
        _ = &mut run => panic!("it ended"),
        () = tale.led() => {}
    }
    // For as long as it is polled it beats, however long the work takes.
    tokio::select! { biased;
        _ = &mut run => panic!("it ended"),
        () = tokio::time::sleep(Duration::from_secs(60)) => {}
    }
    assert!(elector.status().borrow().is_leader());
    let wedged = tokio::time::Instant::now();
    tale.told(Told::Demoted).await;
    let noticed = wedged.elapsed();
    assert!(
        noticed >= silence - Duration::from_millis(500) && noticed < silence + Duration::from_millis(1_600),
        "{noticed:?}"
    );
    assert!(!elector.health().is_live, "a probe hears of it, too");
    // It comes to: what is left of the drain is its own.
    let stopper = elector.clone();
    let (ended, ()) = tokio::join!(run, async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        stopper.shutdown().await;
    });
    ended.unwrap();
    let order = [Told::Demoted, Told::WorkToldToStop, Told::WorkDone, Told::ReleaseWritten, Told::Released];
    tale.check(EndReason::Silent, ReleaseOutcome::Released, &order).await;
}

#[tokio::test(start_paused = true)]
async fn keeper_failed() {
    let (tale, running) = Tale::leading(|builder| builder).await;
    tale.faults.set(|call| {
        assert!(!call.body.contains("recordVersionNumber"), "injected");
        Fault::Deliver
    });
    tale.told(Told::Demoted).await;
    tale.faults.set(tale.record_writes());
    // Nobody renews, nobody releases: the lease runs out.
    tale.check(EndReason::KeeperFailed, ReleaseOutcome::Unknown, NOTHING_TO_RELEASE).await;
    running.shutdown().await.unwrap();
}

/// R7: work that ignores its token is dropped at its bound, a blocked or leaked view is not: then nothing is released, the
/// next leader comes by expiry, and the fence refuses the late write.
#[tokio::test(start_paused = true)]
async fn work_that_ignores_its_token_is_not_overtaken_by_a_release() {
    let (tale, running) = Tale::leading(|builder| builder).await;
    // Of the user's own; the table at hand will do.
    let write = |fence: Fence, value: &str| {
        let write = tale.engine.client().update_item().table_name("locks").key("key", text("ledger"));
        let write = write.update_expression("SET balance = :b").expression_attribute_values(":b", text(value));
        async move { fence.condition().apply_to(write).unwrap().send().await }
    };
    let stubborn = tale.elector.leadership().unwrap();
    tale.faults.set(|_| Fault::LoseRequest);
    let cut_off = tokio::time::Instant::now();
    tale.told(Told::Demoted).await;
    tale.faults.set(tale.record_writes());
    tale.told(Told::Callback).await;
    assert!(!tale.log.has(Told::ReleaseWritten), "no release while something of the term still exists");
    assert!(!stubborn.is_valid());
    tale.elector.pause().await;
    // Its number is of yesterday as soon as another leads.
    let next = Elector::builder(&tale.rival, "e").build().unwrap().campaign().await.unwrap();
    assert!(next.fencing_token() > stubborn.fencing_token());
    write(next.fence(), "new").await.unwrap();
    let late = write(stubborn.fence(), "late").await.unwrap_err();
    assert!(late.into_service_error().is_conditional_check_failed_exception(), "the fence refuses it");
    assert_eq!(raw(&tale.engine, "ledger").await.unwrap().remove("balance"), Some(text("new")));
    // The last heartbeat was sent at most a period before it was cut off.
    assert!(cut_off.elapsed() >= Duration::from_millis(7_500), "by expiry, not by a release: {:?}", cut_off.elapsed());
    next.resign().await;
    tale.check_told(EndReason::Deadline, ReleaseOutcome::Expired, NOTHING_TO_RELEASE).await;
    drop(stubborn);
    running.shutdown().await.unwrap();
}

crate::privileges::suite! {
    deadline,
    first_miss,
    taken_over,
    record_gone,
    released_by_another,
    token_regressed,
    resigned,
    handed_over,
    paused,
    shut_down,
    work_failed,
    work_ended,
    max_tenure,
    silent,
    keeper_failed,
    work_that_ignores_its_token_is_not_overtaken_by_a_release,
}
