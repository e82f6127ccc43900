//! A term, with everybody who is told of its end.

#![allow(clippy::future_not_send, reason = "a recorder for one thread stays on it")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynamo_elector::{
    Call, Elector, ElectorBuilder, Embedded, EndReason, Fault, Faults, Leadership, LockClient, ReleaseOutcome, Role,
    Running, Service, Status, TermEnded, Transition, WorkResult,
};
use futures::StreamExt;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio::sync::{Notify, watch};

use crate::client;
use crate::support::{Item, raw};
use crate::telemetry::{at, look};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Elected,
    /// The transition: the token has fired.
    Demoted,
    WorkToldToStop,
    WorkDone,
    ReleaseWritten,
    /// `on_demoted`.
    Callback,
    /// The transition, with which the status shows the outcome.
    Released,
}

/// What happened, in order.
#[derive(Clone, Default)]
pub(super) struct Log {
    lines: Arc<Mutex<Vec<Told>>>,
    more: Arc<Notify>,
}

impl Log {
    pub(super) fn say(&self, what: Told) {
        self.lines.lock().unwrap().push(what);
        self.more.notify_waiters();
    }

    pub(super) fn has(&self, what: Told) -> bool {
        self.lines.lock().unwrap().contains(&what)
    }

    async fn wait(&self, what: Told) {
        let waited = tokio::time::timeout(Duration::from_secs(120), async {
            loop {
                let more = self.more.notified();
                if self.has(what) {
                    return;
                }
                more.await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{what:?} is never told: {:?}", self.lines.lock().unwrap()));
    }
}

/// What the work is told to do.
#[derive(Default)]
pub(super) struct Orders {
    pub(super) resign: Notify,
    pub(super) fail: Notify,
}

pub(super) struct Tale {
    pub(super) engine: Embedded,
    pub(super) faults: Faults,
    pub(super) locks: LockClient,
    /// Another process.
    pub(super) rival: LockClient,
    pub(super) elector: Elector,
    pub(super) log: Log,
    pub(super) orders: Arc<Orders>,
    demoted: Arc<Mutex<Vec<(TermEnded, Status)>>>,
    backup: Mutex<Option<Item>>,
    metrics: &'static PrometheusRecorder,
    _recording: metrics::LocalRecorderGuard<'static>,
}

impl Tale {
    pub(super) async fn new(configure: impl FnOnce(ElectorBuilder) -> ElectorBuilder) -> Self {
        // The guard must live as long as the tale, so the recorder does for as long as the process.
        let recorder: &'static PrometheusRecorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
        let recording = metrics::set_default_local_recorder(recorder);
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let (locks, rival) = (client(&engine, &faults, 1).await, client(&engine, &Faults::none(), 2).await);
        let elector = configure(Elector::builder(&locks, "e")).build().unwrap();
        let log = Log::default();
        let (mut transitions, follower) = (elector.transitions(), log.clone());
        let status = elector.status();
        tokio::spawn(async move {
            while let Some(transition) = transitions.next().await {
                match transition {
                    Transition::Demoted { reason, .. } => {
                        let role = status.borrow().role;
                        assert!(!reason.is_forced() || role != Role::Leader, "{reason}: demoted with the token");
                        follower.say(Told::Demoted);
                    }
                    Transition::Released { .. } => follower.say(Told::Released),
                    _ => {}
                }
            }
        });
        let tale = Self {
            engine,
            faults,
            locks,
            rival,
            elector,
            log,
            orders: Arc::default(),
            demoted: Arc::default(),
            backup: Mutex::default(),
            metrics: recorder,
            _recording: recording,
        };
        tale.faults.set(tale.record_writes());
        tale
    }

    /// Started, and elected.
    pub(super) async fn leading(configure: impl FnOnce(ElectorBuilder) -> ElectorBuilder) -> (Self, Running) {
        let tale = Self::new(configure).await;
        let running = tale.start();
        tale.led().await;
        (tale, running)
    }

    pub(super) fn start(&self) -> Running {
        let (log, orders) = (self.log.clone(), Arc::clone(&self.orders));
        let (demoted, status) = (Arc::clone(&self.demoted), self.elector.status());
        self.elector.start(Worker { log, orders, demoted, status }).unwrap()
    }

    pub(super) async fn led(&self) {
        tokio::time::timeout(Duration::from_secs(120), self.elector.until_leading()).await.unwrap().unwrap();
        self.log.wait(Told::Elected).await;
    }

    pub(super) async fn told(&self, what: Told) {
        self.log.wait(what).await;
    }

    /// A network without faults that notes each release.
    pub(super) fn record_writes(&self) -> impl FnMut(&Call) -> Fault + Send + 'static {
        let log = self.log.clone();
        move |call| {
            if call.operation == "UpdateItem" && call.body.contains(":released") {
                log.say(Told::ReleaseWritten);
            }
            Fault::Deliver
        }
    }

    pub(super) async fn keep_backup(&self) {
        let item = raw(&self.engine, "e").await;
        self.backup.lock().unwrap().get_or_insert(item.unwrap());
    }

    pub(super) async fn restore_backup(&self) {
        let item = self.backup.lock().unwrap().take();
        self.engine.client().put_item().table_name("locks").set_item(item).send().await.unwrap();
    }

    /// Everybody was told, in this order, and tells the same.
    pub(super) async fn check(&self, reason: EndReason, outcome: ReleaseOutcome, order: &[Told]) {
        self.check_told(reason, outcome, order).await;
        self.check_metrics(reason, outcome).await;
    }

    pub(super) async fn check_told(&self, reason: EndReason, outcome: ReleaseOutcome, order: &[Told]) {
        self.told(Told::Released).await;
        let mut told: Vec<Told> = self.log.lines.lock().unwrap().clone();
        told.truncate(told.iter().position(|told| *told == Told::Released).unwrap() + 1);
        told.retain(|told| *told != Told::Elected);
        // The token and the transition wake two tasks at once: which of them runs first is nobody's promise.
        if told[..2] == [Told::WorkToldToStop, Told::Demoted] {
            told.swap(0, 1);
        }
        // So it is where the work is over first: the release leaves in the very step that tells of the end.
        if told[..2] == [Told::WorkDone, Told::ReleaseWritten] {
            told.swap(1, 2);
        }
        assert_eq!(told, order, "{reason}");
        let status = self.elector.status().borrow().clone();
        assert_eq!((status.last_end, status.last_release), (Some(reason), Some(outcome)));
        if order.contains(&Told::Callback) {
            let demoted = self.demoted.lock().unwrap();
            let (term, then) = &demoted[0];
            assert_eq!((term.reason, term.outcome), (reason, outcome));
            assert!(term.fencing_token > 0 && !term.held.is_zero());
            assert_eq!(
                (then.last_release, then.is_leader()),
                (None, false),
                "{reason}: the status waits for the callback"
            );
        }
    }

    async fn check_metrics(&self, reason: EndReason, outcome: ReleaseOutcome) {
        // The herald is a moment behind.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let metrics = look(self.metrics);
        for (name, value) in [
            (format!("leader_election_lost_total{{name=e,reason={reason}}}"), 1.0),
            (format!("leader_election_release_total{{name=e,outcome={}}}", outcome.as_str()), 1.0),
            ("leader_election_tenure_seconds{name=e}".into(), 1.0),
            ("leader_election_drain_seconds{name=e}".into(), 1.0),
            ("leader_election_master_status{name=e}".into(), f64::from(self.elector.status().borrow().is_leader())),
        ] {
            assert!((at(&metrics, &name) - value).abs() < 1e-9, "{name} is not {value} in {metrics:#?}");
        }
    }
}

/// Works until it is told to stop, and takes a while to.
struct Worker {
    log: Log,
    orders: Arc<Orders>,
    demoted: Arc<Mutex<Vec<(TermEnded, Status)>>>,
    status: watch::Receiver<Status>,
}

impl Service for Worker {
    async fn on_elected(&mut self, leadership: Leadership) -> WorkResult {
        self.log.say(Told::Elected);
        tokio::select! { biased;
            () = leadership.cancelled() => self.log.say(Told::WorkToldToStop),
            () = self.orders.resign.notified() => {
                let (told, stopped) = (leadership.cancelled(), leadership.resign());
                tokio::pin!(stopped);
                tokio::select! { biased;
                    () = told => self.log.say(Told::WorkToldToStop),
                    _ = &mut stopped => panic!("released while this very work still runs"),
                }
            }
            () = self.orders.fail.notified() => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                self.log.say(Told::WorkDone);
                return Err("it can't".into());
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.log.say(Told::WorkDone);
        Ok(())
    }

    async fn on_demoted(&mut self, term: TermEnded) {
        self.log.say(Told::Callback);
        self.demoted.lock().unwrap().push((term, self.status.borrow().clone()));
        // Nothing of it is told before this returns.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
