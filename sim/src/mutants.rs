//! Rules broken on purpose: the simulator must notice each.

use crate::protocol::Mutant;
use crate::simulator::search;

/// More than the slowest of them needs.
const SEEDS: u64 = 2_000;

fn is_caught(mutant: Mutant, expected: &[&str]) {
    let Err((seed, broken)) = search(0..SEEDS, Some(mutant)) else {
        panic!("{mutant:?} was not noticed in {SEEDS} seeds");
    };
    println!("{mutant:?}: seed {seed}, {}", broken.what);
    assert!(expected.iter().any(|prefix| broken.what.starts_with(prefix)), "{mutant:?} broke {}", broken.what);
}

macro_rules! caught {
    ($($name:ident: $mutant:ident breaks $($prefix:literal)|+;)+) => {
        $(#[test]
        fn $name() {
            is_caught(Mutant::$mutant, &[$($prefix),+]);
        })+
    };
}

caught! {
    r1_deadline_counted_from_the_reply: DeadlineFromReply breaks "I1";
    r1_shorter_lease_lowered_by_the_reply_alone: LeaseNotLowered breaks "I1";
    r2_first_seen_counted_from_the_send: FirstSeenFromSend breaks "I1";
    r2_timer_not_reset_by_a_new_version: TimerNotReset breaks "I1";
    r2_own_lease_instead_of_the_records: OwnLease breaks "I1";
    r3_condition_names_only_the_last_acknowledged_version: StrictCondition breaks "R3";
    r4_failed_condition_taken_for_a_loss: FailedConditionIsLoss breaks "R4";
    r5_no_answer_taken_for_success: TimeoutIsSuccess breaks "I1" | "R4";
    r6_token_not_raised: TokenNotRaised breaks "I2" | "I4";
    r6_token_kept_by_a_foreign_client_forgotten: ForeignTokenForgotten breaks "I2" | "I4";
    r8_late_reply_revives: ReviveAfterDeadline breaks "R8";
    r14_foreign_holder_given_no_margin: ForeignWithoutMargin breaks "I1";
}
