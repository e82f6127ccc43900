//! Acquiring from records, stores and clocks that misbehave.

use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{Embedded, EndReason, ErrorKind, Fault, Faults};
use tokio::time::{Instant, advance, sleep, timeout};

use super::{LEASE, TICK, VALIDITY, assert_counts_from, delete, millis, on_updates, put, seconds, text};
use crate::{builder, client, operations};

fn record(version: Option<AttributeValue>, mark: Option<AttributeValue>) -> Vec<(&'static str, AttributeValue)> {
    let sound = vec![("ownerName", text("somebody")), ("leaseDuration", text("10s"))];
    let version = version.map(|version| ("recordVersionNumber", version));
    sound.into_iter().chain(version).chain(mark.map(|mark| ("isReleased", mark))).collect()
}

/// Go: a record without a version, or whose `isReleased` is not "1", is neither held nor free: acquiring tries
/// for ever and ignores every timeout.
#[tokio::test(start_paused = true)]
async fn a_record_without_a_version_or_with_an_odd_mark_ends_the_wait() {
    let odd = [text("0"), text("true"), text(""), AttributeValue::N("1".into()), AttributeValue::Bool(false)];
    for mark in odd {
        let engine = Embedded::in_memory().unwrap();
        let locks = client(&engine, &Faults::none(), 1).await;
        put(&engine, &record(Some(text("v1")), Some(mark.clone()))).await;
        let waited = timeout(seconds(60), locks.acquire("job").wait_up_to(seconds(3)).into_future()).await;
        let lock = waited.expect("it ends").expect("whatever the mark says, its holder has let go");
        assert!(lock.is_valid(), "{mark:?}");
        let kept = locks.get("job").await.unwrap().unwrap();
        assert!(!kept.is_released(), "{mark:?} is gone: nobody else finds it free");
    }
    for (version, mark) in [(None, None), (Some(text("")), None), (None, Some(text("1")))] {
        let engine = Embedded::in_memory().unwrap();
        let locks = client(&engine, &Faults::none(), 1).await;
        put(&engine, &record(version, mark)).await;
        let start = Instant::now();
        let waited = timeout(seconds(60), locks.acquire("job").wait_up_to(seconds(3)).into_future()).await;
        assert_eq!(waited.expect("it ends").unwrap_err().kind(), ErrorKind::MalformedRecord);
        assert!(start.elapsed() <= seconds(3), "{:?}", start.elapsed());
    }
}

/// Go: `isReleased` and the sort key pass as additional attributes: a held record then looks free, which makes two
/// holders, or the sort key comes back as one of its attributes.
#[tokio::test(start_paused = true)]
async fn names_of_the_record_are_no_additional_attributes() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let sorted = |faults: &Faults, seed| builder(&engine, faults, seed).sort_key_name("part").sort_key_value("p");
    let one = sorted(&faults, 1).build().await.unwrap();
    let two = sorted(&Faults::none(), 2).build().await.unwrap();
    let from = faults.calls().len();
    let reserved = ["isReleased", "part", "key", "ownerName", "leaseDuration", "recordVersionNumber", "data"];
    let ours = ["fencingToken", "heartbeatMillis", "acquiredAt", "stampedVersion"];
    for name in reserved.into_iter().chain(ours) {
        let error = one.acquire("job").attribute(name, text("1")).await.unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains(name), "{name}: {error}");
    }
    assert!(operations(&faults, from).is_empty(), "nothing was sent");
    let lock = one.acquire("job").attribute("team", text("blue")).data("d").await.unwrap();
    let attributes = [("team".to_owned(), text("blue"))].into();
    assert_eq!(lock.attributes(), attributes, "what was set, and nothing else");
    assert_eq!(two.get("job").await.unwrap().unwrap().attributes(), &attributes);
    assert!(two.try_acquire("job").await.unwrap().is_none(), "held by one");
}

