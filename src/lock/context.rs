//! What all tasks of one client share on the keeper, and what they tell to whoever watches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cell::LeaseCell;
use super::entropy::Entropy;
use crate::clock::Clock;
use crate::ending::{EndReason, ReleaseOutcome};
use crate::error::Error;
use crate::protocol::{Consistency, Moment, Noted, Observation, ReceivedAt, Seen, SentAt, Terms};
use crate::store::{DurationText, Found, LockKey, Store};
use crate::telemetry::Telemetry;
use crate::timing::Timing;

/// Settings of a client that its tasks need.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) owner: String,
    pub(crate) timing: Timing,
    pub(crate) duration_text: DurationText,
    pub(crate) delete_on_release: bool,
}

impl Settings {
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            lease: self.timing.lease(),
            validity: self.timing.validity(),
            heartbeat: self.timing.heartbeat(),
            hard_limit: self.timing.hard_limit(),
        }
    }
}

/// Shared by all tasks of the keeper. No lock in it is held across an await.
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    pub(crate) settings: Settings,
    pub(crate) telemetry: Telemetry,
    /// Fires on a clock jump: deadlines may have passed while timers stood still (R9).
    pub(crate) jumped: watch::Sender<()>,
    pub(crate) closing: CancellationToken,
    known: Mutex<BTreeMap<LockKey, Known>>,
    report: Mutex<Vec<(String, ReleaseOutcome)>>,
}

/// What this client knows of one key, across acquisitions (R12).
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) observation: Observation,
    /// The text of the record found decides how durations are written back.
    text: Option<DurationText>,
}

impl Context {
    pub(crate) fn new(store: Store, clock: Clock, entropy: Entropy, settings: Settings, telemetry: Telemetry) -> Self {
        Self {
            store,
            clock,
            entropy,
            settings,
            telemetry,
            jumped: watch::Sender::new(()),
            closing: CancellationToken::new(),
            known: Mutex::default(),
            report: Mutex::default(),
        }
    }

    /// Runs `look` on what is known of `key`.
    pub(crate) fn with_known<T>(&self, key: &LockKey, look: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains_key(key) {
            known.insert(key.clone(), Known::default());
        }
        look(known.entry(key.clone()).or_default())
    }

    pub(crate) fn duration_text(&self, key: &LockKey) -> DurationText {
        self.with_known(key, |known| known.text).unwrap_or(self.settings.duration_text)
    }

    /// Takes in an answer of the store and tells the watcher what it meant.
    pub(crate) fn observe(
        &self,
        key: &LockKey,
        found: &Found,
        sent: SentAt,
        now: Moment,
        by: Consistency,
        watcher: &dyn Watcher,
    ) -> Noted {
        let noted = self.with_known(key, |known| {
            if let Found::Record(record) = found {
                known.text = Some(record.duration_text());
            }
            known.observation.observe(found.seen(), sent, ReceivedAt(now), by)
        });
        watcher.note(Note::Contact);
        if noted != Noted::Stale {
            watcher.note(Note::Observed { found, noted });
        }
        noted
    }

    pub(crate) fn observe_seen(&self, key: &LockKey, seen: Seen, sent: SentAt, received: ReceivedAt) {
        self.with_known(key, |known| known.observation.observe(seen, sent, received, Consistency::Strong));
    }

    /// What a shutdown reports of a lock.
    pub(crate) fn report(&self, key: &LockKey, outcome: ReleaseOutcome) {
        if self.closing.is_cancelled() {
            self.report.lock().unwrap_or_else(PoisonError::into_inner).push((key.to_string(), outcome));
        }
    }

    pub(crate) fn take_report(&self) -> Vec<(String, ReleaseOutcome)> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What happens to a key, told on the keeper as it happens. Implementations must not block (R10).
pub(crate) trait Watcher: Send + Sync {
    fn note(&self, note: Note<'_>);
}

/// One thing that happened.
pub(crate) enum Note<'a> {
    /// The store answered.
    Contact,
    /// What the record is now.
    Observed { found: &'a Found, noted: Noted },
    /// The record is one that is never taken over (R14), or is no longer one.
    Obstacle(Option<&'a Error>),
    /// A request failed. Its effect is unknown.
    Failed { error: &'a Error, renewal: bool },
    /// Too many unknown writes: one read had to settle them (R3).
    ForcedRead,
    /// A write whose reply was lost turned out to have been applied.
    Ambiguous { resolved: &'static str },
    /// How a claim ended.
    Claimed { outcome: &'static str },
    /// The lease is held.
    Acquired { cell: &'a Arc<LeaseCell> },
    /// A heartbeat came through.
    Renewed { took: Duration, margin: Duration },
    /// Its holder must stop: the token has fired.
    Ended { cell: &'a Arc<LeaseCell>, reason: EndReason },
    /// The release is over.
    Released { outcome: ReleaseOutcome },
}

/// For plain locks, that nobody watches.
pub(crate) struct Unwatched;

impl Watcher for Unwatched {
    fn note(&self, _: Note<'_>) {}
}
