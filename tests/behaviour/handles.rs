//! Handles: held more than once, asked for by key, kept under a guard, let go of.

use std::future::IntoFuture;

use dynamo_elector::{Elector, Embedded, EndReason, ErrorKind, Fault, Faults, Key, ReleaseOutcome};
use tokio::time::Instant;

use crate::support::{attribute, bytes, kind, millis, raw, sleep, slow, text, within};
use crate::{builder, client};

#[tokio::test(start_paused = true)]
async fn a_lock_is_held_once_more_by_the_same_client_and_released_by_the_last() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (locks, other) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
    let first = locks.acquire("job").data("mine").attribute("team", text("blue")).await.unwrap();
    let from = faults.calls().len();
    let again = locks.acquire("job").reentrant().data("ignored");
    let second = within(1, again).await.unwrap();
    let third = within(1, locks.acquire("job").reentrant().try_now()).await.unwrap().expect("a try as well");
    assert_eq!(faults.calls().len(), from, "no request");
    assert_eq!(first.fencing_token().unwrap(), second.fencing_token().unwrap());
    assert_eq!(second.data().as_deref(), Some(&b"mine"[..]), "data and attributes unchanged");
    assert_eq!(second.attributes().get("team"), Some(&text("blue")));
    assert_eq!(second.remaining(), first.remaining());
    assert_eq!(within(1, first.release().data("ignored")).await.unwrap(), ReleaseOutcome::StillHeld);
    drop(third);
    sleep(60_000).await;
    assert!(second.is_valid() && !second.lost().is_cancelled());
    assert_eq!(kind(other.acquire("job").wait_up_to(millis(3_000)).await), ErrorKind::WaitOver);
    assert_eq!(second.release().data("last").await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(attribute(&engine, "data").await, Some(bytes("last")));
    assert_eq!(other.acquire("job").await.unwrap().fencing_token().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_a_client_waits_for_itself() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let first = locks.acquire("job").await.unwrap();
    assert!(locks.try_acquire("job").await.unwrap().is_none());
    assert_eq!(kind(locks.acquire("job").wait_up_to(millis(25_000)).await), ErrorKind::WaitOver);
    assert!(first.is_valid(), "and never takes over from itself");
    let waiting = tokio::spawn(locks.acquire("job").into_future());
    sleep(500).await;
    first.release().await.unwrap();
    assert_eq!(within(1_100, waiting).await.unwrap().unwrap().fencing_token().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn of_two_reentrant_acquisitions_at_once_both_get_it() {
    for answers in [0, 20, 400] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = client(&engine, &faults, 1).await;
        faults.set(move |_| slow(answers, answers));
        let all = (0..5).map(|_| locks.acquire("job").reentrant().into_future());
        let all = within(6_000, futures::future::join_all(all)).await;
        let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
        assert!(all.iter().all(|lock| lock.is_valid() && lock.fencing_token().unwrap() == 1), "{answers}");
        assert_eq!(locks.held().len(), 1, "one acquisition");
        let mut outcomes = Vec::new();
        for lock in all {
            outcomes.push(lock.release().await.unwrap());
        }
        assert_eq!(outcomes.pop(), Some(ReleaseOutcome::Released));
        assert!(outcomes.iter().all(|outcome| *outcome == ReleaseOutcome::StillHeld), "{outcomes:?}");
    }
}

/// A lock that is being given up, or is lost, is none to hold once more.
#[tokio::test(start_paused = true)]
async fn what_is_ending_is_not_reentered() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let lost = locks.acquire("job").await.unwrap();
    faults.set(|_| Fault::LoseRequest);
    lost.lost().cancelled().await;
    faults.set(|_| Fault::Deliver);
    let next = within(15_000, locks.acquire("job").reentrant()).await.unwrap();
    assert!(next.is_valid() && !lost.is_valid());
    assert_eq!(next.fencing_token().unwrap(), 2);
    assert_eq!(lost.release().await.unwrap(), ReleaseOutcome::Expired, "a stale handle tells of its own");
    sleep(20_000).await;
    assert!(next.is_valid(), "and does not touch the newer one");
    assert!(!raw(&engine, "job").await.unwrap().contains_key("isReleased"));
}

/// A leadership is unique: whoever shares it does so by its own means.
#[tokio::test(start_paused = true)]
async fn a_leadership_is_never_reentered() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let elector = Elector::builder(&locks, "job").build().unwrap();
    let leadership = elector.campaign().await.unwrap();
    assert!(locks.acquire("job").reentrant().try_now().await.unwrap().is_none());
    let waited = locks.acquire("job").reentrant().wait_up_to(millis(30_000)).await;
    assert_eq!(kind(waited), ErrorKind::WaitOver);
    assert!(leadership.is_valid());
    assert!(locks.has_lock("job").unwrap(), "though the client holds it");
}

