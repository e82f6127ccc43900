//! Rules broken on purpose, to show that the tests would notice. Only the simulator's package can
//! switch one on; everywhere else [`on`] is the constant `false` and the branches vanish.

/// One broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(not(feature = "mutants"), allow(dead_code, reason = "named in branches that are never taken"))]
pub(crate) enum Mutant {
    /// R1 broken: the deadline counts from the reply.
    DeadlineFromReply,
    /// R1 broken: a write with a shorter lease lowers the deadline only when it is acknowledged.
    LeaseNotLowered,
    /// R2 broken: the follower counts from the send of its read.
    FirstSeenFromSend,
    /// R2 broken: the follower's timer is not reset when the version changes.
    TimerNotReset,
    /// R2 broken: the follower waits for its own setting, not for the record's lease.
    OwnLease,
    /// R3 broken: a renewal names only the last acknowledged version.
    StrictCondition,
    /// R4 broken: a failed condition counts as a loss although the record is ours.
    FailedConditionIsLoss,
    /// R5 broken: no answer counts as success.
    TimeoutIsSuccess,
    /// R6 broken: the token is not raised above the record's.
    TokenNotRaised,
    /// R6 broken: the token that a client of another make has kept in the record is forgotten.
    ForeignTokenForgotten,
    /// R8 broken: a late reply revives what is past its deadline.
    ReviveAfterDeadline,
    /// R8 broken: a renewal stores its deadline without looking whether the lease is over.
    EndOverwritten,
    /// R14 broken: a foreign record is waited for as if its holder kept a margin.
    ForeignWithoutMargin,
    /// R14 broken: a record of a newer format is taken over like one of ours.
    NewerTakenOver,

    // Broken in the driver, in the settings or in the store's conditions, as the simulator has them.
    /// The margin for clocks and for noticing is gone: the holder believes in the whole lease.
    ValidityIsLease,
    /// The margin for clocks is gone from the hard limit.
    NoDriftMargin,
    /// The guard time is gone from the hard limit.
    NoGuard,
    /// R3 broken: a renewal has no condition.
    UnconditionalRenew,
    /// R3 broken: a renewal's condition names the owner and no version.
    OwnerOnlyRenew,
    /// R6 broken: the token is counted in a record that is deleted on release.
    TokenInDeletedRecord,
    /// R7 broken: the release is sent when the end is announced, not when work has ended.
    ReleaseBeforeWorkEnds,
    /// R9 broken: the holder's clock does not count the time it was suspended.
    ClockStopsInSuspend,
    /// R9 broken: validity waits for a timer to fire.
    ValidUntilToldOtherwise,
    /// R9 broken: after a suspend the keeper waits for its timers.
    NoComparison,
    /// R9 broken: a follower trusts the time that the holder wrote into the record.
    WallClockExpiry,
    /// I6 broken: a follower waits for three leases.
    WaitsThrice,
    /// I7 broken: a follower polls twice as often as its timing says.
    PollsTwice,
    /// I7 broken: a leader renews twice as often as its timing says.
    BeatsTwice,

    // No rule of ours, but what others do: for comparison.
    /// A renewal names the last acknowledged version alone, and a refused one is a loss.
    StrictRule,
    /// The first heartbeat that fails ends the term.
    FirstErrorIsLoss,
}

#[cfg(not(feature = "mutants"))]
pub(crate) const fn on(_: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub(crate) use switch::{on, run_with};

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    pub(crate) fn on(mutant: Mutant) -> bool {
        match ACTIVE.get() {
            Some(Mutant::StrictRule) => {
                matches!(mutant, Mutant::StrictRule | Mutant::StrictCondition | Mutant::FailedConditionIsLoss)
            }
            active => active == Some(mutant),
        }
    }

    /// Runs `work` on this thread with one rule broken.
    pub(crate) fn run_with<T>(mutant: Option<Mutant>, work: impl FnOnce() -> T) -> T {
        struct Restore;
        impl Drop for Restore {
            fn drop(&mut self) {
                ACTIVE.set(None);
            }
        }
        ACTIVE.set(mutant);
        let _restore = Restore;
        work()
    }
}
