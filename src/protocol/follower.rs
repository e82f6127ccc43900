//! The follower's side: what is known of a record, and when it may be claimed.

use std::collections::VecDeque;
use std::time::Duration;

use super::message::{Consistency, FirstSeen, Moment, ReceivedAt, Seen, SentAt, Sighting, Version, Writer};
use super::mutant;

/// How many versions before the latest are remembered, to recognise a read from the past.
const MAX_OLDER: usize = 16;

/// Everything one client knows of one record. Lives as long as the client, shared by all its
/// acquisitions of that key (R12), so that a try that does not wait can take over a dead lock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Observation {
    latest: Option<Latest>,
    older: VecDeque<Version>,
    token_floor: u64,
    /// Something contradicted what is known; the next read must not show the past.
    doubtful: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Latest {
    /// `not_before`: the end of the lease that was seen held before the record vanished (R6).
    Absent {
        not_before: Moment,
    },
    /// `not_before`: as for an absent record, should somebody delete it. Its holder may still renew it.
    Malformed {
        not_before: Moment,
    },
    Record {
        sighting: Sighting,
        first_seen: FirstSeen,
    },
}

/// What an observation made of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    /// Nothing new.
    Same,
    /// Somebody wrote, released, removed or damaged the record.
    Changed,
    /// An answer from the past, or one to be confirmed first. Nothing was changed by it.
    Stale,
    /// Confirmed: the record's token is lower than one already seen (R6).
    TokenRegressed {
        /// The highest token seen before.
        floor: u64,
        /// What the record says now.
        found: u64,
    },
}

/// What an absent record means to whoever wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Absence {
    /// Records are deleted on release: absent is free.
    Free,
    /// Records are never deleted: wait out the lease that was seen (R6).
    WaitsOutLease,
}

/// Why a record is not taken over, however long it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Obstacle {
    Malformed,
    NewerFormat,
}

/// Whether the record can be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Never read.
    Unknown,
    /// Now, by a write on this version, or by creating the record.
    Free {
        base: Option<Version>,
    },
    /// Not before this moment.
    HeldUntil(Moment),
    Blocked(Obstacle),
}

impl Observation {
    /// Takes in what an answer showed. The old record of a refused write, and what a write of our
    /// own installed, are strongly consistent answers.
    pub(crate) fn observe(&mut self, seen: Seen, sent: SentAt, received: ReceivedAt, by: Consistency) -> Noted {
        let received = if mutant::on(mutant::Mutant::FirstSeenFromSend) { ReceivedAt(sent.0) } else { received };
        // A strong answer is as old as its request: one sent before the latest was seen proves nothing about now.
        let settles = by == Consistency::Strong && self.latest_seen_at().is_none_or(|at| sent.0 >= at);
        match seen {
            Seen::Absent => self.observe_absent(settles),
            Seen::Malformed => self.replace(Latest::Malformed { not_before: self.lease_end() }),
            Seen::Record(sighting) => self.observe_record(sighting, received, settles),
        }
    }

    fn latest_seen_at(&self) -> Option<Moment> {
        match &self.latest {
            Some(Latest::Record { first_seen, .. }) => Some(first_seen.moment()),
            Some(Latest::Absent { .. } | Latest::Malformed { .. }) | None => None,
        }
    }

    /// The end of the lease that was seen held last, as far as it is known.
    fn lease_end(&self) -> Moment {
        match &self.latest {
            Some(Latest::Record { sighting, first_seen }) if !sighting.released => {
                first_seen.moment().after(lease_to_wait(sighting))
            }
            Some(Latest::Absent { not_before } | Latest::Malformed { not_before }) => *not_before,
            Some(Latest::Record { .. }) | None => Moment::default(),
        }
    }

