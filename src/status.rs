//! What a process knows of an election, as plain data.

#[cfg(feature = "serde")]
pub(crate) mod serial;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::ending::{EndReason, ReleaseOutcome};
use crate::error::ErrorKind;
use crate::lock::LeaseCell;
use crate::protocol::Moment;

/// The part this process plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Not taking part: before the first campaign, or between two.
    Idle,
    /// Campaigning, and nothing is known of the record yet.
    Unknown,
    /// Campaigning, or watching as an observer; somebody else leads, or nobody does.
    Follower,
    /// Leading. Ask [`Status::is_leader`], which also reads the clock.
    Leader,
    /// For good; the last value.
    Stopped(StopReason),
}

/// Why an elector does nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum StopReason {
    /// It was shut down, or its lock client was.
    ShutDown,
    /// The work ended, and the elector was to stop then.
    WorkEnded,
    /// The work failed, and the elector was to stop then.
    WorkFailed,
    /// The keeper failed: build a new lock client.
    KeeperFailed,
}

impl Role {
    /// Why it stopped, once it has.
    pub fn stop_reason(self) -> Option<StopReason> {
        if let Self::Stopped(reason) = self { Some(reason) } else { None }
    }

    /// The text used in serialized data.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Unknown => "unknown",
            Self::Follower => "follower",
            Self::Leader => "leader",
            Self::Stopped(_) => "stopped",
        }
    }
}

impl StopReason {
    /// The text used in serialized data.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ShutDown => "shut_down",
            Self::WorkEnded => "work_ended",
            Self::WorkFailed => "work_failed",
            Self::KeeperFailed => "keeper_failed",
        }
    }
}

/// The leader, as last observed in the record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaderInfo {
    /// Its owner name.
    pub owner: String,
    /// What it advertises.
    pub data: Option<Vec<u8>>,
    /// Its fencing token, if its client writes one.
    pub fencing_token: Option<u64>,
    /// When it acquired, by its own wall clock. For people; never compare it.
    pub acquired_at: Option<String>,
}

impl LeaderInfo {
    /// What it advertises, as text.
    pub fn address(&self) -> Option<&str> {
        self.data.as_deref().and_then(|data| std::str::from_utf8(data).ok())
    }
}

/// Why the store did not answer, last time it did not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trouble {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What to do about it.
    pub message: String,
}

/// A snapshot of an election.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The part this process plays.
    pub role: Role,
    /// Counts transitions: a reader that finds it risen by more than one has missed some.
    pub epoch: u64,
    /// Who leads, as far as observed. `None`: nobody, or not known.
    pub leader: Option<LeaderInfo>,
    /// Why this process led no longer, last time.
    pub last_end: Option<EndReason>,
    /// What became of the last release.
    pub last_release: Option<ReleaseOutcome>,
    /// What ails the store; `None` while it answers and the record is sound.
    pub trouble: Option<Trouble>,
    /// Whether the candidacy is paused: it follows and does not claim.
    pub is_paused: bool,
    pub(crate) since: Moment,
    pub(crate) contact: Option<Moment>,
    pub(crate) leader_since: Option<Moment>,
    pub(crate) leader_until: Option<Moment>,
    pub(crate) clock: Clock,
    pub(crate) term: Option<Arc<LeaseCell>>,
}

impl Status {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            role: Role::Idle,
            epoch: 0,
            leader: None,
            last_end: None,
            last_release: None,
            trouble: None,
            is_paused: false,
            since: clock.now(),
            contact: None,
            leader_since: None,
            leader_until: None,
            clock,
            term: None,
        }
    }

    /// Whether this process leads *now*: reads the clock, since a snapshot read after the process was
    /// frozen may be old.
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader && self.term.as_ref().is_some_and(|term| term.is_valid())
    }

    /// The fencing token of the current term of this process.
    pub fn fencing_token(&self) -> Option<u64> {
        self.term.as_ref().filter(|_| self.role == Role::Leader).map(|term| term.token())
    }

    /// How long the role has been what it is.
    pub fn in_role_for(&self) -> Duration {
        self.clock.now().since(self.since)
    }

    /// The leader, if it is another process: where to forward what only the leader does. `None` also while this process still winds
    /// its own leadership down, which no redirect should come back to.
    pub fn leader_elsewhere(&self) -> Option<&LeaderInfo> {
        self.leader.as_ref().filter(|_| self.role != Role::Leader)
    }

    /// For how long the [leader](Self::leader) has been seen to lead.
    pub fn leader_seen_for(&self) -> Option<Duration> {
        self.leader_since.map(|since| self.clock.now().since(since))
    }

    /// When the leader's lease will be over if no further heartbeat is seen: for a follower, when the fail-over would begin;
    /// for the leader, when it stops itself. Zero: now.
    pub fn leader_expires_in(&self) -> Option<Duration> {
        match (&self.term, self.role) {
            (Some(term), Role::Leader) => Some(term.remaining()),
            _ => self.leader_until.map(|until| until.since(self.clock.now())),
        }
    }

    /// How long ago the store answered last; `None` if it never has.
    pub fn last_contact(&self) -> Option<Duration> {
        self.contact.map(|contact| self.clock.now().since(contact))
    }
}

/// One change, in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Transition {
    /// This process leads.
    #[non_exhaustive]
    Elected {
        /// The status' epoch after the change.
        epoch: u64,
        /// The number of the term.
        fencing_token: u64,
    },
    /// This process must stop: the token has fired.
    #[non_exhaustive]
    Demoted {
        /// The status' epoch after the change.
        epoch: u64,
        /// Why.
        reason: EndReason,
    },
    /// The release is over.
    #[non_exhaustive]
    Released {
        /// The status' epoch after the change.
        epoch: u64,
        /// How it went.
        outcome: ReleaseOutcome,
    },
    /// Somebody else leads, or nobody does.
    #[non_exhaustive]
    LeaderChanged {
        /// The status' epoch after the change.
        epoch: u64,
        /// Who leads now.
        leader: Option<LeaderInfo>,
    },
    /// Nothing more will come.
    #[non_exhaustive]
    Stopped {
        /// The status' epoch after the change.
        epoch: u64,
        /// Why.
        reason: StopReason,
    },
    /// The reader was too slow; this many transitions are not in the stream.
    Missed(u64),
}
