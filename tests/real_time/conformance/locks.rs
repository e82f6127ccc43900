//! The crate itself on the engine, in real time.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{ErrorKind, Fencing, Lock, LockClient, ReleaseOutcome, TableOptions, Timing};
use futures::StreamExt;

use super::engine::Engine;
use super::table::{Table, n, s};

/// More than anything here takes, on a store that answers.
const LONG: Duration = Duration::from_secs(30);

async fn client(engine: &Engine, table: &str, owner: &str) -> LockClient {
    let locks = engine.builder(table).owner(owner).create_table().build().await.unwrap();
    assert!(locks.table_was_checked());
    locks
}

async fn acquire(locks: &LockClient, key: &str) -> Lock {
    locks.acquire(key).wait_up_to(LONG).await.unwrap()
}

pub(super) async fn a_lock_is_acquired_renewed_released_and_acquired_again(engine: &Engine) {
    let table = engine.table_name("locks");
    let (one, two) = (client(engine, &table, "one").await, client(engine, &table, "two").await);
    let lock = one.acquire("job").data("here").attribute("team", s("blue")).wait_up_to(LONG).await.unwrap();
    assert_eq!(lock.fencing_token().unwrap(), 1);
    assert!(two.try_acquire("job").await.unwrap().is_none());
    lock.heartbeat().await.unwrap();
    let record = two.get("job").await.unwrap().unwrap();
    assert_eq!((record.owner(), record.data(), record.fencing_token()), ("one", Some(&b"here"[..]), Some(1)));
    assert_eq!((record.attributes().get("team"), record.is_released()), (Some(&s("blue")), false));
    tokio::time::sleep(Timing::aggressive().lease() + Timing::aggressive().poll()).await;
    assert!(lock.is_valid(), "renewed beyond its lease");
    assert_eq!(lock.release().await.unwrap(), ReleaseOutcome::Released);
    let next = acquire(&two, "job").await;
    assert_eq!(next.fencing_token().unwrap(), 2);
    assert_eq!(one.get("job").await.unwrap().unwrap().data(), Some(&b"here"[..]), "data is kept");
    next.release().await.unwrap();
}

/// What a process leaves behind that was killed: a record that nobody renews.
pub(super) async fn a_dead_holder_is_taken_over_after_its_lease(engine: &Engine) {
    let table = engine.table().await;
    let locks = client(engine, &table.name, "alive").await;
    let dead = [
        ("key", s("job")),
        ("ownerName", s("dead")),
        ("leaseDuration", s("2s")),
        ("recordVersionNumber", s("v1")),
        ("stampedVersion", s("1:v1")),
        ("fencingToken", n(41)),
        ("heartbeatMillis", n(500)),
    ];
    table.put(&dead).await;
    let start = now();
    assert!(locks.try_acquire("job").await.unwrap().is_none(), "it may have been renewed a moment ago");
    let lock = acquire(&locks, "job").await;
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(lock.fencing_token().unwrap(), 42);
    let record = table.read("job").await.unwrap();
    assert_eq!((&record["ownerName"], &record["fencingToken"]), (&s("alive"), &n(42)));
    lock.release().await.unwrap();
}

pub(super) async fn locks_are_listed_and_deleted_on_release(engine: &Engine) {
    let table = engine.table_name("parts");
    let sorted = |owner: &str| engine.builder(&table).owner(owner).sort_key_name("part");
    sorted("setup").table().unwrap().ensure(&TableOptions::provisioned(5, 5).tag("team", "billing")).await.unwrap();
    let locks = sorted("me").delete_on_release().build().await.unwrap();
    let mut held = Vec::new();
    for part in ["c", "a", "b"] {
        held.push(locks.acquire(("job", part)).wait_up_to(LONG).await.unwrap());
    }
    held.push(locks.acquire(("other", "z")).wait_up_to(LONG).await.unwrap());
    Table::new(engine, table.clone()).put(&[("key", s("job")), ("part", s("bad"))]).await;
    let names = |listed: Vec<Result<dynamo_elector::LockRecord, dynamo_elector::Error>>| -> Vec<String> {
        let name = |one: Result<dynamo_elector::LockRecord, dynamo_elector::Error>| match one {
            Ok(record) => record.key().to_string(),
            Err(error) => format!("{:?}", error.kind()),
        };
        listed.into_iter().map(name).collect()
    };
    let partition = names(locks.list_partition("job").collect().await);
    assert_eq!(partition, ["job/a", "job/b", "MalformedRecord", "job/c"]);
    let mut all = names(locks.list().collect().await);
    all.sort();
    assert_eq!(all, ["MalformedRecord", "job/a", "job/b", "job/c", "other/z"]);
    for lock in held {
        assert_eq!(lock.release().await.unwrap(), ReleaseOutcome::Released);
    }
    assert_eq!(names(locks.list().collect().await), ["MalformedRecord"], "deleted on release");
}

pub(super) async fn a_fence_record_and_an_operator_do_their_work(engine: &Engine) {
    let table = engine.table().await;
    let fenced = engine.builder(&table.name).owner("fenced").fencing(Fencing::FenceRecord).build().await.unwrap();
    let lock = acquire(&fenced, "job").await;
    let token = lock.fencing_token().unwrap();
    assert_eq!(table.read("job#fence").await.unwrap()["fencingToken"], AttributeValue::N(token.to_string()));
    let admin = client(engine, &table.name, "admin").await;
    assert!(admin.force_release("job").await.unwrap().unwrap().is_released());
    tokio::time::timeout(LONG, lock.lost().cancelled()).await.expect("its holder takes it as a loss");
    assert_eq!(lock.release().await.unwrap(), ReleaseOutcome::AlreadyGone);
    let again = acquire(&fenced, "job").await;
    assert!(again.fencing_token().unwrap() > token);
    again.release().await.unwrap();
    assert!(admin.retire("job").await.unwrap().is_released());
    table.put(&[("key", s("odd")), ("recordVersionNumber", AttributeValue::Bool(true))]).await;
    assert_eq!(admin.get("odd").await.unwrap_err().kind(), ErrorKind::MalformedRecord);
    assert!(admin.repair("odd").await.unwrap().is_released());
    acquire(&admin, "odd").await.release().await.unwrap();
}

#[allow(clippy::disallowed_methods, reason = "the test measures real time")]
fn now() -> Instant {
    Instant::now()
}
