//! What is so now. Gauges follow it rather than the events: one that was dropped must not leave a gauge wrong for good.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Event, LockEvent, Name};

/// Written where events are sent, read by the herald. Its lock is held for a look-up, never while user code runs.
#[derive(Debug, Default)]
pub(super) struct Standing {
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    elections: BTreeMap<Name, Election>,
    locks_held: u32,
}

/// All candidates of one client in one election, which are hardly ever several.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Election {
    candidates: u32,
    pub(super) leading: u32,
    pub(super) paused: bool,
}

impl Standing {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in an event that is about to be sent.
    pub(super) fn note(&self, event: &Event) {
        match event {
            Event::Registered { name } => self.change(name, |election| election.candidates += 1),
            Event::Elected { name, .. } => self.change(name, |election| election.leading += 1),
            Event::Ended { name, .. } => {
                self.change(name, |election| election.leading = election.leading.saturating_sub(1));
            }
            Event::Paused { name, paused } => self.change(name, |election| election.paused = *paused),
            Event::Stopped { name } => self.change(name, |election| election.paused = false),
            Event::Gone { name } => self.change(name, |election| {
                election.candidates = election.candidates.saturating_sub(1);
            }),
            Event::Lock { what: LockEvent::Acquired { .. }, .. } => self.now().locks_held += 1,
            Event::Lock { what: LockEvent::Ended { .. }, .. } => {
                let mut now = self.now();
                now.locks_held = now.locks_held.saturating_sub(1);
            }
            _ => {}
        }
    }

    fn change(&self, name: &Name, change: impl FnOnce(&mut Election)) {
        let mut now = self.now();
        if !now.elections.contains_key(name) {
            now.elections.insert(Name::clone(name), Election::default());
        }
        if let Some(election) = now.elections.get_mut(name) {
            change(election);
            // The last candidate is gone: a service that builds one after the other must not remember them all.
            if election.candidates == 0 && election.leading == 0 {
                now.elections.remove(name);
            }
        }
    }

    /// `None`: this client has no candidate in it any more.
    pub(super) fn election(&self, name: &Name) -> Option<Election> {
        self.now().elections.get(name).copied()
    }

    pub(super) fn names(&self) -> Vec<Name> {
        self.now().elections.keys().cloned().collect()
    }

    pub(super) fn locks_held(&self) -> u32 {
        self.now().locks_held
    }
}
