//! The words the machines speak: instants, versions, what was seen, what is to be written.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::pace::Plan;

/// An instant on this process's own monotonic clock, which counts suspended time. Never compared
/// with another process's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Moment(u64);

impl Moment {
    /// An instant that never comes.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// Nanoseconds since the clock's origin.
    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(crate) const fn nanos(self) -> u64 {
        self.0
    }

    /// Saturates: an instant that far away never comes.
    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Saturates at the clock's origin.
    pub(crate) fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The first after `now` of this instant, the one a period later, two periods later, ….
    pub(crate) fn next_after(self, now: Self, period: Duration) -> Self {
        if self > now {
            return self;
        }
        let behind = now.since(self).as_nanos() / period.as_nanos().max(1);
        let periods = u32::try_from(behind).unwrap_or(u32::MAX).saturating_add(1);
        self.after(period.saturating_mul(periods))
    }

    /// The time from `earlier` to here, zero if `earlier` is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Read from the clock *before* a request leaves. A holder counts from here (R1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SentAt(pub(crate) Moment);

/// Read from the clock *after* a response arrived. A follower counts from here (R2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReceivedAt(pub(crate) Moment);

/// How long a holder may believe in a write of its own. Made only from a send time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HeldUntil(Moment);

impl HeldUntil {
    pub(crate) fn from_send(sent: SentAt, validity: Duration) -> Self {
        Self(sent.0.after(validity))
    }

    pub(crate) fn moment(self) -> Moment {
        self.0
    }
}

/// Since when a follower knows a version. Made only from a response time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FirstSeen(Moment);

impl FirstSeen {
    pub(crate) fn at_response(received: ReceivedAt) -> Self {
        Self(received.0)
    }

    pub(crate) fn moment(self) -> Moment {
        self.0
    }
}

/// `recordVersionNumber`: new in every logical write, any non-empty text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Version(Arc<str>);

impl Version {
    pub(crate) fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who wrote the record last, by its `stampedVersion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Writer {
    /// This crate: its own attributes may be believed, and its holder keeps a margin.
    Ours,
    /// A client that keeps no margin of its own and knows nothing of fencing tokens.
    Foreign,
    /// A newer format of this crate: live, to be waited for, never taken over (R14).
    Newer,
}

/// What the protocol needs of a well-formed record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sighting {
    pub(crate) version: Version,
    pub(crate) lease: Duration,
    pub(crate) released: bool,
    pub(crate) writer: Writer,
    /// The number in the record. What another kind of client left there is no news, but a floor all the same (R6).
    pub(crate) token: Option<u64>,
    /// What its holder plans: believed only of ours.
    pub(crate) plan: Plan,
}

/// What a read, or the old record of a refused write, showed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    Absent,
    Malformed,
    Record(Sighting),
}

/// How up to date a read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Consistency {
    /// May show the past. Half the price; can only delay a take-over, because the write decides (R13).
    Eventual,
    /// Shows what was current at some moment between its send and its response.
    Strong,
}

/// What a conditional write does to the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum WriteKind {
    /// Installs a new holder and its token, removes `isReleased`.
    Claim { token: u64 },
    /// Installs the next version; refused when somebody marked the record released.
    Renew,
    /// Marks the record released, or deletes it where that is the setting.
    Release,
}

/// The most versions a condition names; past that one read settles which of them is current (R3).
pub(super) const MAX_NAMES: usize = 4;
/// What a condition names: kept in place, so that a heartbeat allocates nothing.
pub(crate) type Names = SmallVec<[Version; MAX_NAMES]>;

/// One logical write. Its condition: `version IN names`, where `names` always holds its own version;
/// or the record is absent, if `or_absent`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Write {
    pub(crate) kind: WriteKind,
    pub(crate) version: Version,
    pub(crate) names: Names,
    pub(crate) or_absent: bool,
    pub(crate) lease: Duration,
    pub(crate) plan: Plan,
}

/// The store's answer to a write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Reply {
    Applied,
    /// The condition did not hold; this is the record as it was.
    Refused(Seen),
    /// No answer, or an error. It may have been applied, or still be, whatever the error says:
    /// an earlier attempt inside the SDK may have got through.
    Unknown,
}

/// Why a term ended against the holder's will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Loss {
    /// No heartbeat came through in time.
    Deadline,
    /// Somebody else's version is in the record.
    TakenOver,
    /// The record is absent, or no longer a lock record.
    RecordGone,
    /// Somebody marked the record released under a live holder.
    ReleasedByAnother,
    /// The record shows an earlier term: somebody restored it from a backup.
    TokenRegressed,
}

/// How the release went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Release {
    /// The store confirmed it.
    Released,
    /// The record was no longer ours, or gone, before the release got there.
    AlreadyGone,
    /// The lease ran out before any release could be confirmed; one of them may have been applied.
    Unknown,
    /// No release was written, because work did not end: the lease runs out by itself.
    Expired,
}
