//! Heartbeats: on schedule, on demand, and what they do to the record's data.

use std::sync::{Arc, Mutex};

use dynamo_elector::{Call, Elector, Embedded, EndReason, ErrorKind, Fault, Faults, Lock, LockClient};
use serde_json::Value;
use tokio::time::Instant;

use crate::support::{attribute, bytes, kind, millis, poll_once, raw, refusal, since, sleep, slow, value, within};
use crate::{builder, client};

async fn on_demand(engine: &Embedded, faults: &Faults) -> LockClient {
    builder(engine, faults, 1).without_heartbeats().build().await.unwrap()
}

async fn held(faults: &Faults) -> (Embedded, Lock) {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, faults, 1).await;
    let lock = locks.acquire("job").await.unwrap();
    (engine, lock)
}

/// What each request was to do with the data: the value it sets, or `null`.
fn data_sent(calls: &[Call]) -> Vec<Value> {
    calls.iter().map(|call| value(call, ":data").unwrap_or(Value::Null)).collect()
}

#[tokio::test(start_paused = true)]
async fn without_heartbeats_nothing_is_sent_by_itself_and_the_lock_ends_with_its_validity() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = on_demand(&engine, &faults).await;
    let lock = locks.acquire("job").await.unwrap();
    let (acquired, from) = (Instant::now(), faults.calls().len());
    assert!(!raw(&engine, "job").await.unwrap().contains_key("heartbeatMillis"), "it promises no heartbeat");
    tokio::time::timeout(millis(7_990), lock.lost().cancelled()).await.unwrap_err();
    assert!(lock.is_valid() && !lock.is_at_risk());
    assert_eq!(faults.calls().len(), from, "not a single request");
    lock.lost().cancelled().await;
    let held = acquired.elapsed();
    assert!((millis(7_999)..=millis(8_002)).contains(&held), "{held:?}");
    assert_eq!(lock.end_reason(), Some(EndReason::Deadline));
    assert!(!lock.is_valid());
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_on_demand_extends_the_lock_from_its_send() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = on_demand(&engine, &faults).await;
    let lock = locks.acquire("job").await.unwrap();
    faults.set(|_| slow(100, 300));
    for _ in 0..20 {
        sleep(7_000).await;
        let from = faults.calls().len();
        lock.heartbeat().await.unwrap();
        assert_eq!(since(&faults, from).len(), 1, "one write");
        let left = lock.remaining();
        assert!((millis(7_598)..=millis(7_600)).contains(&left), "{left:?} left 400 ms after the send");
    }
}

/// The condition names four versions at most, so a read comes before the fourth try: its failure is the heartbeat's.
#[tokio::test(start_paused = true)]
async fn every_heartbeat_on_demand_that_fails_says_so_at_once() {
    for fault in [Fault::ServerError, Fault::Throttle, Fault::ConnectError, Fault::AccessDenied] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = on_demand(&engine, &faults).await;
        let lock = locks.acquire("job").await.unwrap();
        let injected = fault.clone();
        faults.set(move |_| injected.clone());
        for count in 0..6 {
            let asked = Instant::now();
            let result = within(4_000, lock.heartbeat()).await;
            assert!(lock.is_valid(), "{fault:?} {count}: told after {:?}, when all is over", asked.elapsed());
            assert!(kind(result) != ErrorKind::NotHeld, "{fault:?} {count}");
            assert!(asked.elapsed() < millis(1_200), "{fault:?} {count}: {:?}", asked.elapsed());
        }
        let from = faults.calls().len();
        sleep(100).await;
        assert_eq!(faults.calls().len(), from, "nothing is tried again without being asked for");
        faults.set(|_| Fault::Deliver);
        lock.heartbeat().await.unwrap();
        assert!(lock.remaining() >= millis(7_999), "{fault:?}");
    }
}

/// Off the schedule is besides the schedule: none of them may put the next heartbeat off.
#[tokio::test(start_paused = true)]
async fn any_number_of_heartbeats_leaves_the_schedule_alone() {
    let faults = Faults::none();
    let (_engine, lock) = held(&faults).await;
    for count in [1, 2, 5, 50] {
        for _ in 0..count {
            lock.heartbeat().await.unwrap();
        }
        for _ in 0..200 {
            sleep(100).await;
            assert!(lock.remaining() >= millis(5_490), "after {count} heartbeats: {:?}", lock.remaining());
        }
    }
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let elector = Elector::builder(&locks, "election").build().unwrap();
    let leadership = elector.campaign().await.unwrap();
    for count in 0..20_u8 {
        leadership.proclaim([count]);
        sleep(10).await;
    }
    for _ in 0..600 {
        sleep(100).await;
        assert!(leadership.remaining() >= millis(5_490), "{:?}", leadership.remaining());
    }
}

