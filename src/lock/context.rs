//! What all tasks of one client share on the keeper, and what they tell to whoever watches.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::types::builders::ConditionCheckBuilder;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::cell::LeaseCell;
use super::entropy::Entropy;
use super::fencing::Fencing;
use super::handle::Control;
use super::held::Registry;
use crate::clock::Clock;
use crate::ending::{EndReason, ReleaseOutcome};
use crate::error::Error;
use crate::protocol::{
    Absence, Consistency, Moment, Noted, Observation, ReceivedAt, Renewal, Seen, SentAt, Terms, lease_to_wait,
};
use crate::store::{DurationText, Found, Key, LockRecord, Store};
use crate::telemetry::Telemetry;
use crate::timing::Timing;

/// Settings of a client that its tasks need.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) owner: String,
    pub(crate) timing: Timing,
    pub(crate) duration_text: DurationText,
    pub(crate) fencing: Fencing,
    pub(crate) delete_on_release: bool,
    pub(crate) renewal: Renewal,
}

impl Settings {
    /// What a holder promises under `timing`: the client's, or that of a lock whose lease was changed.
    pub(crate) fn terms(&self, timing: Timing) -> Terms {
        Terms {
            lease: timing.lease(),
            validity: timing.validity(),
            heartbeat: timing.heartbeat(),
            renewal: self.renewal,
            hard_limit: timing.hard_limit(),
        }
    }

    /// Records that may be deleted are free when they are absent; a record that keeps tokens has vanished (R6).
    pub(crate) fn absence(&self) -> Absence {
        match self.fencing {
            Fencing::Off => Absence::Free,
            Fencing::Record | Fencing::FenceRecord => Absence::WaitsOutLease,
        }
    }
}

/// How many keys a client remembers that nobody follows at the moment. Forgetting one costs a read, and
/// a lease where its holder is dead: the same as for a process that has just started.
const MAX_REMEMBERED: usize = 16_384;

/// Shared by all tasks of the keeper. No lock in it is held across an await.
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    pub(crate) settings: Settings,
    pub(crate) telemetry: Telemetry,
    /// When the keeper looked at its clock last.
    progress: AtomicU64,
    /// Fires on a clock jump: deadlines may have passed while timers stood still (R9).
    pub(crate) jumped: watch::Sender<()>,
    pub(crate) closing: CancellationToken,
    pub(crate) held: Registry,
    known: Mutex<BTreeMap<Key, Known>>,
    report: Mutex<Vec<(Key, ReleaseOutcome)>>,
}

/// What this client knows of one key, across acquisitions (R12).
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) observation: Observation,
    /// The text of the record found decides how durations are written back.
    text: Option<DurationText>,
    /// Campaigns that follow it.
    followers: usize,
    touched: Moment,
}

/// Keeps a key from being forgotten while a campaign follows it.
pub(super) struct Following {
    context: Arc<Context>,
    key: Key,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.context.with_known(&self.key, |known| known.followers = known.followers.saturating_sub(1));
    }
}

impl Context {
    pub(crate) fn new(store: Store, clock: Clock, entropy: Entropy, settings: Settings, telemetry: Telemetry) -> Self {
        Self {
            progress: AtomicU64::new(clock.now().nanos()),
            store,
            clock,
            entropy,
            settings,
            telemetry,
            jumped: watch::Sender::new(()),
            closing: CancellationToken::new(),
            held: Registry::default(),
            known: Mutex::default(),
            report: Mutex::default(),
        }
    }

    pub(super) fn note_progress(&self) {
        self.progress.store(self.clock.now().nanos(), Ordering::Release);
    }

    pub(super) fn progressed_within(&self, time: Duration) -> bool {
        self.clock.now().since(Moment::from_nanos(self.progress.load(Ordering::Acquire))) < time
    }

    /// Runs `look` on what is known of `key`.
    pub(crate) fn with_known<T>(&self, key: &Key, look: impl FnOnce(&mut Known) -> T) -> T {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(key) {
            if all.len() >= MAX_REMEMBERED {
                forget(&mut all);
            }
            all.insert(key.clone(), Known::default());
        }
        let known = all.entry(key.clone()).or_default();
        known.touched = self.clock.now();
        look(known)
    }

    pub(super) fn follow(self: &Arc<Self>, key: &Key) -> Following {
        self.with_known(key, |known| known.followers += 1);
        Following { context: Arc::clone(self), key: key.clone() }
    }

    /// Adds to a record what is known of it, without beginning to follow it.
    pub(crate) fn annotate(&self, record: &mut LockRecord) {
        let all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let sighting = record.sighting();
        let since = all.get(record.key()).and_then(|known| known.observation.known_since(&sighting.version));
        let unchanged = since.map_or(Duration::ZERO, |since| self.clock.now().since(since));
        record.set_known(unchanged, lease_to_wait(&sighting));
    }

