//! What asking for validity takes beside one bare clock read, and what a heartbeat and a read take through the SDK, whose store
//! answers at once. `just bench-core`. Fails where validity is dear or does not scale: on a quiet machine.

#![allow(clippy::unwrap_used, reason = "a benchmark that can not go on fails")]

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use divan::{Bencher, black_box};
use dynamo_elector::{Lock, LockClient};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

/// Every write is applied, and every read shows the same record.
#[derive(Debug, Clone)]
struct Stub;

const RECORD: &str = r#"{"key":{"S":"job"},"ownerName":{"S":"node-1"},"leaseDuration":{"S":"10s"},"recordVersionNumber":{"S":"0f9c2a52-6d3a-4a86-9b35-8f2b8a3b0f11"},"stampedVersion":{"S":"1:0f9c2a52-6d3a-4a86-9b35-8f2b8a3b0f11"},"fencingToken":{"N":"7"},"heartbeatMillis":{"N":"2500"},"acquiredAt":{"S":"2026-01-01T00:00:00Z"}}"#;
const CAPACITY: &str = r#""ConsumedCapacity":{"TableName":"locks","CapacityUnits":1.0}"#;

impl HttpConnector for Stub {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let shown = request.body().bytes().unwrap_or_default();
        let (status, body) = match target.rsplit('.').next().unwrap_or_default() {
            "UpdateItem" if shown.windows(7).any(|part| part == b"ALL_NEW") => (200, "{}".to_owned()),
            "UpdateItem" => (200, format!("{{{CAPACITY}}}")),
            "GetItem" if shown.windows(5).any(|part| part == b"other") => {
                (200, format!(r#"{{"Item":{RECORD},{CAPACITY}}}"#))
            }
            "GetItem" => (200, format!("{{{CAPACITY}}}")),
            _ => (400, r#"{"__type":"com.amazon.coral.service#AccessDeniedException","message":"no"}"#.to_owned()),
        };
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))))
    }
}

impl HttpClient for Stub {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// A client with its own keeper, and a lock that it holds.
fn held() -> (Runtime, LockClient, Lock) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .credentials_provider(Credentials::new("stub", "stub", None, None, "stub"))
        .http_client(Stub)
        .build();
    let client = aws_sdk_dynamodb::Client::from_conf(config);
    let (locks, lock) = runtime.block_on(async {
        let locks = LockClient::builder(&client, "locks").share_http_client().build().await.unwrap();
        let lock = locks.acquire("job").await.unwrap();
        (locks, lock)
    });
    (runtime, locks, lock)
}

#[divan::bench]
fn clock_read() -> rustix::time::Timespec {
    clock_gettime(ClockId::Boottime)
}

#[divan::bench(threads = [1, 2])]
fn is_valid(bencher: Bencher) {
    let (_runtime, _locks, lock) = held();
    bencher.bench(|| lock.is_valid());
}

/// From the handle to the keeper's thread, through the SDK, and back.
#[divan::bench]
fn heartbeat_through_the_sdk(bencher: Bencher) {
    let (runtime, _locks, lock) = held();
    bencher.bench_local(|| runtime.block_on(async { lock.heartbeat().await.unwrap() }));
}

/// The same for a read, and its record decoded.
#[divan::bench]
fn read_through_the_sdk(bencher: Bencher) {
    let (runtime, locks, _lock) = held();
    bencher.bench_local(|| runtime.block_on(async { locks.get("other").await.unwrap().unwrap() }));
}

const CALLS: u32 = 200_000;

/// The best of many rounds: whatever disturbs one only makes it slower.
fn best(round: impl Fn() -> Duration) -> f64 {
    (0..50).map(|_| round()).min().unwrap().as_secs_f64() / f64::from(CALLS)
}

#[allow(clippy::disallowed_methods, reason = "a stopwatch")]
fn took(work: impl Fn()) -> Duration {
    let start = Instant::now();
    for _ in 0..CALLS {
        work();
    }
    start.elapsed()
}

fn main() {
    divan::main();
    let (_runtime, _locks, lock) = held();
    let clock = best(|| took(|| _ = black_box(clock_gettime(ClockId::Boottime))));
    let alone = best(|| took(|| _ = black_box(lock.is_valid())));
    let beside = best(|| {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| took(|| _ = black_box(lock.is_valid())));
            took(|| _ = black_box(lock.is_valid())).max(other.join().unwrap())
        })
    });
    let (ratio, scaling) = (alone / clock, 2.0 * alone / beside);
    println!(
        "is_valid {:.1} ns, a clock read {:.1} ns: {ratio:.2}; two threads do {scaling:.2} times as many as one",
        alone * 1e9,
        clock * 1e9
    );
    if ratio > 1.5 || scaling < 1.8 {
        eprintln!(
            "is_valid costs {ratio:.2} clock reads (1.5 at most), or two threads do {scaling:.2} times as many (1.8 at least)"
        );
        std::process::exit(1);
    }
}