/// The schedule is absolute, from the first send on: what a late or lost answer took is not added to it.
#[tokio::test(start_paused = true)]
async fn a_heartbeat_whose_answers_are_lost_leaves_the_schedule_alone() {
    let faults = Faults::none();
    let (_engine, lock) = held(&faults).await;
    let sent = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&sent);
    faults.set(move |_| {
        let mut sent = log.lock().unwrap();
        sent.push(Instant::now());
        // Both attempts of a heartbeat; the next one finds out.
        if sent.len() <= 2 { Fault::LoseReply } else { Fault::Deliver }
    });
    sleep(12_000).await;
    let sent = sent.lock().unwrap().clone();
    let first = sent[0];
    for beat in 1..=3 {
        let due = first + millis(2_500 * beat);
        assert!(
            sent.iter()
                .any(|at| at.saturating_duration_since(due).max(due.saturating_duration_since(*at)) <= millis(2)),
            "beat {beat} is missing: {sent:?}"
        );
    }
    assert!(lock.is_valid());
}

#[tokio::test(start_paused = true)]
async fn heartbeats_replace_and_delete_data_and_the_handle_knows() {
    let faults = Faults::none();
    let (engine, lock) = held(&faults).await;
    lock.heartbeat().replace_data("one").await.unwrap();
    assert_eq!(attribute(&engine, "data").await, Some(bytes("one")));
    assert_eq!(lock.data().as_deref(), Some(&b"one"[..]));
    let from = faults.calls().len();
    sleep(30_000).await;
    let later = since(&faults, from);
    assert!(later.len() >= 11 && data_sent(&later).iter().all(Value::is_null), "said once, kept by the table");
    lock.heartbeat().replace_data(Vec::new()).await.unwrap();
    assert_eq!(lock.data().as_deref(), Some(&b""[..]), "empty data is data");
    assert_eq!(attribute(&engine, "data").await, Some(bytes("")));
    lock.heartbeat().delete_data().await.unwrap();
    assert_eq!((lock.data(), attribute(&engine, "data").await), (None, None));
    // One after the other, nobody waits: the last one stays.
    poll_once(lock.heartbeat().replace_data("first")).await;
    poll_once(lock.heartbeat().delete_data()).await;
    poll_once(lock.heartbeat().replace_data("last")).await;
    sleep(100).await;
    assert_eq!(attribute(&engine, "data").await, Some(bytes("last")));
    assert_eq!(lock.data().as_deref(), Some(&b"last"[..]));
}

#[tokio::test(start_paused = true)]
async fn data_whose_heartbeat_is_not_acknowledged_is_set_again_until_it_is() {
    for applied in [true, false] {
        let faults = Faults::none();
        let (engine, lock) = held(&faults).await;
        let started = Instant::now();
        faults.set(move |_| match started.elapsed() {
            age if age > millis(4_500) => Fault::Deliver,
            _ if applied => Fault::LoseReply,
            _ => Fault::LoseRequest,
        });
        let from = faults.calls().len();
        assert_eq!(kind(lock.heartbeat().replace_data("new").await), ErrorKind::Unavailable);
        sleep(4_000).await;
        assert_eq!(attribute(&engine, "data").await, Some(bytes("new")), "applied: {applied}");
        assert_eq!(lock.data().as_deref(), Some(&b"new"[..]));
        let writes: Vec<Call> =
            since(&faults, from).into_iter().filter(|call| call.operation == "UpdateItem").collect();
        let unanswered =
            writes.iter().filter(|call| faults.calls()[usize::try_from(call.number).unwrap()].1 != Fault::Deliver);
        assert!(data_sent(&unanswered.cloned().collect::<Vec<_>>()).iter().all(|data| !data.is_null()));
        let from = faults.calls().len();
        sleep(20_000).await;
        assert!(data_sent(&since(&faults, from)).iter().all(Value::is_null), "acknowledged: said no more");
        assert!(lock.is_valid());
    }
}

/// Whoever asks for other data while a heartbeat is on its way gets the other data.
#[tokio::test(start_paused = true)]
async fn an_answer_to_older_data_does_not_settle_newer_data() {
    let faults = Faults::none();
    let (engine, lock) = held(&faults).await;
    faults.set(|_| slow(200, 200));
    poll_once(lock.heartbeat().replace_data("old")).await;
    sleep(300).await;
    within(1_000, lock.heartbeat().replace_data("new")).await.unwrap();
    assert_eq!(attribute(&engine, "data").await, Some(bytes("new")));
    assert_eq!(lock.data().as_deref(), Some(&b"new"[..]));
}

