//! In real time, over HTTP, with the SDK's own connections: what simulated time can't show.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

#[cfg(target_os = "linux")]
mod chaos;
mod conformance;
mod hostile;
mod interop;
mod load;
mod observability;
mod server;
mod services;
mod stopping;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use dynamo_elector::{Elector, Embedded, ErrorKind, Leadership, LockClient, Role, Timing};
use server::Server;
use tokio::runtime::Runtime;

/// Credentials that are good for two seconds.
#[derive(Debug, Clone, Default)]
struct ShortLived {
    provided: Arc<AtomicUsize>,
}

impl ProvideCredentials for ShortLived {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.provided.fetch_add(1, Ordering::SeqCst);
        let expiry = now() + Duration::from_secs(2);
        future::ProvideCredentials::ready(Ok(Credentials::new("id", "secret", None, Some(expiry), "test")))
    }
}

#[allow(clippy::disallowed_methods, reason = "credentials expire by the wall clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[allow(clippy::disallowed_methods, reason = "the test measures real time")]
fn clock() -> Instant {
    Instant::now()
}

/// Of a client for a server on this host.
fn config(endpoint: &str, credentials: impl ProvideCredentials + 'static) -> aws_sdk_dynamodb::config::Builder {
    aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-central-1"))
        .endpoint_url(endpoint)
        .credentials_provider(credentials)
}

fn sdk(endpoint: &str, credentials: &ShortLived) -> Client {
    Client::from_conf(config(endpoint, credentials.clone()).build())
}

/// A user's runtime that has used the same client before, and a leadership won in it.
fn lead(server: &Server, credentials: &ShortLived) -> (Runtime, Elector, Leadership) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let client = sdk(&format!("http://{}", server.address), credentials);
    let (elector, leadership) = runtime.block_on(async {
        client.list_tables().send().await.expect("opens a connection in the user's runtime");
        let builder = LockClient::builder(&client, "locks").create_table().timing(Timing::aggressive());
        let locks = builder.build().await.unwrap();
        let elector = Elector::builder(&locks, "e").build().unwrap();
        let leadership = elector.campaign().await.unwrap();
        (elector, leadership)
    });
    (runtime, elector, leadership)
}

/// Blocks every thread of the runtime, this one included, and looks at the leadership from here.
fn block(runtime: &Runtime, time: Duration, mut look: impl FnMut(Duration)) {
    for _ in 0..2 {
        runtime.spawn(async move { std::thread::sleep(time) });
    }
    runtime.block_on(async {
        let start = clock();
        while start.elapsed() < time {
            look(start.elapsed());
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

/// R10: a runtime that is blocked for two leases stalls no renewal, although it opened connections
/// with the same client, and credentials expire meanwhile.
#[test]
fn a_blocked_runtime_does_not_cost_the_lease() {
    let (server, credentials) = (Server::start(), ShortLived::default());
    let (runtime, _elector, leadership) = lead(&server, &credentials);
    let (writes, provided) = (server.writes(), credentials.provided.load(Ordering::SeqCst));
    block(&runtime, Timing::aggressive().lease() * 2, |at| {
        assert!(leadership.is_valid(), "after {at:?}");
    });
    let beats = server.writes() - writes;
    assert!(beats >= 6, "{beats} heartbeats in two leases");
    assert!(credentials.provided.load(Ordering::SeqCst) > provided, "credentials were renewed meanwhile");
    runtime.block_on(leadership.resign());
}

/// R9, R10: when the store hangs meanwhile, the blocked thread itself sees the end in time.
#[test]
fn a_blocked_thread_sees_the_deadline_by_itself() {
    let (server, credentials) = (Server::start(), ShortLived::default());
    let (runtime, elector, leadership) = lead(&server, &credentials);
    let timing = Timing::aggressive();
    let status = elector.status();
    server.hang();
    let (mut valid_at, mut ended, mut demoted) = (Duration::ZERO, None, None);
    block(&runtime, timing.lease(), |at| {
        // The time is taken before the look: a slow machine can only make it look earlier than it was.
        if leadership.is_valid() {
            assert!(ended.is_none(), "never valid again");
            valid_at = at;
        } else {
            ended.get_or_insert(at);
            assert!(!status.borrow().is_leader(), "nor does the status say so");
            if status.borrow().role == Role::Follower {
                demoted.get_or_insert(at);
            }
        }
    });
    assert!(!leadership.is_valid());
    assert!(valid_at <= timing.validity(), "valid {valid_at:?} after the store began to hang");
    let ended = ended.expect("it ends while the thread looks");
    assert!(ended + timing.heartbeat() >= timing.validity(), "not before its time: {ended:?}");
    assert!(demoted.is_some(), "the status demotes itself, while nothing of the user's runs");
    // The keeper, which is not blocked, had fired the token by then.
    assert!(futures::FutureExt::now_or_never(leadership.cancelled()).is_some());
}

#[test]
fn an_endpoint_that_does_not_answer_is_an_error_and_no_panic() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        // A port that was free a moment ago: connections are refused.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = sdk(&format!("http://127.0.0.1:{port}"), &ShortLived::default());
        let locks = LockClient::builder(&client, "locks").timing(Timing::aggressive()).build().await.unwrap();
        assert!(!locks.table_was_checked());
        let start = clock();
        let error = locks.acquire("job").wait_up_to(Duration::from_secs(2)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        let elector = Elector::builder(&locks, "e").build().unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(2), elector.campaign()).await.is_err());
        let trouble = elector.status().borrow().trouble.clone().unwrap();
        assert_eq!(trouble.kind, ErrorKind::Unavailable, "{trouble:?}");
    });
}

