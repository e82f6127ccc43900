//! Rules and margins broken on purpose: the simulator must notice each, within seeds that every test run covers.

use std::fmt::Write;

use crate::protocol::Mutant;
use crate::simulator::swarm;

/// What must notice a broken rule: the beginning of what is then reported.
struct Expected {
    mutant: Mutant,
    rule: &'static str,
    what: &'static str,
    breaks: &'static [&'static str],
}

/// More than the slowest of them needs.
const SEEDS: u64 = 12_000;

macro_rules! expected {
    ($($rule:literal $what:literal: $mutant:ident breaks $($prefix:literal)|+;)+) => {
        const EXPECTED: &[Expected] =
            &[$(Expected { mutant: Mutant::$mutant, rule: $rule, what: $what, breaks: &[$($prefix),+] }),+];
    };
}

expected! {
    "R1" "the deadline counts from the reply": DeadlineFromReply breaks "I1";
    "R1" "a shorter lease counts from the reply alone": LeaseNotLowered breaks "I1";
    "R2" "the follower counts from the send of its read": FirstSeenFromSend breaks "I1";
    "R2" "a new version does not reset the timer": TimerNotReset breaks "I1";
    "R2" "the follower waits for its own lease, not the record's": OwnLease breaks "I1";
    "R3" "the condition names the last acknowledged version alone": StrictCondition breaks "R3";
    "R3" "a renewal has no condition": UnconditionalRenew breaks "I1" | "I3" | "R3" | "R4";
    "R3" "a renewal's condition names the owner, not versions": OwnerOnlyRenew breaks "I1" | "I3" | "R4";
    "R4" "a failed condition is taken for a loss": FailedConditionIsLoss breaks "I1" | "R4";
    "R5" "no answer is taken for success": TimeoutIsSuccess breaks "I1" | "R4";
    "R6" "the token is not raised": TokenNotRaised breaks "I2" | "I4";
    "R6" "the token that another client kept is forgotten": ForeignTokenForgotten breaks "I2" | "I4";
    "R6" "the token is counted in a record that is deleted": TokenInDeletedRecord breaks "I2" | "I4";
    "R7" "the release does not wait for the work to end": ReleaseBeforeWorkEnds breaks "I5";
    "R8" "a late reply revives what is past its deadline": ReviveAfterDeadline breaks "R8";
    "R9" "the clock does not count suspended time": ClockStopsInSuspend breaks "I1";
    "R9" "validity waits for a timer to fire": ValidUntilToldOtherwise breaks "I1";
    "R9" "after a suspend the keeper waits for its timers": NoComparison breaks "R9";
    "R9" "a follower trusts the holder's wall clock": WallClockExpiry breaks "I1";
    "I6" "a follower waits for three leases": WaitsThrice breaks "I6";
    "I7" "a follower polls twice as often as its timing says": PollsTwice breaks "I7";
    "I7" "a leader renews twice as often as its timing says": BeatsTwice breaks "I7";
    "R14" "a foreign holder gets no margin": ForeignWithoutMargin breaks "I1";
    "R14" "a record of a newer format is taken over": NewerTakenOver breaks "R14";
    "margin" "the holder believes in the whole lease": ValidityIsLease breaks "I1";
    "margin" "no room for clocks in the hard limit": NoDriftMargin breaks "I1";
    "margin" "no guard time in the hard limit": NoGuard breaks "I1";
}

/// What became of one broken rule.
#[derive(Debug)]
pub(crate) struct Verdict {
    rule: &'static str,
    what: &'static str,
    /// The first seed that breaks, and what broke in it; or that it broke something unexpected.
    found: Result<(u64, String), String>,
}

impl Verdict {
    pub(crate) fn is_caught(&self) -> bool {
        self.found.is_ok()
    }
}

fn judge(expected: &Expected) -> Verdict {
    let found = match swarm(0..SEEDS, Some(expected.mutant)) {
        Ok(_) => Err(format!("not noticed in {SEEDS} seeds")),
        Err((seed, broken)) if expected.breaks.iter().any(|prefix| broken.what.starts_with(prefix)) => {
            Ok((seed, broken.what))
        }
        Err((seed, broken)) => Err(format!("seed {seed} broke something else: {}", broken.what)),
    };
    Verdict { rule: expected.rule, what: expected.what, found }
}

pub(crate) fn all() -> Vec<Verdict> {
    EXPECTED.iter().map(judge).collect()
}

pub(crate) fn text(verdicts: &[Verdict]) -> String {
    let mut text =
        String::from("| rule | broken how | seeds until it shows | what shows it |\n| --- | --- | ---: | --- |\n");
    for Verdict { rule, what, found } in verdicts {
        let _ = match found {
            Ok((seed, broke)) => {
                let invariant = broke.split(':').next().unwrap_or_default();
                writeln!(text, "| {rule} | {what} | {} | {invariant} |", seed + 1)
            }
            Err(survived) => writeln!(text, "| {rule} | {what} | - | **{survived}** |"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_broken_rule_is_noticed() {
        let verdicts = all();
        println!("{}", text(&verdicts));
        let survivors: Vec<_> = verdicts.iter().filter(|verdict| !verdict.is_caught()).collect();
        assert!(survivors.is_empty(), "{survivors:#?}");
    }
}
