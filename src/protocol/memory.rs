//! Which writes of one acquisition may be in the record, acknowledged or not (R3, R4).

use super::holder::Terms;
use super::message::{MAX_NAMES, Names, SentAt, Version};
use super::mutant;

/// How many unacknowledged versions are remembered. More than a term's retries can make; only a claim
/// that fails for hours gets here, and forgetting one can cost it a wait, never safety.
const MAX_MEMORY: usize = 64;

/// One logical write since the last acknowledged one. It may have been applied, or still be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub(super) version: Version,
    pub(super) sent: SentAt,
    /// What it promises: the lease may change from one write to the next (R1).
    pub(super) terms: Terms,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Memory {
    /// The version known to be current, or the one to be taken over; `None`: the record is to be created.
    base: Option<Version>,
    /// Writes after `base`, oldest first. Forgotten only when a *later* write is acknowledged: from
    /// then on none of them can be applied any more, because none names the new version.
    attempts: Vec<Attempt>,
    /// How many of them no read has looked for yet.
    unresolved: usize,
}

impl Memory {
    pub(super) fn new(base: Option<Version>) -> Self {
        Self { base, attempts: Vec::new(), unresolved: 0 }
    }

    pub(super) fn base(&self) -> Option<&Version> {
        self.base.as_ref()
    }

    pub(super) fn has_attempts(&self) -> bool {
        !self.attempts.is_empty()
    }

    /// Another write could not name all that may be current, and the base and itself: read first.
    pub(super) fn is_full(&self) -> bool {
        self.unresolved >= MAX_NAMES - 1
    }

    /// Remembers a write that is being sent, and says what its condition names (R3): the base, the
    /// latest writes that may have been applied, and itself, so that an applied write whose reply was
    /// lost is recognised and a repeated one is harmless.
    pub(super) fn begin(&mut self, version: &Version, sent: SentAt, terms: Terms) -> Names {
        let mut names = Names::new();
        names.extend(self.base.clone());
        if !mutant::on(mutant::Mutant::StrictCondition) {
            let room = MAX_NAMES - 1 - names.len();
            let skip = self.attempts.len().saturating_sub(room);
            names.extend(self.attempts[skip..].iter().map(|attempt| attempt.version.clone()));
        }
        if !mutant::on(mutant::Mutant::StrictRule) {
            names.push(version.clone());
        }
        if self.attempts.len() == MAX_MEMORY {
            self.attempts.remove(0);
        }
        self.attempts.push(Attempt { version: version.clone(), sent, terms });
        self.unresolved += 1;
        names
    }

    /// R4: the write of this very acquisition that installed `version`, if one did.
    pub(super) fn find(&self, version: &Version) -> Option<usize> {
        self.attempts.iter().position(|attempt| attempt.version == *version)
    }

    pub(super) fn latest(&self) -> Option<usize> {
        self.attempts.len().checked_sub(1)
    }

    /// The write at `index` is, or was, the record's current version.
    pub(super) fn settle(&mut self, index: usize) -> Option<Attempt> {
        if index >= self.attempts.len() {
            return None;
        }
        // Later ones may still be applied. Earlier ones can't be: they don't name this one.
        let current = self.attempts.drain(..=index).next_back()?;
        self.base = Some(current.version.clone());
        self.unresolved = 0;
        Some(current)
    }

    /// The writes that may still be applied.
    pub(super) fn open(&self) -> &[Attempt] {
        &self.attempts
    }

    /// A read showed the base: none of the writes has been applied so far.
    pub(super) fn base_stands(&mut self) {
        self.unresolved = 0;
    }
}