    fn observe_absent(&mut self, settles: bool) -> Noted {
        match &self.latest {
            // The record may be younger than what an eventually consistent read shows.
            Some(Latest::Record { .. }) if !settles => self.doubt(),
            Some(Latest::Absent { .. }) => Noted::Same,
            // A client of another make releases by deleting, often by default: nobody is left to be
            // waited for. Ours delete nothing where absence means anything, so it was an accident (R6).
            Some(Latest::Record { sighting, .. }) if sighting.writer == Writer::Foreign => {
                self.replace(Latest::Absent { not_before: Moment::default() })
            }
            Some(Latest::Record { .. } | Latest::Malformed { .. }) | None => {
                self.replace(Latest::Absent { not_before: self.lease_end() })
            }
        }
    }

    fn observe_record(&mut self, sighting: Sighting, received: ReceivedAt, settles: bool) -> Noted {
        if let Some(Latest::Record { sighting: known, first_seen }) = &mut self.latest
            && known.version == sighting.version
        {
            // Same version: R2's timer runs on. Foreign clients and operators release without a new version.
            if *known == sighting {
                self.doubtful = false;
                return Noted::Same;
            }
            if known.released && !sighting.released && !settles {
                return self.doubt();
            }
            let first_seen = *first_seen;
            return self.replace(Latest::Record { sighting, first_seen });
        }
        let regressed = believed_token(&sighting).filter(|found| *found < self.token_floor);
        // Versions never recur and tokens never fall: such an answer comes from the past, unless a
        // strong one says that somebody restored the record. Then it is waited for anew, in full.
        let from_the_past = regressed.is_some() || self.older.contains(&sighting.version);
        if from_the_past && !settles {
            return self.doubt();
        }
        let floor = self.token_floor;
        self.token_floor = floor.max(kept_token(&sighting).unwrap_or(0));
        let first_seen = match &self.latest {
            Some(Latest::Record { first_seen, .. }) if mutant::on(mutant::Mutant::TimerNotReset) => *first_seen,
            _ => FirstSeen::at_response(received),
        };
        let noted = self.replace(Latest::Record { sighting, first_seen });
        regressed.map_or(noted, |found| Noted::TokenRegressed { floor, found })
    }

    fn doubt(&mut self) -> Noted {
        self.doubtful = true;
        Noted::Stale
    }

    fn replace(&mut self, latest: Latest) -> Noted {
        self.doubtful = false;
        let before = self.latest.replace(latest);
        let now = self.latest.as_ref();
        if let Some(Latest::Record { sighting, .. }) = &before
            && !matches!(now, Some(Latest::Record { sighting: new, .. }) if new.version == sighting.version)
        {
            if self.older.len() == MAX_OLDER {
                self.older.pop_front();
            }
            self.older.push_back(sighting.version.clone());
        }
        if before.as_ref() == now { Noted::Same } else { Noted::Changed }
    }

    /// Whether the record can be claimed at `now`.
    pub(crate) fn verdict(&self, now: Moment, absence: Absence, own_lease: Duration) -> Verdict {
        match &self.latest {
            None => Verdict::Unknown,
            Some(Latest::Malformed { .. }) => Verdict::Blocked(Obstacle::Malformed),
            Some(Latest::Absent { not_before }) if absence == Absence::WaitsOutLease && now < *not_before => {
                Verdict::HeldUntil(*not_before)
            }
            Some(Latest::Absent { .. }) => Verdict::Free { base: None },
            // R14: what a newer format means by its attributes is not known here.
            Some(Latest::Record { sighting, .. })
                if sighting.writer == Writer::Newer && !mutant::on(mutant::Mutant::NewerTakenOver) =>
            {
                Verdict::Blocked(Obstacle::NewerFormat)
            }
            Some(Latest::Record { sighting, first_seen }) => {
                let wait = if mutant::on(mutant::Mutant::OwnLease) { own_lease } else { lease_to_wait(sighting) };
                let expires = first_seen.moment().after(wait);
                if sighting.released || now >= expires {
                    Verdict::Free { base: Some(sighting.version.clone()) }
                } else {
                    Verdict::HeldUntil(expires)
                }
            }
        }
    }

