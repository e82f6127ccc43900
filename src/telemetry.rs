//! Metrics and trace events. The keeper only queues them; the herald records them elsewhere, because
//! recorders and subscribers are user code (R10).

mod catalog;
mod meter;
mod standing;
mod trace;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::ending::{EndReason, ReleaseOutcome};
use crate::error::{Error, ErrorKind};
use crate::store::Op;
use meter::Meter;
use standing::Standing;
use trace::Tracer;

/// The name of an election, as a label.
pub(crate) type Name = Arc<str>;

/// Whether metrics tell the elections of a client apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// By the label `name`.
    Each,
    /// They don't.
    Together,
}

/// What of the user's is called and can fail: the work of `run`, and the callbacks.
pub(crate) const CALLBACKS: [&str; 4] = ["run", "on_elected", "on_demoted", "on_leader_changed"];

/// One thing to record.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Request {
        op: Op,
        units: f64,
    },
    TableUnchecked {
        why: String,
    },
    TableExpires {
        attribute: String,
    },
    /// Of a plain lock.
    Lock {
        key: Name,
        what: LockEvent,
    },
    /// An elector was built.
    Registered {
        name: Name,
    },
    /// Its last handle is gone, and its last term is over.
    Gone {
        name: Name,
    },
    /// It was shut down.
    Stopped {
        name: Name,
    },
    Paused {
        name: Name,
        paused: bool,
    },
    /// How long ago the runtime of the work last made progress.
    Beacon {
        name: Name,
        age: Duration,
    },
    /// One of [`CALLBACKS`] returned an error or panicked.
    CallbackFailed {
        name: Name,
        callback: &'static str,
        why: String,
    },
    Elected {
        name: Name,
        owner: Arc<str>,
        token: u64,
    },
    Ended {
        name: Name,
        reason: EndReason,
        tenure: Duration,
    },
    Released {
        name: Name,
        outcome: ReleaseOutcome,
        drain: Duration,
    },
    Renewed {
        name: Name,
        took: Duration,
        margin: Duration,
    },
    Failed {
        name: Name,
        kind: ErrorKind,
        why: String,
        renewal: bool,
        first: bool,
    },
    Recovered {
        name: Name,
    },
    ForcedRead {
        name: Name,
    },
    Ambiguous {
        name: Name,
        resolved: &'static str,
    },
    Claimed {
        name: Name,
        outcome: &'static str,
    },
    Follower {
        name: Name,
    },
    LeaderChanged {
        name: Name,
        leader: Option<String>,
    },
    Leaderless {
        name: Name,
        time: Duration,
    },
    /// Work did not stop at its bound, and the process is about to be ended.
    Stuck {
        name: Name,
    },
    TokenRegressed {
        name: Name,
        floor: u64,
        found: u64,
    },
}

impl Event {
    /// The election that it is about.
    fn election(&self) -> Option<&Name> {
        match self {
            Self::Registered { name }
            | Self::Gone { name }
            | Self::Stopped { name }
            | Self::Paused { name, .. }
            | Self::Beacon { name, .. }
            | Self::CallbackFailed { name, .. }
            | Self::Elected { name, .. }
            | Self::Ended { name, .. }
            | Self::Released { name, .. }
            | Self::Renewed { name, .. }
            | Self::Failed { name, .. }
            | Self::Recovered { name }
            | Self::ForcedRead { name }
            | Self::Ambiguous { name, .. }
            | Self::Claimed { name, .. }
            | Self::Follower { name }
            | Self::Stuck { name }
            | Self::LeaderChanged { name, .. }
            | Self::Leaderless { name, .. }
            | Self::TokenRegressed { name, .. } => Some(name),
            Self::Request { .. } | Self::TableUnchecked { .. } | Self::TableExpires { .. } | Self::Lock { .. } => None,
        }
    }
}

/// What happens to a plain lock.
#[derive(Debug, Clone)]
pub(crate) enum LockEvent {
    Acquired { token: u64 },
    Ended { reason: EndReason, held: Duration },
    Released { outcome: ReleaseOutcome },
    Failed { kind: ErrorKind, why: String, renewal: bool, first: bool },
    Recovered,
}

/// Events wait here while a recorder is slow; more than this is dropped and counted, since a keeper must never wait.
const QUEUE: usize = 4_096;

/// The queue to the herald.
#[derive(Debug, Clone)]
pub(crate) struct Telemetry {
    events: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
    standing: Arc<Standing>,
}

impl Telemetry {
    /// Starts the herald: on a thread of its own, or on the current runtime in simulated time.
    pub(crate) fn start(own_thread: bool, naming: Naming) -> Result<Self, Error> {
        let (events, received) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let standing = Arc::new(Standing::default());
        let herald = herald(received, Arc::clone(&dropped), Arc::clone(&standing), naming);
        if own_thread {
            // The subscriber that is current where the client is built also records what the herald tells.
            let subscriber = tracing::dispatcher::get_default(Clone::clone);
            std::thread::Builder::new()
                .name("dynamo-elector-herald".into())
                .spawn(move || {
                    tracing::dispatcher::with_default(&subscriber, || futures::executor::block_on(herald));
                })
                .map_err(|error| {
                    Error::new(ErrorKind::KeeperFailed, "the herald thread could not be started").with_source(error)
                })?;
        } else {
            tokio::spawn(herald);
        }
        Ok(Self { events, dropped, standing })
    }

    /// Never waits.
    pub(crate) fn send(&self, event: Event) {
        self.standing.note(&event);
        if self.events.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn request(&self, op: Op, units: f64) {
        self.send(Event::Request { op, units });
    }

    pub(crate) fn table_expires(&self, attribute: &str) {
        self.send(Event::TableExpires { attribute: attribute.to_owned() });
    }

    pub(crate) fn table_unchecked(&self, error: &Error) {
        self.send(Event::TableUnchecked { why: error.to_string() });
    }
}

/// Records events in the order they happened.
async fn herald(mut events: mpsc::Receiver<Event>, dropped: Arc<AtomicU64>, standing: Arc<Standing>, naming: Naming) {
    let mut meter = Meter::new(standing, naming);
    let mut tracer = Tracer::default();
    while let Some(event) = events.recv().await {
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "events were dropped because a recorder or subscriber is slow");
        }
        meter.record(&event, lost);
        tracer.record(&event);
    }
}