/// Go: the record vanishes while a heartbeat is being retried, and what is not there is dereferenced: a panic.
#[tokio::test(start_paused = true)]
async fn a_record_that_vanishes_during_a_retry_is_a_loss_and_no_panic() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    // The heartbeat that is sent again finds nothing, and so does the read that settles several of them.
    for reads in [false, true] {
        let lock = locks.acquire("job").await.unwrap();
        let from = faults.calls().len();
        on_updates(&faults, move |update| if reads || update == 1 { Fault::LoseRequest } else { Fault::Deliver });
        let (_, lost) = tokio::join!(lock.heartbeat().into_future(), async {
            sleep(millis(500)).await;
            delete(&engine, "job").await;
            timeout(seconds(20), lock.lost().cancelled()).await.expect("told");
            Instant::now()
        });
        assert_eq!(lock.end_reason(), Some(EndReason::RecordGone), "seen as what it is; reads: {reads}");
        assert_eq!(operations(&faults, from).contains(&"GetItem".into()), reads);
        assert!(!lock.is_valid() && lost.elapsed() < TICK);
        faults.set(|_| Fault::Deliver);
    }
    // A claim whose record vanishes under it goes on, and the tokens do too.
    let lock = locks.acquire("job").await.unwrap();
    let token = lock.fencing_token().unwrap();
    lock.release().await.unwrap();
    let slow = Fault::Delay { request: millis(300), reply: millis(0) };
    on_updates(&faults, move |_| slow.clone());
    let (lock, ()) = tokio::join!(locks.acquire("job").wait_up_to(seconds(5)).into_future(), async {
        sleep(millis(100)).await;
        delete(&engine, "job").await;
    });
    assert_eq!(lock.unwrap().fencing_token().unwrap(), token + 1);
}

/// Go: a write that takes longer than the lease is answered with a lock that has run out already.
#[tokio::test(start_paused = true)]
async fn a_lock_is_handed_out_only_while_it_lasts() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let slow = Fault::Delay { request: millis(0), reply: millis(500) };
    on_updates(&faults, move |_| slow.clone());
    let start = Instant::now();
    let lock = locks.acquire("slow").await.unwrap();
    assert!(start.elapsed() >= millis(500));
    assert_counts_from(&lock, start);

    // The process freezes for longer than the lease, between the claim and its answer.
    let from = faults.calls().len();
    let acquisition = tokio::spawn({
        let locks = locks.clone();
        async move {
            let lock = locks.acquire("frozen").await.unwrap();
            (lock.remaining(), lock.is_valid(), lock)
        }
    });
    sleep(millis(100)).await;
    assert_eq!(operations(&faults, from), ["GetItem", "UpdateItem"], "the claim is on its way");
    advance(LEASE).await;
    let (remaining, valid, again) = acquisition.await.unwrap();
    assert!(valid && remaining >= VALIDITY - millis(600), "{remaining:?}");
    assert_eq!(again.fencing_token().unwrap(), 2, "acquired anew: nobody was ever told of the first");
}

/// Go: the first read that fails, or is throttled, ends an acquisition whose time to wait has hardly begun.
#[tokio::test(start_paused = true)]
async fn a_failing_store_does_not_cut_the_time_to_wait_short() {
    for (fault, kind) in [
        (Fault::ServerError, ErrorKind::Unavailable),
        (Fault::Throttle, ErrorKind::Throttled),
        (Fault::ConnectError, ErrorKind::Unavailable),
        (Fault::LoseRequest, ErrorKind::Unavailable),
    ] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = client(&engine, &faults, 1).await;
        let (start, injected) = (Instant::now(), fault.clone());
        faults.set(move |_| if start.elapsed() < seconds(5) { injected.clone() } else { Fault::Deliver });
        let waited = timeout(seconds(60), locks.acquire("job").wait_up_to(seconds(20)).into_future()).await;
        let lock = waited.expect("no request hangs for ever");
        assert!(lock.is_ok(), "{fault:?}: {lock:?}");
        assert!(start.elapsed() >= seconds(5) && start.elapsed() < seconds(8), "{fault:?}: {:?}", start.elapsed());

        let (start, injected) = (Instant::now(), fault.clone());
        faults.set(move |_| injected.clone());
        let error = locks.acquire("other").wait_up_to(seconds(20)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{fault:?}");
        // One operation may be under way when the time is over.
        let waited = start.elapsed();
        assert!(waited >= seconds(20) && waited < millis(22_100), "{fault:?}: {waited:?}");
    }
}