    /// Whether the next token will be above every one before it, as far as the record goes that is to be taken over: it
    /// was written by this crate last, which keeps a number there, or there is none yet (R6).
    ///
    /// A client of another make loses the number or brings an old one back. A record without one was, some terms ago,
    /// taken over from such a client.
    pub(crate) fn vouches_for(&self, base: Option<&Version>) -> bool {
        match (base, &self.latest) {
            (None, _) => true,
            (Some(base), Some(Latest::Record { sighting, .. })) => {
                sighting.version == *base && sighting.writer == Writer::Ours && sighting.token.is_some()
            }
            (Some(_), Some(Latest::Absent { .. } | Latest::Malformed { .. }) | None) => false,
        }
    }

    /// When the lease of the record that was seen last is over, if it was held.
    pub(crate) fn held_until(&self) -> Option<Moment> {
        match &self.latest {
            Some(Latest::Record { sighting, .. }) if !sighting.released => Some(self.lease_end()),
            Some(Latest::Record { .. } | Latest::Absent { .. } | Latest::Malformed { .. }) | None => None,
        }
    }

    /// Something contradicted what is known: the next read must not show the past.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// The version that is known last.
    pub(crate) fn version(&self) -> Option<&Version> {
        match &self.latest {
            Some(Latest::Record { sighting, .. }) => Some(&sighting.version),
            Some(Latest::Absent { .. } | Latest::Malformed { .. }) | None => None,
        }
    }

    /// The record, if one of ours holds it, and since when this version of it is known.
    pub(super) fn held(&self) -> Option<(&Sighting, Moment)> {
        match &self.latest {
            Some(Latest::Record { sighting, first_seen }) if !sighting.released && sighting.writer == Writer::Ours => {
                Some((sighting, first_seen.moment()))
            }
            Some(Latest::Record { .. } | Latest::Absent { .. } | Latest::Malformed { .. }) | None => None,
        }
    }

    /// Since when this very version is known, if it is.
    pub(crate) fn known_since(&self, version: &Version) -> Option<Moment> {
        match &self.latest {
            Some(Latest::Record { sighting, first_seen }) if sighting.version == *version => Some(first_seen.moment()),
            Some(Latest::Record { .. } | Latest::Absent { .. } | Latest::Malformed { .. }) | None => None,
        }
    }

    /// The token of the next acquisition: above everything seen here and observed anywhere (R6).
    pub(crate) fn next_token(&self) -> u64 {
        let raise = u64::from(!mutant::on(mutant::Mutant::TokenNotRaised));
        self.token_floor.saturating_add(raise)
    }
}

/// R2: the record's own lease, never the local setting. R14: a quarter more where the holder keeps
/// no margin of its own.
pub(crate) fn lease_to_wait(sighting: &Sighting) -> Duration {
    match sighting.writer {
        Writer::Foreign if !mutant::on(mutant::Mutant::ForeignWithoutMargin) => {
            sighting.lease.saturating_add(sighting.lease / 4)
        }
        Writer::Ours | Writer::Foreign | Writer::Newer => sighting.lease,
    }
}

fn believed_token(sighting: &Sighting) -> Option<u64> {
    match sighting.writer {
        Writer::Ours => sighting.token,
        Writer::Foreign | Writer::Newer => None,
    }
}

/// R6: whoever wrote last, the number in the record was somebody's, so the next one must be above it. It is no more
/// than a floor: dynamolock keeps attributes that it does not know, but may bring back those of an earlier look.
fn kept_token(sighting: &Sighting) -> Option<u64> {
    let forgotten = sighting.writer == Writer::Foreign && mutant::on(mutant::Mutant::ForeignTokenForgotten);
    sighting.token.filter(|_| !forgotten)
}
