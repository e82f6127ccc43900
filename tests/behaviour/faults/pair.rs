//! A leader and a replica that follows it, each with a network of its own.

use std::time::Duration;

use dynamo_elector::{Elector, Embedded, EndReason, ErrorKind, Fault, Faults, LockClient, LockClientBuilder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio::time::Instant;

use crate::builder;
use crate::support::{Idle, sleep, within};
use crate::telemetry::{at, look};

/// Of the default timing, in milliseconds.
pub(super) const LEASE: u64 = 10_000;
pub(super) const HEARTBEAT: u64 = 2_500;
pub(super) const VALIDITY: u64 = 8_000;
pub(super) const POLL: u64 = 1_000;

pub(super) struct Replica {
    pub(super) faults: Faults,
    pub(super) locks: LockClient,
    pub(super) elector: Elector,
}

impl Replica {
    /// Campaigns from now on.
    pub(super) async fn start(engine: &Embedded, seed: u64) -> Self {
        Self::with(engine, seed, |builder| builder).await
    }

    pub(super) async fn with(
        engine: &Embedded,
        seed: u64,
        configure: impl FnOnce(LockClientBuilder) -> LockClientBuilder,
    ) -> Self {
        let faults = Faults::none();
        let locks = configure(builder(engine, &faults, seed)).build().await.unwrap();
        // Whoever ends does so at once: announced ends have tests of their own.
        let elector = Elector::builder(&locks, "e").hand_over_notice(Duration::ZERO).build().unwrap();
        drop(elector.start(Idle).unwrap());
        Self { faults, locks, elector }
    }

    /// Whether it may act: asked of the clock, by the status and by the leadership alike.
    pub(super) fn leads(&self) -> bool {
        let by_status = self.elector.status().borrow().is_leader();
        let by_leadership = self.elector.leadership().is_some_and(|leadership| leadership.is_valid());
        assert!(by_status || !by_leadership, "the leadership is valid, and the status says that it is none");
        by_status
    }

    pub(super) fn token(&self) -> Option<u64> {
        self.elector.status().borrow().fencing_token()
    }

    pub(super) fn trouble(&self) -> Option<ErrorKind> {
        self.elector.status().borrow().trouble.as_ref().map(|trouble| trouble.kind)
    }

    pub(super) fn last_end(&self) -> Option<EndReason> {
        self.elector.status().borrow().last_end
    }

    /// Waits until it leads, at most so long.
    pub(super) async fn led(&self, bound: u64) -> Duration {
        let began = Instant::now();
        within(bound, self.elector.until_leading()).await.unwrap();
        began.elapsed()
    }
}

pub(super) struct Pair {
    pub(super) engine: Embedded,
    pub(super) one: Replica,
    pub(super) two: Replica,
    metrics: &'static PrometheusRecorder,
    _recording: metrics::LocalRecorderGuard<'static>,
}

impl Pair {
    /// The first leads, the second has seen it.
    pub(super) async fn new() -> Self {
        Self::with(|builder| builder, |builder| builder).await
    }

    pub(super) async fn with(
        first: impl FnOnce(LockClientBuilder) -> LockClientBuilder,
        second: impl FnOnce(LockClientBuilder) -> LockClientBuilder,
    ) -> Self {
        // The guard must live as long as the pair, so the recorder does for as long as the process.
        let metrics: &'static PrometheusRecorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
        let recording = metrics::set_default_local_recorder(metrics);
        let engine = Embedded::in_memory().unwrap();
        let one = Replica::with(&engine, 1, first).await;
        one.led(5_000).await;
        let two = Replica::with(&engine, 2, second).await;
        within(5_000, two.elector.until_leader()).await.unwrap();
        sleep(3_000).await;
        assert!(one.leads() && !two.leads());
        Self { engine, one, two, metrics, _recording: recording }
    }

    /// Looks at both for so long: they never lead both. How long the first one led on, and since when the second does.
    pub(super) async fn watch(&self, time: u64) -> (Option<Duration>, Option<Duration>) {
        let began = Instant::now();
        let (mut stopped, mut took_over) = (None, None);
        while began.elapsed() < Duration::from_millis(time) {
            match (self.one.leads(), self.two.leads()) {
                (true, true) => panic!("both lead at {:?}", began.elapsed()),
                (false, leads) => {
                    stopped.get_or_insert(began.elapsed());
                    if leads {
                        took_over.get_or_insert(began.elapsed());
                    }
                }
                (true, false) => assert!(stopped.is_none(), "it leads again"),
            }
            sleep(10).await;
        }
        (stopped, took_over)
    }

    /// Both are gone: what a loop leaves running slows down the next rounds.
    pub(super) async fn close(self) {
        for replica in [&self.one, &self.two] {
            replica.faults.set(|_| Fault::Deliver);
            within(30_000, replica.elector.shutdown()).await;
        }
    }

    /// A metric of the election; both record to it.
    pub(super) async fn metric(&self, series: &str) -> f64 {
        // The herald is a moment behind.
        sleep(1).await;
        at(&look(self.metrics), series)
    }
}
