//! Reading without holding: one record, or all of them.

use std::time::Duration;

use dynamo_elector::{DurationText, Embedded, Error, ErrorKind, Fault, Faults, Fencing, LockRecord};
use futures::{Stream, StreamExt};
use tokio::time::Instant;

use crate::support::{body, delete, kind, millis, number, put, record, since, sleep, text};
use crate::{builder, client, operations};

#[tokio::test(start_paused = true)]
async fn a_record_is_read_with_all_its_fields_by_one_consistent_read() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let (one, two) = (client(&engine, &Faults::none(), 1).await, client(&engine, &faults, 2).await);
    assert!(two.get("job").await.unwrap().is_none(), "absent");
    let lock = one.acquire("job").data("payload").attribute("team", text("blue")).await.unwrap();
    let from = faults.calls().len();
    let record = two.get("job").await.unwrap().unwrap();
    let calls = since(&faults, from);
    assert_eq!((calls.len(), &body(&calls[0])["ConsistentRead"]), (1, &true.into()));
    assert_eq!((record.key().partition(), record.owner()), ("job", "node-1"));
    assert_eq!((record.data(), record.fencing_token()), (Some(&b"payload"[..]), Some(1)));
    assert_eq!((record.lease(), record.heartbeat()), (Duration::from_secs(10), Some(millis(2_500))));
    assert_eq!(record.attributes().iter().collect::<Vec<_>>(), [(&"team".to_owned(), &text("blue"))]);
    assert!(record.acquired_at().is_some_and(|at| at.starts_with("1970-01-01T00:00:")), "{:?}", record.acquired_at());
    assert_eq!((record.duration_text(), record.is_released()), (DurationText::Go, false));
    assert_eq!(record.unchanged_for(), Duration::ZERO);
    let version = record.version().to_owned();
    lock.heartbeat().await.unwrap();
    assert_ne!(two.get("job").await.unwrap().unwrap().version(), version, "new in every write");
    lock.release().await.unwrap();
    let released = two.get("job").await.unwrap().unwrap();
    assert!(released.is_released() && released.is_expired());
}

