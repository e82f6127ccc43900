//! How a lease ends: why, and what became of its release.

use crate::protocol::Loss;

/// Why a lock, or a leadership, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// No heartbeat came through before the deadline.
    Deadline,
    /// Somebody else's version is in the record.
    TakenOver,
    /// The record vanished, or is no lock record any more.
    RecordGone,
    /// Somebody marked the record released while it was held.
    ReleasedByAnother,
    /// The first missed heartbeat, where the setting says that one is enough.
    FirstMiss,
    /// The record shows an earlier term: somebody restored it from a backup.
    TokenRegressed,
    /// Given up by its holder: resigned, released, or its handle dropped.
    Resigned,
    /// Given up in favour of another candidate.
    HandedOver,
    /// The candidacy was paused.
    Paused,
    /// It had lasted as long as it may.
    MaxTenure,
    /// The runtime that does the work gave no sign of life for too long.
    Silent,
    /// The client or the elector was shut down.
    ShutDown,
    /// The work returned `Ok`.
    WorkEnded,
    /// The work returned an error or panicked.
    WorkFailed,
    /// The keeper failed; nobody renews any more.
    KeeperFailed,
}

impl EndReason {
    /// All of them.
    pub(crate) const ALL: &[Self] = &[
        Self::Deadline,
        Self::TakenOver,
        Self::RecordGone,
        Self::ReleasedByAnother,
        Self::TokenRegressed,
        Self::FirstMiss,
        Self::Resigned,
        Self::HandedOver,
        Self::Paused,
        Self::MaxTenure,
        Self::Silent,
        Self::ShutDown,
        Self::WorkEnded,
        Self::WorkFailed,
        Self::KeeperFailed,
    ];

    /// Whether it ended against the holder's will.
    pub fn is_forced(self) -> bool {
        matches!(
            self,
            Self::Deadline
                | Self::TakenOver
                | Self::RecordGone
                | Self::ReleasedByAnother
                | Self::TokenRegressed
                | Self::KeeperFailed
        )
    }

    /// Whether it may wait until others have read that it comes: whoever goes by plan goes on working meanwhile.
    pub(crate) fn can_wait(self) -> bool {
        matches!(self, Self::HandedOver | Self::Paused | Self::MaxTenure | Self::ShutDown)
    }

    /// The text used in metric labels and trace fields.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::TakenOver => "taken_over",
            Self::RecordGone => "record_gone",
            Self::ReleasedByAnother => "released_by_another",
            Self::FirstMiss => "first_miss",
            Self::TokenRegressed => "token_regressed",
            Self::Resigned => "resigned",
            Self::HandedOver => "handed_over",
            Self::Paused => "paused",
            Self::MaxTenure => "max_tenure",
            Self::Silent => "silent",
            Self::ShutDown => "shut_down",
            Self::WorkEnded => "work_ended",
            Self::WorkFailed => "work_failed",
            Self::KeeperFailed => "keeper_failed",
        }
    }
}

impl std::fmt::Display for EndReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Loss> for EndReason {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Deadline => Self::Deadline,
            Loss::TakenOver => Self::TakenOver,
            Loss::RecordGone => Self::RecordGone,
            Loss::ReleasedByAnother => Self::ReleasedByAnother,
            Loss::TokenRegressed => Self::TokenRegressed,
        }
    }
}

/// What became of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReleaseOutcome {
    /// DynamoDB confirmed it; the next candidate can go ahead at once.
    Released,
    /// The record was gone, or somebody else's, before.
    AlreadyGone,
    /// It could not be confirmed before the lease ran out. The next candidate waits out the lease at most.
    Unknown,
    /// No release was written, since work did not end in time: the lease runs out by itself.
    Expired,
    /// Another handle of the same lock, acquired re-entrantly, still holds it.
    StillHeld,
}

impl ReleaseOutcome {
    /// All of them.
    pub(crate) const ALL: &[Self] = &[Self::Released, Self::AlreadyGone, Self::Unknown, Self::Expired, Self::StillHeld];

    /// The text used in metric labels and trace fields.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::AlreadyGone => "already_gone",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::StillHeld => "still_held",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What is missing from `ALL` has no series at 0. Whoever adds a variant is stopped here by the compiler: add it to
    /// `ALL` as well.
    #[test]
    fn all_means_all() {
        let place = |reason: EndReason| match reason {
            EndReason::Deadline => 0,
            EndReason::TakenOver => 1,
            EndReason::RecordGone => 2,
            EndReason::ReleasedByAnother => 3,
            EndReason::TokenRegressed => 4,
            EndReason::FirstMiss => 5,
            EndReason::Resigned => 6,
            EndReason::HandedOver => 7,
            EndReason::Paused => 8,
            EndReason::MaxTenure => 9,
            EndReason::Silent => 10,
            EndReason::ShutDown => 11,
            EndReason::WorkEnded => 12,
            EndReason::WorkFailed => 13,
            EndReason::KeeperFailed => 14,
        };
        let places: Vec<usize> = EndReason::ALL.iter().map(|reason| place(*reason)).collect();
        assert_eq!(places, (0..15).collect::<Vec<_>>());
        let place = |outcome: ReleaseOutcome| match outcome {
            ReleaseOutcome::Released => 0,
            ReleaseOutcome::AlreadyGone => 1,
            ReleaseOutcome::Unknown => 2,
            ReleaseOutcome::Expired => 3,
            ReleaseOutcome::StillHeld => 4,
        };
        let places: Vec<usize> = ReleaseOutcome::ALL.iter().map(|outcome| place(*outcome)).collect();
        assert_eq!(places, (0..5).collect::<Vec<_>>());
        let texts: BTreeSet<&str> = EndReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(texts.len(), EndReason::ALL.len(), "each has a text of its own");
    }

    /// `tests/behaviour/losses.rs` provokes each reason in a test of its name, and sees who is told of the end and when.
    #[test]
    fn each_reason_is_provoked_by_a_test_of_its_name() {
        let tests = include_str!("../tests/behaviour/losses.rs");
        for reason in EndReason::ALL {
            assert!(tests.contains(&format!("\nasync fn {reason}() {{")), "no test provokes {reason}");
        }
    }
}
