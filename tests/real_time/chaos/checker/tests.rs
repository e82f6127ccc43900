//! A checker that cannot fail is none: what must not be is made up here, and found.

use super::super::faults::Kind;
use super::*;

const MS: u64 = 1_000_000;

fn life(replica: usize) -> Life {
    Life { replica, number: 1 }
}

/// Beliefs as they stand in the files of replicas 0, 1, ….
fn evidence(journals: &[&str]) -> Evidence {
    let effects = [(1, true), (2, true), (2, true)];
    let effects = effects.map(|(token, accepted)| Effect { fenced: true, token, accepted }).to_vec();
    let of = |(replica, text): (usize, &&str)| beliefs(text, life(replica));
    Evidence { beliefs: journals.iter().enumerate().flat_map(of).collect(), effects, ..Evidence::default() }
}

fn only_failure(evidence: &Evidence) -> String {
    let verdict = judge(evidence);
    assert_eq!(verdict.failures.len(), 1, "{verdict:?}");
    verdict.failures[0].clone()
}

#[test]
fn beliefs_one_after_another_are_well_and_their_gap_is_measured() {
    let mut made = evidence(&["1 100 200\n3 450 500\n", "2 210 390\n"]);
    made.events.insert(life(0), events("ended 1 205 shut_down\n"));
    made.events.insert(life(1), events("ended 2 395 deadline\n"));
    let verdict = judge(&made);
    assert!(verdict.failures.is_empty(), "{verdict:?}");
    assert_eq!(verdict.smallest_forced_gap, Some(60), "the first was handed over");
    assert_eq!((verdict.terms, verdict.overlaps, verdict.smallest_gap, verdict.led), (3, 0, Some(10), 330));
    assert_eq!((verdict.applied, verdict.refused, verdict.stale), (3, 0, 0));
}

#[test]
fn an_overlap_is_found_also_with_one_that_began_long_before() {
    for journals in [["1 100 200\n", "2 200 300\n"], ["1 100 900\n3 950 960\n", "2 300 400\n"]] {
        let verdict = judge(&evidence(&journals));
        assert_eq!((verdict.overlaps, verdict.failures.len()), (1, 1), "{verdict:?}");
        assert!(verdict.failures[0].contains("two led at once"), "{verdict:?}");
    }
    let long = judge(&evidence(&["1 100 900\n", "2 300 400\n3 500 600\n"]));
    assert_eq!(long.overlaps, 2, "the first is not forgotten after the second: {long:?}");
}

#[test]
fn a_single_look_is_no_certain_belief_but_its_token_counts() {
    // The second began after its last look that said so: there was one look alone.
    let verdict = judge(&evidence(&["1 100 200\n", "2 150 140\n"]));
    assert!(verdict.failures.is_empty(), "{verdict:?}");
    assert!(only_failure(&evidence(&["2 100 200\n", "1 250 240\n"])).contains("did not rise"));
}

#[test]
fn a_token_that_falls_or_stays_is_found() {
    for journals in [["2 100 200\n", "1 300 400\n"], ["2 100 200\n", "2 300 400\n"]] {
        assert!(only_failure(&evidence(&journals)).contains("did not rise"));
    }
}

#[test]
fn a_stale_effect_is_found_with_a_fence_and_counted_without_one() {
    let effect = |fenced, token, accepted| Effect { fenced, token, accepted };
    let mut made = evidence(&["1 100 200\n", "2 300 400\n"]);
    made.effects.extend([effect(true, 1, false), effect(false, 2, true), effect(false, 1, true)]);
    let verdict = judge(&made);
    assert!(verdict.failures.is_empty(), "{verdict:?}");
    assert_eq!((verdict.refused, verdict.plain_applied, verdict.plain_stale), (1, 2, 1));
    made.effects.push(effect(true, 1, true));
    assert!(only_failure(&made).contains("a stale effect was taken"));
    made.effects.pop();
    made.effects.push(effect(true, 2, false));
    assert!(only_failure(&made).contains("refused that is not stale"), "a fence that refuses all is none");
}

