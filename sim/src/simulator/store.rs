//! The store: one record, linearizable conditional writes, reads that may show the past.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::protocol::{
    Consistency, Moment, Mutant, Plan, Reply, Seen, Sighting, Version, Write, WriteKind, Writer, on,
};
use crate::record;

/// One acquisition of one node, from claim to release.
pub(crate) type Acquisition = u64;

/// How many past states an eventually consistent read may show.
pub(crate) const HISTORY: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) record: Option<Sighting>,
    /// Something that no client can read has taken its place.
    pub(crate) malformed: bool,
    pub(crate) author: Option<Acquisition>,
    /// The author's clock when it wrote: only a client that compares wall clocks would look at it.
    pub(crate) stamp: Moment,
    past: VecDeque<Option<Sighting>>,
    overwritten: FxHashSet<Version>,
    authors: FxHashMap<Version, (Acquisition, usize)>,
    deletes: bool,
    /// Records may vanish: versions may come back then.
    forgets: bool,
}

impl Store {
    pub(crate) fn new(deletes: bool, forgets: bool) -> Self {
        Self { deletes, forgets, ..Self::default() }
    }

    pub(crate) fn author_of(&self, version: &Version) -> Option<Acquisition> {
        self.authors.get(version).map(|(acquisition, _)| *acquisition)
    }

    /// Which node wrote the version.
    fn owner_of(&self, version: &Version) -> Option<usize> {
        self.authors.get(version).map(|(_, node)| *node)
    }

    pub(crate) fn register(&mut self, version: &Version, author: Acquisition, node: usize) {
        self.authors.insert(version.clone(), (author, node));
    }

    fn now(&self) -> Seen {
        if self.malformed { Seen::Malformed } else { record::seen(self.record.as_ref()) }
    }

    /// An eventually consistent read shows the state `back` writes ago; 0 is the present.
    pub(crate) fn read(&self, consistency: Consistency, back: usize) -> Seen {
        let past = back.checked_sub(1).and_then(|index| self.past.iter().rev().nth(index));
        match (consistency, past) {
            (Consistency::Eventual, Some(past)) => record::seen(past.as_ref()),
            (Consistency::Eventual | Consistency::Strong, _) => self.now(),
        }
    }

    fn condition_holds(&self, write: &Write) -> bool {
        let record = self.record.as_ref();
        match write.kind {
            WriteKind::Renew if on(Mutant::UnconditionalRenew) => record.is_some(),
            WriteKind::Renew if on(Mutant::OwnerOnlyRenew) => record.is_some_and(|record| {
                !record.released && self.owner_of(&record.version) == self.owner_of(&write.version)
            }),
            // What can't be read has no version that could be named, and is not absent.
            _ => !self.malformed && record::holds(write, record),
        }
    }

    /// Applies a write of ours, or refuses it with the record as it is. `Err`: a version came back (I3).
    pub(crate) fn write(&mut self, write: &Write) -> Result<Reply, String> {
        if !self.condition_holds(write) {
            return Ok(Reply::Refused(self.now()));
        }
        let next = match write.kind {
            WriteKind::Release if self.deletes => None,
            _ => Some(record::after(write, self.record.as_ref())),
        };
        self.replace(next)?;
        Ok(Reply::Applied)
    }

    /// A client of another make: strict condition, no marker, no token.
    pub(crate) fn foreign_put(
        &mut self,
        base: Option<&Version>,
        version: Version,
        lease: Duration,
    ) -> Result<bool, String> {
        if self.malformed || self.record.as_ref().map(|record| &record.version) != base {
            return Ok(false);
        }
        let token = self.record.as_ref().and_then(|record| record.token);
        self.replace(Some(Sighting {
            version,
            lease,
            released: false,
            writer: Writer::Foreign,
            token,
            plan: Plan::default(),
        }))?;
        Ok(true)
    }

    /// Marks the record released and leaves its version, as those clients do.
    pub(crate) fn foreign_release(&mut self, base: &Version) {
        if let Some(record) = self.record.as_mut().filter(|record| record.version == *base) {
            record.released = true;
        }
    }

    /// Deletes the record, as those clients do where that is their setting.
    pub(crate) fn foreign_delete(&mut self, base: &Version) -> Result<bool, String> {
        let holds = self.record.as_ref().is_some_and(|record| record.version == *base);
        if holds {
            self.replace(None)?;
        }
        Ok(holds)
    }

    /// An operator deletes the record.
    pub(crate) fn erase(&mut self) -> Result<(), String> {
        self.malformed = false;
        self.replace(None)
    }

    /// An operator brings back the state of so many changes ago.
    pub(crate) fn restore(&mut self, back: usize) -> Result<(), String> {
        self.malformed = false;
        let past = self.past.iter().rev().nth(back).cloned().flatten();
        self.replace(past)
    }

    /// Somebody writes what this protocol would not.
    pub(crate) fn forge(&mut self, sighting: Sighting) -> Result<(), String> {
        self.malformed = false;
        self.replace(Some(sighting))
    }

    fn replace(&mut self, next: Option<Sighting>) -> Result<(), String> {
        let changes = self.record.as_ref().map(|record| &record.version) != next.as_ref().map(|next| &next.version);
        if let Some(next) = &next {
            if changes && !self.forgets && self.overwritten.contains(&next.version) {
                return Err(format!("I3: version {:?} came back", next.version));
            }
            self.author = self.author_of(&next.version);
        }
        if self.past.len() == HISTORY {
            self.past.pop_front();
        }
        if let Some(old) = self.record.as_ref().filter(|_| changes) {
            self.overwritten.insert(old.version.clone());
        }
        self.past.push_back(std::mem::replace(&mut self.record, next));
        Ok(())
    }
}
