//! A client of another make on the same record: it believes in its lease to the last moment, keeps no
//! margin, knows no tokens, and takes over what has not changed for a lease.

use std::time::Duration;

use crate::clock::LocalClock;
use crate::protocol::{Moment, Seen, Version};

/// Acts on a lease that ended this share of it ago.
const LATE: u32 = 10;

#[derive(Debug)]
pub(crate) struct Foreign {
    pub(crate) clock: LocalClock,
    pub(crate) lease: Duration,
    /// The version it wrote last, and until when it believes in it.
    pub(crate) held: Option<(Version, Moment)>,
    pub(crate) known: Option<(Version, Duration, Moment)>,
    pub(crate) written: u64,
    deletes: bool,
}

/// What it does next.
#[derive(Debug, Clone)]
pub(crate) enum ForeignOp {
    Read,
    Put { base: Option<Version>, version: Version, sent: Moment },
    Release(Version),
    Delete(Version),
}

impl Foreign {
    pub(crate) fn new(clock: LocalClock, lease: Duration, deletes: bool) -> Self {
        Self { clock, lease, held: None, known: None, written: 0, deletes }
    }

    pub(crate) fn is_valid(&self, now: Moment) -> bool {
        // It notices the end late: nothing in it is done ahead of time.
        self.held.as_ref().is_some_and(|(_, until)| now < until.after(self.lease / LATE))
    }

    fn put(&mut self, base: Option<Version>, sent: Moment) -> ForeignOp {
        self.written += 1;
        ForeignOp::Put { base, version: Version::new(format!("foreign-{}", self.written)), sent }
    }

    /// Renews what it holds, or looks.
    pub(crate) fn act(&mut self, now: Moment, resign: bool) -> ForeignOp {
        match self.held.take_if(|(_, until)| now >= *until || resign) {
            Some((version, _)) if resign && self.deletes => ForeignOp::Delete(version),
            Some((version, _)) if resign => ForeignOp::Release(version),
            _ => match &self.held {
                Some((version, _)) => {
                    let base = Some(version.clone());
                    self.put(base, now)
                }
                None => ForeignOp::Read,
            },
        }
    }

    /// A read was answered: claims at once what is free.
    pub(crate) fn saw(&mut self, seen: &Seen, now: Moment) -> Option<ForeignOp> {
        match seen {
            Seen::Absent => Some(self.put(None, now)),
            Seen::Malformed => None,
            Seen::Record(found) => {
                let same = self.known.as_ref().is_some_and(|(version, ..)| *version == found.version);
                if !same {
                    self.known = Some((found.version.clone(), found.lease, now));
                }
                let (version, lease, since) = self.known.clone()?;
                (found.released || now.since(since) >= lease).then(|| self.put(Some(version), now))
            }
        }
    }

    pub(crate) fn put_answered(&mut self, applied: bool, version: Version, sent: Moment) {
        self.held = applied.then(|| (version, sent.after(self.lease)));
    }

    pub(crate) fn period(&self) -> Duration {
        if self.held.is_some() { self.lease / 4 } else { Duration::from_secs(1) }
    }
}