#[test]
fn a_run_in_which_nothing_happened_fails() {
    let failures = judge(&Evidence::default()).failures;
    assert_eq!(failures.len(), 2, "{failures:?}");
}

/// Replica 0 leads term 1, is stopped at 1 s and continued at 7 s; replica 1 takes over.
fn thawed(journal: &str) -> Evidence {
    let mut made = evidence(&["1 100000000 999000000\n", "2 5000000000 9000000000\n"]);
    let (at, until) = (1_000 * MS, Some(7_000 * MS));
    made.faults.push(Fired { kind: Kind::StopTwoLeases, life: Some(life(0)), led: Some(1), at, until });
    made.events.insert(life(0), events(journal));
    made
}

const TOLD: &str = "told 1 7003000000 thread\ntold 1 7004000000 task\n";

#[test]
fn a_leader_that_looks_and_is_told_in_time_is_well() {
    let verdict = judge(&thawed(&format!("look 1 999000000 7001000000 7001100000 false\n{TOLD}")));
    assert!(verdict.failures.is_empty(), "{verdict:?}");
    let thaw = Thaw { stopped: 6_000 * MS, looked: 1_100_000, told: 4 * MS, starved: 1_100_000 };
    assert_eq!(verdict.thaws, [thaw]);
    let failover = Failover { kind: Kind::StopTwoLeases, took: 4_000 * MS, undisturbed: true };
    assert_eq!(verdict.failovers, [failover]);
}

#[test]
fn a_first_look_that_says_true_is_found() {
    let look = format!("look 1 999000000 7001000000 7001100000 true\n{TOLD}");
    assert!(only_failure(&thawed(&look)).contains("at its first look"));
    // Read before the stop, answered before or after it: nobody knows. The next look tells.
    let long = "look 1 999000000 1000000000 7001000000 true\n";
    assert!(only_failure(&thawed(&format!("{long}{look}"))).contains("at its first look"));
    let then = format!("{long}look 1 7001000000 7002000000 7002100000 false\n{TOLD}");
    assert!(judge(&thawed(&then)).failures.is_empty());
    assert!(only_failure(&thawed(TOLD)).contains("did not look"));
}

#[test]
fn a_token_that_fires_late_is_found_unless_nothing_could_run() {
    let look = "look 1 999000000 7001000000 7001100000 false\n";
    let late = format!("{look}told 1 7003000000 thread\ntold 1 7300000000 task\n");
    assert!(only_failure(&thawed(&late)).contains("after the thaw"));
    let starved = format!("{late}look 0 7010000000 7100000000 7100100000 false\n");
    assert!(judge(&thawed(&starved)).failures.is_empty());
    assert!(only_failure(&thawed(&format!("{look}told 1 7003000000 thread\n"))).contains("never told"));
}

#[test]
fn a_fault_that_did_not_end_the_term_is_no_fail_over() {
    let mut made = thawed(&format!("look 1 999000000 7001000000 7001100000 false\n{TOLD}"));
    let earlier = Fired { kind: Kind::Slow, at: 500 * MS, until: Some(600 * MS), ..made.faults[0] };
    made.faults.insert(0, earlier);
    let failovers = judge(&made).failovers;
    let failover = Failover { kind: Kind::StopTwoLeases, took: 4_000 * MS, undisturbed: false };
    assert_eq!(failovers, [failover], "the slow network was over, but not for long");
}

#[test]
fn a_crash_that_nobody_follows_in_time_is_found() {
    let killed = |next: u64| {
        let mut made = evidence(&["1 100000000 999000000\n", &format!("2 {next} {}\n", next + 1_000 * MS)]);
        let (at, until) = (1_000 * MS, Some(1_500 * MS));
        made.faults.push(Fired { kind: Kind::Kill, life: Some(life(0)), led: Some(1), at, until });
        made
    };
    assert!(judge(&killed(4_000 * MS)).failures.is_empty());
    for late in [5_600 * MS, 60_000 * MS] {
        assert!(only_failure(&killed(late)).contains("nobody led in time"));
    }
}