#[tokio::test(start_paused = true)]
async fn a_client_knows_what_it_holds_without_asking() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = builder(&engine, &faults, 1).sort_key_name("part").build().await.unwrap();
    let one = locks.acquire(("job", "one")).await.unwrap();
    sleep(1_000).await;
    let two = locks.acquire(("job", "two")).await.unwrap();
    let from = faults.calls().len();
    let held = locks.held();
    let keys: Vec<Key> = held.iter().map(|lock| lock.key.clone()).collect();
    assert_eq!(keys, [Key::from(("job", "one")), Key::from(("job", "two"))]);
    assert_eq!((held[0].held_for, held[1].held_for), (millis(1_000), millis(0)));
    assert_eq!((held[0].remaining, held[1].remaining), (one.remaining(), two.remaining()));
    assert!(locks.has_lock(("job", "one")).unwrap() && !locks.has_lock(("job", "three")).unwrap());
    assert_eq!(kind(locks.has_lock("job")), ErrorKind::InvalidInput, "the sort key is missing");
    assert_eq!(faults.calls().len(), from, "nothing is sent");
    faults.set(|_| Fault::ServerError);
    one.at_risk().await;
    assert!(locks.held().iter().any(|lock| lock.is_at_risk));
    one.lost().cancelled().await;
    assert!(!locks.has_lock(("job", "one")).unwrap());
    two.lost().cancelled().await;
    assert!(locks.held().is_empty(), "what is lost is not held, whoever has a handle of it");
}

#[tokio::test(start_paused = true)]
async fn a_guard_runs_work_until_it_ends_or_the_lock_does() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let lock = locks.acquire("job").await.unwrap();
    assert_eq!(
        lock.guard(async {
            sleep(30_000).await;
            7
        })
        .await
        .unwrap(),
        7,
        "work's own result"
    );
    assert!(lock.ensure(millis(5_000)).is_ok());
    assert_eq!(kind(lock.ensure(millis(8_001))), ErrorKind::NotHeld);
    faults.set(|_| Fault::LoseRequest);
    let cut = Instant::now();
    assert_eq!(kind(lock.guard(std::future::pending::<()>()).await), ErrorKind::NotHeld);
    assert!(cut.elapsed() <= millis(8_000), "{:?}", cut.elapsed());
    assert_eq!(lock.end_reason(), Some(EndReason::Deadline));
    assert_eq!(kind(lock.ensure(millis(0))), ErrorKind::NotHeld);
    assert_eq!(kind(lock.guard(async {}).await), ErrorKind::NotHeld, "nothing is begun any more");
}

/// Whoever awaits a release of a store that never answers is told when the lease is over, and not later.
#[tokio::test(start_paused = true)]
async fn a_release_that_is_never_confirmed_ends_with_the_lease() {
    for fault in [Fault::LoseRequest, Fault::ServerError, Fault::AccessDenied] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = client(&engine, &faults, 1).await;
        let lock = locks.acquire("job").await.unwrap();
        let (acquired, injected) = (Instant::now(), fault.clone());
        faults.set(move |_| injected.clone());
        assert_eq!(within(12_100, lock.release()).await.unwrap(), ReleaseOutcome::Unknown, "{fault:?}");
        assert!(acquired.elapsed() >= millis(9_900), "{fault:?}: tried for as long as it matters");
        let calls = faults.calls().len();
        sleep(60_000).await;
        assert_eq!(faults.calls().len(), calls, "{fault:?}: and no longer");
        assert!(!locks.has_lock("job").unwrap());
    }
}

/// Each awaits its own; exactly one of them is the last.
#[tokio::test(start_paused = true)]
async fn of_handles_released_at_once_exactly_one_releases() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let mut handles = vec![locks.acquire("job").await.unwrap()];
    for _ in 0..9 {
        handles.push(locks.acquire("job").reentrant().await.unwrap());
    }
    let releases = handles.into_iter().map(|lock| lock.release().into_future());
    let outcomes: Vec<_> = futures::future::join_all(releases).await.into_iter().map(Result::unwrap).collect();
    let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    assert_eq!((count(ReleaseOutcome::Released), count(ReleaseOutcome::StillHeld)), (1, 9), "{outcomes:?}");
}

crate::privileges::suite! {
    a_lock_is_held_once_more_by_the_same_client_and_released_by_the_last,
    without_the_setting_a_client_waits_for_itself,
    of_two_reentrant_acquisitions_at_once_both_get_it,
    what_is_ending_is_not_reentered,
    a_leadership_is_never_reentered,
    a_client_knows_what_it_holds_without_asking,
    a_guard_runs_work_until_it_ends_or_the_lock_does,
    a_release_that_is_never_confirmed_ends_with_the_lease,
    of_handles_released_at_once_exactly_one_releases,
}