/// Too large only together with what else the record holds: only the table knows.
#[tokio::test(start_paused = true)]
async fn data_that_the_table_refuses_is_given_up_and_costs_no_lease() {
    for (real, demand) in [(true, false), (false, false), (true, true), (false, true)] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = if demand { on_demand(&engine, &faults).await } else { client(&engine, &faults, 1).await };
        let big = if real { 300 * 1024 } else { 10 };
        let lock = locks.acquire("job").data("kept").attribute("blob", bytes(vec![1; big])).await.unwrap();
        if !real {
            faults.set(|call| {
                let too_large = call.body.contains(":data");
                let refused = || refusal("ValidationException", "Item size has exceeded the maximum allowed size");
                if too_large { refused() } else { Fault::Deliver }
            });
        }
        let from = faults.calls().len();
        let result = within(2_000, lock.heartbeat().replace_data(vec![2; 150 * 1024])).await;
        assert_eq!(kind(result), ErrorKind::InvalidInput, "real: {real}, on demand: {demand}");
        assert_eq!(lock.data().as_deref(), Some(&b"kept"[..]));
        for _ in 0..30 {
            sleep(1_000).await;
            if demand {
                lock.heartbeat().await.unwrap();
            }
            assert!(lock.is_valid() && lock.remaining() > millis(4_900), "real: {real}, on demand: {demand}");
        }
        let later = since(&faults, from);
        assert!(later.len() > 10 && data_sent(&later[1..]).iter().all(Value::is_null), "given up: never sent again");
        lock.heartbeat().replace_data("small").await.unwrap_or_else(|_| assert!(!real));
    }
}

/// The same at a release: the lock must not stay behind because of it.
#[tokio::test(start_paused = true)]
async fn a_release_whose_data_the_table_refuses_releases_without_it() {
    let engine = Embedded::in_memory().unwrap();
    let locks = client(&engine, &Faults::none(), 1).await;
    let lock = locks.acquire("job").data("kept").attribute("blob", bytes(vec![1; 300 * 1024])).await.unwrap();
    let started = Instant::now();
    within(2_000, lock.release().data(vec![2; 150 * 1024])).await.unwrap();
    assert!(started.elapsed() < millis(1_000), "{:?}", started.elapsed());
    assert!(locks.get("job").await.unwrap().unwrap().is_released());
    assert_eq!(attribute(&engine, "data").await, Some(bytes("kept")));
}

/// R11: a lock has one request under way at most, whoever asks for how many.
#[tokio::test(start_paused = true)]
async fn heartbeats_of_one_lock_never_overlap_and_all_who_asked_are_answered() {
    let faults = Faults::none();
    let (_engine, lock) = held(&faults).await;
    let lock = Arc::new(lock);
    let (mut last, start) = (None::<Instant>, Instant::now());
    faults.set(move |_| {
        let now = Instant::now();
        assert!(last.is_none_or(|last| now.duration_since(last) >= millis(500)), "two at once, {:?}", start.elapsed());
        last = Some(now);
        slow(200, 300)
    });
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..200 {
        let lock = Arc::clone(&lock);
        asking.spawn(async move {
            sleep(number * 37).await;
            within(1_500, lock.heartbeat()).await
        });
    }
    while let Some(answer) = asking.join_next().await {
        answer.unwrap().unwrap();
    }
    assert!(lock.is_valid());
}

crate::privileges::suite! {
    without_heartbeats_nothing_is_sent_by_itself_and_the_lock_ends_with_its_validity,
    a_heartbeat_on_demand_extends_the_lock_from_its_send,
    every_heartbeat_on_demand_that_fails_says_so_at_once,
    any_number_of_heartbeats_leaves_the_schedule_alone,
    a_heartbeat_whose_answers_are_lost_leaves_the_schedule_alone,
    heartbeats_replace_and_delete_data_and_the_handle_knows,
    data_whose_heartbeat_is_not_acknowledged_is_set_again_until_it_is,
    an_answer_to_older_data_does_not_settle_newer_data,
    data_that_the_table_refuses_is_given_up_and_costs_no_lease,
    a_release_whose_data_the_table_refuses_releases_without_it,
    heartbeats_of_one_lock_never_overlap_and_all_who_asked_are_answered,
}
