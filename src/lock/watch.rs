//! What plain locks tell: one event a change of state, and metrics over all of them.

use std::sync::atomic::{AtomicBool, Ordering};

use super::context::{Note, Watcher};
use crate::error::Error;
use crate::store::Key;
use crate::telemetry::{Event, LockEvent, Name, Telemetry};

/// Watches one acquisition of a plain lock. (A board watches an election.)
pub(super) struct LockWatch {
    key: Name,
    telemetry: Telemetry,
    /// Whether the latest request failed: only the first failure of several is a warning.
    failing: AtomicBool,
}

impl LockWatch {
    pub(super) fn new(key: &Key, telemetry: Telemetry) -> Self {
        Self { key: key.to_string().into(), telemetry, failing: AtomicBool::new(false) }
    }

    fn tell(&self, what: LockEvent) {
        self.telemetry.send(Event::Lock { key: Name::clone(&self.key), what });
    }

    fn failed(&self, error: &Error, renewal: bool) {
        let first = !self.failing.swap(true, Ordering::Relaxed);
        self.tell(LockEvent::Failed { kind: error.kind(), why: error.to_string(), renewal, first });
    }
}

impl Watcher for LockWatch {
    fn note(&self, note: Note<'_>) {
        match note {
            Note::Contact => {
                if self.failing.swap(false, Ordering::Relaxed) {
                    self.tell(LockEvent::Recovered);
                }
            }
            Note::Acquired(acquired) => self.tell(LockEvent::Acquired { token: acquired.cell.token() }),
            Note::Ended { cell, reason } => self.tell(LockEvent::Ended { reason, held: cell.held_for() }),
            Note::Released { outcome } => self.tell(LockEvent::Released { outcome }),
            Note::Failed { error, renewal } => self.failed(error, renewal),
            Note::Obstacle(Some(error)) => self.failed(error, false),
            Note::Observed { .. }
            | Note::Obstacle(None)
            | Note::Expired
            | Note::Stuck
            | Note::Closed
            | Note::ForcedRead
            | Note::Ambiguous { .. }
            | Note::Claimed { .. }
            | Note::Renewed { .. } => {}
        }
    }
}