/// Upstream shows every foreign lock as expired.
#[tokio::test(start_paused = true)]
async fn a_foreign_holder_is_live_at_first_sight_and_while_it_renews() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    for beat in 0..20 {
        put(&engine, &record(&format!("go-{beat}"), "4s")).await;
        let seen = locks.get("job").await.unwrap().unwrap();
        assert!(!seen.is_expired() && seen.unchanged_for().is_zero(), "beat {beat}");
        sleep(3_000).await;
        let seen = locks.get("job").await.unwrap().unwrap();
        assert!(!seen.is_expired(), "beat {beat}");
        assert_eq!(seen.unchanged_for(), millis(3_000), "counted from the first sight");
    }
    // It stops: a quarter more than its lease, since it keeps no margin of its own.
    let start = Instant::now();
    put(&engine, &record("go-last", "4s")).await;
    locks.get("job").await.unwrap();
    for (at, expired) in [(4_000, false), (4_999, false), (5_000, true), (60_000, true)] {
        tokio::time::sleep_until(start + millis(at)).await;
        assert_eq!(locks.get("job").await.unwrap().unwrap().is_expired(), expired, "at {at} ms");
    }
    let fresh = client(&engine, &Faults::none(), 2).await;
    assert!(!fresh.get("job").await.unwrap().unwrap().is_expired(), "first sight: it may have renewed a moment ago");
    // What a read saw counts for a take-over, and the other way round (R12).
    let taken = locks.try_acquire("job").await.unwrap();
    assert!(taken.is_some());
    assert!(fresh.try_acquire("job").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_holder_of_ours_is_expired_after_its_own_lease() {
    let engine = Embedded::in_memory().unwrap();
    let dead = Faults::none();
    let (one, two) = (client(&engine, &dead, 1).await, client(&engine, &Faults::none(), 2).await);
    let lock = one.acquire("job").await.unwrap();
    lock.extend(Duration::from_secs(60)).await.unwrap();
    dead.set(|_| Fault::LoseRequest);
    assert!(!two.get("job").await.unwrap().unwrap().is_expired());
    sleep(59_999).await;
    assert!(!two.get("job").await.unwrap().unwrap().is_expired());
    sleep(1).await;
    assert!(two.get("job").await.unwrap().unwrap().is_expired());
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_read_says_why() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    for (fault, expected) in [
        (Fault::AccessDenied, ErrorKind::AccessDenied),
        (Fault::Throttle, ErrorKind::Throttled),
        (Fault::ServerError, ErrorKind::Unavailable),
        (Fault::LoseRequest, ErrorKind::Unavailable),
    ] {
        let injected = fault.clone();
        faults.set(move |_| injected.clone());
        let asked = Instant::now();
        assert_eq!(kind(locks.get("job").await), expected, "{fault:?}");
        assert!(asked.elapsed() <= millis(2_001), "{fault:?}: {:?}", asked.elapsed());
    }
}

async fn collect(stream: impl Stream<Item = Result<LockRecord, Error>>) -> (Vec<LockRecord>, Vec<Error>) {
    let all: Vec<_> = stream.collect().await;
    let (good, bad): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    (good.into_iter().map(Result::unwrap).collect(), bad.into_iter().map(Result::unwrap_err).collect())
}

async fn fill(engine: &Embedded, count: usize) {
    for index in 0..count {
        let mut item = record(&format!("v{index}"), "10s");
        item[0].1 = text(&format!("job-{index:04}"));
        put(engine, &item).await;
    }
}

/// One record that is none must not hide the others, as it does upstream.
#[tokio::test(start_paused = true)]
async fn a_listing_has_every_lock_of_every_page_once_and_goes_on_past_malformed_ones() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = builder(&engine, &faults, 1).fencing(Fencing::FenceRecord).build().await.unwrap();
    fill(&engine, 620).await;
    put(&engine, &[("key", text("not-a-lock")), ("precious", text("data"))]).await;
    let mut odd = record("v1", "1d");
    odd[0].1 = text("odd-lease");
    put(&engine, &odd).await;
    let lock = locks.acquire("mine").await.unwrap();
    let from = faults.calls().len();
    let (records, errors) = collect(locks.list()).await;
    assert_eq!(operations(&faults, from), ["Scan", "Scan", "Scan"], "624 items, the fence record included");
    let mut keys: Vec<_> = records.iter().map(|record| record.key().partition().to_owned()).collect();
    keys.sort();
    let mut expected: Vec<_> = (0..620).map(|index| format!("job-{index:04}")).collect();
    expected.push("mine".into());
    assert_eq!(keys, expected, "no fence record, none twice, none missing");
    assert_eq!(errors.len(), 2, "{errors:?}");
    for key in ["not-a-lock", "odd-lease"] {
        let named = |error: &&Error| error.kind() == ErrorKind::MalformedRecord && error.to_string().contains(key);
        assert_eq!(errors.iter().filter(named).count(), 1, "{key}: {errors:?}");
    }
    drop(lock);
}

#[tokio::test(start_paused = true)]
async fn a_listing_asks_for_a_page_when_it_is_wanted_and_ends_with_one_that_fails() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    fill(&engine, 600).await;
    let from = faults.calls().len();
    let mut listing = locks.list();
    assert_eq!(faults.calls().len(), from, "nothing before it is polled");
    for _ in 0..250 {
        listing.next().await.unwrap().unwrap();
    }
    sleep(1_000).await;
    assert_eq!(operations(&faults, from), ["Scan"], "one page for 250");
    faults.set(|_| Fault::AccessDenied);
    let failed = listing.next().await.unwrap();
    assert_eq!(kind(failed), ErrorKind::AccessDenied);
    faults.set(|_| Fault::Deliver);
    assert!(listing.next().await.is_none(), "the last item");
    assert_eq!(locks.list().count().await, 600, "another listing starts anew");
    let empty = Embedded::in_memory().unwrap();
    let locks = client(&empty, &Faults::none(), 1).await;
    assert_eq!(locks.list().count().await, 0);
}