    pub(crate) fn duration_text(&self, key: &Key) -> DurationText {
        self.with_known(key, |known| known.text).unwrap_or(self.settings.duration_text)
    }

    /// Takes in an answer of the store and tells the watcher what it meant.
    pub(crate) fn observe(
        &self,
        key: &Key,
        found: &Found,
        sent: SentAt,
        now: Moment,
        by: Consistency,
        watcher: &dyn Watcher,
    ) -> Noted {
        let (noted, held_until) = self.with_known(key, |known| {
            if let Found::Record(record) = found {
                known.text = Some(record.duration_text());
            }
            let noted = known.observation.observe(found.seen(), sent, ReceivedAt(now), by);
            (noted, known.observation.held_until())
        });
        watcher.note(Note::Contact);
        if noted != Noted::Stale {
            watcher.note(Note::Observed { found, noted, held_until });
        }
        noted
    }

    pub(crate) fn observe_seen(&self, key: &Key, seen: Seen, sent: SentAt, received: ReceivedAt) {
        self.with_known(key, |known| known.observation.observe(seen, sent, received, Consistency::Strong));
    }

    /// What a shutdown reports of a lock that it ended: its place in the report, `None` if there is no shutdown.
    pub(crate) fn report(&self, key: &Key, outcome: ReleaseOutcome) -> Option<usize> {
        self.closing.is_cancelled().then(|| {
            let mut report = self.lock_report();
            report.push((key.clone(), outcome));
            report.len() - 1
        })
    }

    /// Replaces what was reported at `place`.
    pub(crate) fn amend(&self, place: usize, outcome: ReleaseOutcome) {
        if let Some((_, reported)) = self.lock_report().get_mut(place) {
            *reported = outcome;
        }
    }

    pub(crate) fn reported(&self) -> Vec<(Key, ReleaseOutcome)> {
        self.lock_report().clone()
    }

    fn lock_report(&self) -> MutexGuard<'_, Vec<(Key, ReleaseOutcome)>> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the half that was looked at longest ago, of what nobody follows.
fn forget(all: &mut BTreeMap<Key, Known>) {
    let mut idle: Vec<Moment> = all.values().filter(|known| known.followers == 0).map(|known| known.touched).collect();
    idle.sort_unstable();
    if let Some(middle) = idle.get(idle.len() / 2).copied() {
        all.retain(|_, known| known.followers > 0 || known.touched > middle);
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
    /// `held_until`: when its lease is over if it does not change, `None` if it is free.
    Observed { found: &'a Found, noted: Noted, held_until: Option<Moment> },
    /// The lease of the record that was observed last is over.
    Expired,
    /// The client was shut down while somebody followed the record.
    Closed,
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
    Acquired(Acquired<'a>),
    /// A heartbeat came through.
    Renewed { took: Duration, margin: Duration },
    /// Its holder must stop: the token has fired.
    Ended { cell: &'a Arc<LeaseCell>, reason: EndReason },
    /// The release is over.
    Released { outcome: ReleaseOutcome },
    /// Work did not stop at its bound; the process is about to be ended.
    Stuck,
}

/// What is known of a lease that was acquired. Nothing of it keeps the lock held.
pub(crate) struct Acquired<'a> {
    pub(crate) cell: &'a Arc<LeaseCell>,
    pub(crate) control: mpsc::WeakUnboundedSender<Control>,
    /// The check of its number, where there is a fence record.
    pub(crate) fence_check: Option<ConditionCheckBuilder>,
    /// By the wall clock, for people.
    pub(crate) acquired_at: &'a str,
}

/// For plain locks, that nobody watches.
pub(crate) struct Unwatched;

impl Watcher for Unwatched {
    fn note(&self, _: Note<'_>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_follows_is_forgotten_oldest_first() {
        let known = |touched, followers| Known { touched: Moment::from_nanos(touched), followers, ..Known::default() };
        let mut all: BTreeMap<Key, Known> = (1..=100_u64).map(|n| (Key::new(format!("k{n}")), known(n, 0))).collect();
        all.insert(Key::new("followed"), known(0, 1));
        forget(&mut all);
        assert!(all.contains_key(&Key::new("followed")), "whoever waits for it still counts");
        assert!(all.contains_key(&Key::new("k100")) && !all.contains_key(&Key::new("k1")));
        assert!((40..=60).contains(&all.len()), "{}", all.len());
        let mut busy: BTreeMap<Key, Known> = (0..10_u64).map(|n| (Key::new(format!("k{n}")), known(n, 1))).collect();
        forget(&mut busy);
        assert_eq!(busy.len(), 10);
    }
}