/// Handles may outlive every runtime: dropping them there neither blocks nor panics, and the keeper
/// still releases.
#[test]
fn handles_may_be_dropped_outside_of_any_runtime() {
    let engine = Embedded::in_memory().unwrap();
    let open = || LockClient::embedded(&engine, "locks").timing(Timing::aggressive()).build();
    let runtime = Runtime::new().unwrap();
    let (lock, leadership, view) = runtime.block_on(async {
        let locks = open().await.unwrap();
        let elector = Elector::builder(&locks, "e").build().unwrap();
        let leadership = elector.campaign().await.unwrap();
        let view = leadership.view();
        (locks.acquire("job").await.unwrap(), leadership, view)
    });
    drop(runtime);
    assert!(lock.is_valid() && leadership.is_valid(), "the keeper does not need that runtime");
    std::thread::sleep(Timing::aggressive().lease());
    assert!(lock.is_valid() && leadership.is_valid(), "and renews on");
    drop(lock);
    drop(leadership);
    drop(view);
    let released = Runtime::new().unwrap().block_on(async {
        let locks = open().await.unwrap();
        for _ in 0..100 {
            let (job, election) = (locks.get("job").await.unwrap(), locks.get("e").await.unwrap());
            if job.unwrap().is_released() && election.unwrap().is_released() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    });
    assert!(released);
}

/// What fails while the client is made is a build error.
#[test]
fn a_factory_that_panics_is_a_build_error() {
    let runtime = Runtime::new().unwrap();
    let engine = Embedded::in_memory().unwrap();
    let build = runtime.block_on(
        LockClient::builder(&engine.client(), "locks")
            .sdk_factory(|| async { panic!("injected: no configuration") })
            .build(),
    );
    assert_eq!(build.unwrap_err().kind(), ErrorKind::KeeperFailed);
}

/// One database file, two engines, as two processes would have it.
#[test]
fn two_engines_share_a_file() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("locks.db");
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let (one, two) = (Embedded::open(&path).unwrap(), Embedded::open(&path).unwrap());
        let first = LockClient::embedded(&one, "locks").timing(Timing::aggressive()).build().await.unwrap();
        let second = LockClient::embedded(&two, "locks").timing(Timing::aggressive()).build().await.unwrap();
        let lock = first.acquire("job").await.unwrap();
        assert!(second.try_acquire("job").await.unwrap().is_none());
        lock.release().await.unwrap();
        let next = second.acquire("job").wait_up_to(Duration::from_secs(2)).await.unwrap();
        assert_eq!(next.fencing_token().unwrap(), 2);
    });
    let error = Embedded::open(scratch.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "a directory is no database");
}