/// What a listing shows of a lock that this client follows is what it knows of it.
#[tokio::test(start_paused = true)]
async fn a_listing_knows_what_the_client_knows_and_counts_nothing_by_itself() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    fill(&engine, 2).await;
    locks.get("job-0001").await.unwrap();
    sleep(60_000).await;
    let (records, _) = collect(locks.list()).await;
    let expired: Vec<bool> = records.iter().map(LockRecord::is_expired).collect();
    let index = records.iter().position(|record| record.key().partition() == "job-0001").unwrap();
    assert!(expired[index] && !expired[1 - index], "{records:?}");
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_listed_in_the_order_of_its_sort_keys() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let builder = builder(&engine, &faults, 1).sort_key_name("part").fencing(Fencing::FenceRecord);
    let locks = builder.build().await.unwrap();
    for index in (0..300).rev() {
        let mut item = record("v1", "10s");
        item.push(("part", text(&format!("{index:03}"))));
        put(&engine, &item).await;
    }
    put(&engine, &[("key", text("job")), ("part", text("150-odd")), ("x", number(1))]).await;
    let other = locks.acquire(("other", "000")).await.unwrap();
    let from = faults.calls().len();
    let all: Vec<_> = locks.list_partition("job").collect().await;
    assert_eq!(operations(&faults, from), ["Query", "Query"]);
    assert_eq!(all[151].as_ref().unwrap_err().kind(), ErrorKind::MalformedRecord, "in its place");
    let order: Vec<_> = all.iter().flatten().map(|record| record.key().sort_value().unwrap().to_owned()).collect();
    assert_eq!(order, (0..300).map(|index| format!("{index:03}")).collect::<Vec<_>>());
    assert_eq!(locks.list_partition("other").count().await, 1);
    assert_eq!(locks.list_partition("nothing").count().await, 0);
    assert_eq!(locks.list().count().await, 302, "all partitions, without the fence record");
    drop(other);
}

/// Without a sort key a partition is one record at most.
#[tokio::test(start_paused = true)]
async fn a_partition_without_sort_keys_is_its_one_record() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    fill(&engine, 3).await;
    let (records, errors) = collect(locks.list_partition("job-0001")).await;
    assert_eq!((records.len(), errors.len()), (1, 0));
    delete(&engine, "job-0001").await;
    assert_eq!(locks.list_partition("job-0001").count().await, 0);
}

/// A key that can't be one is no question to DynamoDB.
#[tokio::test(start_paused = true)]
async fn a_partition_that_can_not_be_one_is_refused_before_it_is_sent() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, 1).await;
    let from = faults.calls().len();
    for partition in [String::new(), "k".repeat(2_043), "a\tb".into()] {
        let all: Vec<_> = locks.list_partition(partition).collect().await;
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].as_ref().unwrap_err().kind(), ErrorKind::InvalidInput, "{all:?}");
    }
    assert_eq!(faults.calls().len(), from);
}

crate::privileges::suite! {
    a_record_is_read_with_all_its_fields_by_one_consistent_read,
    a_foreign_holder_is_live_at_first_sight_and_while_it_renews,
    a_holder_of_ours_is_expired_after_its_own_lease,
    what_can_not_be_read_says_why,
    a_listing_has_every_lock_of_every_page_once_and_goes_on_past_malformed_ones,
    a_listing_asks_for_a_page_when_it_is_wanted_and_ends_with_one_that_fails,
    a_listing_knows_what_the_client_knows_and_counts_nothing_by_itself,
    a_partition_is_listed_in_the_order_of_its_sort_keys,
    a_partition_without_sort_keys_is_its_one_record,
    a_partition_that_can_not_be_one_is_refused_before_it_is_sent,
}
