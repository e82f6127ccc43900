//! What holders pay in memory: counted, so that noise can't fail it. A program of its own, for its allocator.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

use std::time::Duration;

use allocation_counter::measure;
use dynamo_elector::{Elector, Embedded, LockClient};
use tokio::runtime::Runtime;

fn simulated() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

async fn client() -> LockClient {
    let engine = Embedded::in_memory().unwrap();
    LockClient::embedded(&engine, "locks").create_table().simulated(1).build().await.unwrap()
}

#[test]
fn asking_whether_it_is_valid_allocates_nothing() {
    let runtime = simulated();
    let (leadership, lock) = runtime.block_on(async {
        let locks = client().await;
        let elector = Elector::builder(&locks, "e").build().unwrap();
        (elector.campaign().await.unwrap(), locks.acquire("job").await.unwrap())
    });
    let (view, second) = (leadership.view(), Duration::from_secs(1));
    let counted = runtime.block_on(async {
        measure(|| {
            assert!(leadership.is_valid() && view.is_valid() && lock.is_valid());
            leadership.ensure(second).unwrap();
            lock.ensure(second).unwrap();
        })
    });
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

/// Everything of a client, its keeper and its SDK client runs on this thread. What the engine keeps is SQLite's.
#[test]
fn a_held_lock_takes_little_memory() {
    const LOCKS: u64 = 1_000;
    let runtime = simulated();
    let locks = runtime.block_on(client());
    // Whatever is made once.
    let first = runtime.block_on(async { locks.acquire("first").await.unwrap() });
    let mut held = Vec::with_capacity(1_000);
    let counted = measure(|| {
        runtime.block_on(async {
            for number in 0..LOCKS {
                held.push(locks.acquire(format!("lock-{number}")).await.unwrap());
            }
            // A heartbeat of each, and nothing under way.
            tokio::time::sleep(Duration::from_millis(2_600)).await;
        });
    });
    // Asked in simulated time, whatever the real one has become.
    let _simulated = runtime.enter();
    assert!(first.is_valid() && held.iter().all(|lock| lock.is_valid()));
    let each = u64::try_from(counted.bytes_current).unwrap() / LOCKS;
    println!("{each} bytes for each of {LOCKS} locks, in {} pieces", counted.count_current / 1_000);
    // Two fifths are the task that looks after the lock, a fifth its queue, and the rest what its handles and the client share.
    assert!((500..=7_168).contains(&each), "{each} bytes for each lock");
}

/// From the keeper's timer to the answer that has been taken in: most of it is the SDK's, and the engine's on the other side.
#[test]
fn a_heartbeat_allocates_no_more_over_time() {
    let runtime = simulated();
    let lock = runtime.block_on(async { client().await.acquire("job").await.unwrap() });
    let hundreds =
        |hundreds: u64| runtime.block_on(async { tokio::time::sleep(Duration::from_secs(250 * hundreds)).await });
    hundreds(1);
    let counted = measure(|| hundreds(1));
    println!("{} allocations for each of 100 heartbeats, {counted:?}", counted.count_total / 100);
    let _simulated = runtime.enter();
    assert!(lock.is_valid());
    assert!(counted.bytes_current.abs() < 16_384, "nothing piles up: {counted:?}");
    assert!(counted.count_total > 100, "it counts");
}
