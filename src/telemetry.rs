//! Metrics and trace events. The keeper only queues them; the herald records them elsewhere, because
//! recorders and subscribers are user code (R10).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use tokio::sync::mpsc;

use crate::ending::{EndReason, ReleaseOutcome};
use crate::error::{Error, ErrorKind};
use crate::store::Op;

/// The name of an election, as a label.
pub(crate) type Name = Arc<str>;

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
    Registered {
        name: Name,
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
        message: String,
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
    /// How long the runtime that does the work has been silent.
    Beacon {
        name: Name,
        age: Duration,
    },
    Paused {
        name: Name,
        paused: bool,
    },
    /// A callback panicked or hung.
    CallbackFailed {
        name: Name,
        callback: &'static str,
        why: String,
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

/// What happens to a plain lock.
#[derive(Debug, Clone)]
pub(crate) enum LockEvent {
    Acquired { token: u64 },
    Ended { reason: EndReason, held: Duration },
    Released { outcome: ReleaseOutcome },
    Failed { kind: ErrorKind, message: String, renewal: bool, first: bool },
    Recovered,
}

/// Events wait here while a recorder is slow; more than this is dropped and counted, since a keeper must never wait.
const QUEUE: usize = 4_096;

/// The queue to the herald.
#[derive(Debug, Clone)]
pub(crate) struct Telemetry {
    events: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
}

impl Telemetry {
    /// Starts the herald: on a thread of its own, or on the current runtime in simulated time.
    pub(crate) fn start(own_thread: bool) -> Result<Self, Error> {
        let (events, received) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let herald = herald(received, Arc::clone(&dropped));
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
        Ok(Self { events, dropped })
    }

    pub(crate) fn send(&self, event: Event) {
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

/// Records events in the order they happened. Handles are looked up at each use: one taken before a
/// recorder is installed would go nowhere.
async fn herald(mut events: mpsc::Receiver<Event>, dropped: Arc<AtomicU64>) {
    describe();
    let mut terms: BTreeMap<Name, tracing::Span> = BTreeMap::new();
    while let Some(event) = events.recv().await {
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "events were dropped because a recorder or subscriber is slow");
        }
        count(&event);
        trace(&event, &mut terms);
    }
}

fn describe() {
    describe_gauge!("leader_election_master_status", "1 while this process leads, else 0");
    describe_gauge!("leader_election_fencing_token", "Fencing token of the latest term of this process");
    describe_counter!("leader_election_slowpath_total", "Reads that were needed to settle unknown writes");
    describe_counter!("leader_election_transitions_total", "Changes of role, by new role");
    describe_counter!("leader_election_lost_total", "Ends of leadership, by reason");
    describe_counter!("leader_election_renew_failures_total", "Heartbeats that did not come through, by kind");
    describe_counter!("leader_election_ambiguous_writes_total", "Writes without a reply that were settled later");
    describe_counter!("leader_election_acquire_attempts_total", "Claims, by outcome");
    describe_counter!("leader_election_release_total", "Releases, by outcome");
    describe_counter!("leader_election_requests_total", "Requests answered by DynamoDB, by operation");
    describe_gauge!("leader_election_capacity_units_total", "Capacity units consumed, by operation");
    describe_gauge!("locks_held", "Plain locks that this process holds");
    describe_counter!("locks_acquired_total", "Plain locks acquired");
    describe_counter!("locks_ended_total", "Plain locks that ended, by reason");
    describe_counter!("locks_released_total", "Releases of plain locks, by outcome");
    describe_counter!("locks_renew_failures_total", "Heartbeats of plain locks that did not come through, by kind");
    describe_histogram!("leader_election_renew_duration_seconds", Unit::Seconds, "From send to reply of a heartbeat");
    describe_histogram!("leader_election_margin_seconds", Unit::Seconds, "Validity left when a heartbeat came through");
    describe_histogram!("leader_election_tenure_seconds", Unit::Seconds, "Length of a leadership");
    describe_histogram!("leader_election_drain_seconds", Unit::Seconds, "From the token to the end of the release");
    describe_histogram!("leader_election_leaderless_seconds", Unit::Seconds, "Seen by followers between two leaders");
}

/// The one place that sets metrics.
fn count(event: &Event) {
    let label = |name: &Name| name.to_string();
    match event {
        Event::Request { op, units } => {
            counter!("leader_election_requests_total", "op" => op.as_str()).increment(1);
            // A counter of the facade is a whole number and an eventually consistent read costs half a unit:
            // a gauge that only rises serves `rate()` as well.
            gauge!("leader_election_capacity_units_total", "op" => op.as_str()).increment(*units);
        }
        Event::Lock { what, .. } => count_lock(what),
        Event::Registered { name } => gauge!("leader_election_master_status", "name" => label(name)).set(0.0),
        Event::Elected { name, token, .. } => {
            #[allow(clippy::cast_precision_loss, reason = "a gauge is a float; exact up to 2^53 terms")]
            gauge!("leader_election_fencing_token", "name" => label(name)).set(*token as f64);
            gauge!("leader_election_master_status", "name" => label(name)).set(1.0);
            counter!("leader_election_transitions_total", "name" => label(name), "to" => "leader").increment(1);
        }
        Event::Ended { name, reason, tenure } => {
            gauge!("leader_election_master_status", "name" => label(name)).set(0.0);
            counter!("leader_election_lost_total", "name" => label(name), "reason" => reason.as_str()).increment(1);
            histogram!("leader_election_tenure_seconds", "name" => label(name)).record(tenure.as_secs_f64());
        }
        Event::Released { name, outcome, drain } => {
            counter!("leader_election_release_total", "name" => label(name), "outcome" => outcome.as_str())
                .increment(1);
            histogram!("leader_election_drain_seconds", "name" => label(name)).record(drain.as_secs_f64());
        }
        Event::Renewed { name, took, margin } => {
            histogram!("leader_election_renew_duration_seconds", "name" => label(name)).record(took.as_secs_f64());
            histogram!("leader_election_margin_seconds", "name" => label(name)).record(margin.as_secs_f64());
        }
        Event::Failed { name, kind, renewal: true, .. } => {
            counter!("leader_election_renew_failures_total", "name" => label(name), "kind" => kind.as_str())
                .increment(1);
        }
        Event::ForcedRead { name } => counter!("leader_election_slowpath_total", "name" => label(name)).increment(1),
        Event::Ambiguous { name, resolved } => {
            counter!("leader_election_ambiguous_writes_total", "name" => label(name), "resolved" => *resolved)
                .increment(1);
        }
        Event::Claimed { name, outcome } => {
            counter!("leader_election_acquire_attempts_total", "name" => label(name), "outcome" => *outcome)
                .increment(1);
        }
        Event::Follower { name } => {
            counter!("leader_election_transitions_total", "name" => label(name), "to" => "follower").increment(1);
        }
        Event::Leaderless { name, time } => {
            histogram!("leader_election_leaderless_seconds", "name" => label(name)).record(time.as_secs_f64());
        }
        Event::Failed { renewal: false, .. }
        | Event::Recovered { .. }
        | Event::LeaderChanged { .. }
        | Event::Stuck { .. }
        | Event::Beacon { .. }
        | Event::Paused { .. }
        | Event::CallbackFailed { .. }
        | Event::TokenRegressed { .. }
        | Event::TableUnchecked { .. }
        | Event::TableExpires { .. } => {}
    }
}

/// Over all locks together: their keys may be as many as there are orders or files.
fn count_lock(what: &LockEvent) {
    match what {
        LockEvent::Acquired { .. } => {
            counter!("locks_acquired_total").increment(1);
            gauge!("locks_held").increment(1.0);
        }
        LockEvent::Ended { reason, .. } => {
            counter!("locks_ended_total", "reason" => reason.as_str()).increment(1);
            gauge!("locks_held").decrement(1.0);
        }
        LockEvent::Released { outcome } => {
            counter!("locks_released_total", "outcome" => outcome.as_str()).increment(1);
        }
        LockEvent::Failed { kind, renewal: true, .. } => {
            counter!("locks_renew_failures_total", "kind" => kind.as_str()).increment(1);
        }
        LockEvent::Failed { renewal: false, .. } | LockEvent::Recovered => {}
    }
}

fn trace_lock(key: &Name, what: &LockEvent) {
    match what {
        LockEvent::Acquired { token } => tracing::debug!(%key, token, "lock acquired"),
        LockEvent::Ended { reason, held } if reason.is_forced() => tracing::warn!(%key, %reason, ?held, "lock lost"),
        LockEvent::Ended { reason, held } => tracing::debug!(%key, %reason, ?held, "lock ends"),
        LockEvent::Released { outcome: outcome @ (ReleaseOutcome::Unknown | ReleaseOutcome::Expired) } => {
            tracing::warn!(%key, outcome = outcome.as_str(), "lock not released: others wait for its lease");
        }
        LockEvent::Released { outcome } => tracing::debug!(%key, outcome = outcome.as_str(), "lock released"),
        LockEvent::Failed { kind, message, first: true, .. } => {
            tracing::warn!(%key, kind = kind.as_str(), %message, "the store fails; retrying");
        }
        LockEvent::Failed { kind, message, first: false, .. } => {
            tracing::debug!(%key, kind = kind.as_str(), %message, "the store still fails");
        }
        LockEvent::Recovered => tracing::info!(%key, "the store answers again"),
    }
}

/// One span a term, one event a transition, one warning a change of state. Never records, never credentials.
fn trace(event: &Event, terms: &mut BTreeMap<Name, tracing::Span>) {
    match event {
        Event::Lock { key, what } => trace_lock(key, what),
        Event::TableUnchecked { why } => tracing::warn!(%why, "the lock table was not checked"),
        Event::TableExpires { attribute } => tracing::warn!(
            %attribute,
            "the lock table expires items: a lock record that carries this attribute would be deleted, and its fencing token with it"
        ),
        Event::Elected { name, owner, token } => {
            let span = tracing::info_span!("leadership", %name, %owner, token);
            span.in_scope(|| tracing::info!("elected"));
            terms.insert(Arc::clone(name), span);
        }
        Event::Ended { name, reason, tenure } => in_term(terms, name, || {
            if reason.is_forced() {
                tracing::warn!(%reason, ?tenure, "leadership lost");
            } else {
                tracing::info!(%reason, ?tenure, "leadership ends");
            }
        }),
        Event::Released { name, outcome, .. } => {
            in_term(terms, name, || tracing::info!(outcome = outcome.as_str(), "lease released"));
            terms.remove(name);
        }
        Event::Failed { name, kind, message, first, .. } => in_term(terms, name, || {
            if *first {
                tracing::warn!(%name, kind = kind.as_str(), %message, "the store fails; retrying");
            } else {
                tracing::debug!(%name, kind = kind.as_str(), %message, "the store still fails");
            }
        }),
        Event::Recovered { name } => tracing::info!(%name, "the store answers again"),
        Event::LeaderChanged { name, leader } => tracing::info!(%name, leader = leader.as_deref(), "leader changed"),
        Event::Stuck { name } => {
            tracing::error!(%name, "work did not stop at its bound: ending the process, as the setting says");
        }
        Event::TokenRegressed { name, floor, found } => {
            tracing::error!(%name, floor, found, "the record's fencing token went back: restored from a backup?");
        }
        Event::Request { .. }
        | Event::Registered { .. }
        | Event::Beacon { .. }
        | Event::Paused { .. }
        | Event::CallbackFailed { .. }
        | Event::Renewed { .. }
        | Event::ForcedRead { .. }
        | Event::Ambiguous { .. }
        | Event::Claimed { .. }
        | Event::Follower { .. }
        | Event::Leaderless { .. } => {}
    }
}

fn in_term(terms: &BTreeMap<Name, tracing::Span>, name: &Name, tell: impl FnOnce()) {
    match terms.get(name) {
        Some(term) => term.in_scope(tell),
        None => tell(),
    }
}
