//! Which locks a client holds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::cell::LeaseCell;
use super::handle::Shared;
use crate::store::Key;

/// A lock that this client holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldLock {
    /// Its key.
    pub key: Key,
    /// How long it stays valid if no further heartbeat comes through.
    pub remaining: Duration,
    /// How long it has been held.
    pub held_for: Duration,
    /// Whether the last heartbeat did not come through.
    pub is_at_risk: bool,
}

#[derive(Debug)]
struct Entry {
    cell: Arc<LeaseCell>,
    /// For those who may acquire it once more; dangling for leaderships, which are unique.
    shared: Weak<Shared>,
}

/// All acquisitions of a client whose release is not over. More than one of a key is possible: an
/// older one may still be winding down.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    entries: Mutex<BTreeMap<Key, Vec<Entry>>>,
}

impl Registry {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<Key, Vec<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, key: &Key, cell: &Arc<LeaseCell>, shared: Weak<Shared>) {
        self.entries().entry(key.clone()).or_default().push(Entry { cell: Arc::clone(cell), shared });
    }

    pub(super) fn remove(&self, key: &Key, cell: &Arc<LeaseCell>) {
        let mut entries = self.entries();
        if let Some(of_key) = entries.get_mut(key) {
            of_key.retain(|entry| !Arc::ptr_eq(&entry.cell, cell));
            if of_key.is_empty() {
                entries.remove(key);
            }
        }
    }

    /// Another handle of the lock on `key`, if it is held and not about to be given up.
    pub(super) fn reenter(&self, key: &Key) -> Option<Arc<Shared>> {
        let entries = self.entries();
        let held = entries.get(key)?.iter().find(|entry| is_held(&entry.cell))?;
        held.shared.upgrade()
    }

    pub(super) fn holds(&self, key: &Key) -> bool {
        self.entries().get(key).is_some_and(|of_key| of_key.iter().any(|entry| is_held(&entry.cell)))
    }

    pub(super) fn list(&self) -> Vec<HeldLock> {
        let entries = self.entries();
        let all = entries.iter().flat_map(|(key, of_key)| of_key.iter().map(move |entry| (key, &entry.cell)));
        all.filter(|(_, cell)| is_held(cell))
            .map(|(key, cell)| HeldLock {
                key: key.clone(),
                remaining: cell.remaining(),
                held_for: cell.held_for(),
                is_at_risk: cell.is_at_risk(),
            })
            .collect()
    }
}

fn is_held(cell: &LeaseCell) -> bool {
    cell.lasts(Duration::ZERO)
}
