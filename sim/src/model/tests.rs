use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use stateright::Model;

use super::bounds::{Bounds, Faults, Start, Validity};
use super::report::{Report, check, mutants, run};
use super::state::State;
use super::world::{Action, Defect, Election};
use crate::protocol::Mutant;

/// A lease and a half.
const LATER: Duration = Duration::from_millis(7_500);

/// Two nodes and no faults.
fn pair() -> Bounds {
    Bounds { nodes: 2, claims: 2, faults: Faults::default(), ..Bounds::default() }
}

fn holds(bounds: Bounds, sees: &[&str]) {
    let report = check(bounds, 1);
    println!("{report}");
    assert!(report.broken.is_empty(), "{report}");
    let seen: Vec<&str> = report.seen.iter().map(|found| found.property).collect();
    for property in sees {
        assert!(seen.contains(property), "never seen within {bounds}: {property}");
    }
    assert!(report.unique > 5_000, "{} states: is it blind?", report.unique);
}

macro_rules! holds {
    ($($name:ident: $bounds:expr, sees $($property:literal)|+;)+) => {
        $(#[test]
        fn $name() {
            holds($bounds, &[$($property),+]);
        })+
    };
}

holds! {
    three_nodes_without_faults: Bounds { nodes: 3, claims: 3, ..pair() },
        sees "a lease that ran out is taken over" | "a holder loses its lease by its own clock";
    a_lost_and_a_repeated_message: Bounds { faults: Faults { losses: 1, duplicates: 1, ..Faults::default() }, ..pair() },
        sees "a write follows one of its own whose reply was lost" | "a late or repeated write is refused"
            | "a late or repeated write is applied";
    work_that_winds_down_to_its_hard_limit: Bounds {
            validity: Validity::Usual,
            faults: Faults { losses: 1, ..Faults::default() },
            ..pair()
        },
        sees "a holder loses its lease by its own clock" | "a released record is claimed";
    three_lost_messages_in_a_row: Bounds { faults: Faults { losses: 3, ..Faults::default() }, ..pair() },
        sees "the record settles what became of writes without an answer";
    a_resignation: Bounds { faults: Faults { resigns: 1, ..Faults::default() }, ..pair() },
        sees "a released record is claimed";
    a_crash_and_half_a_lease_more: Bounds {
            horizon: LATER,
            faults: Faults { crashes: 1, ..Faults::default() },
            ..pair()
        },
        sees "a leader that crashed is followed by another";
    effects_on_a_resource: Bounds { faults: Faults { effects: 2, ..Faults::default() }, ..pair() },
        sees "an effect of an earlier leader is fenced off";
    a_lease_that_is_shortened_while_it_is_held: Bounds {
            start: Start::HeldLong,
            faults: Faults { losses: 1, shortenings: 1, ..Faults::default() },
            ..pair()
        },
        sees "a lease that ran out is taken over";
    reads_that_show_the_past: Bounds { faults: Faults { losses: 1, stale: 2, ..Faults::default() }, ..pair() },
        sees "a lease that ran out is taken over";
    a_start_without_a_record: Bounds { start: Start::Cold, ..pair() },
        sees "a lease that ran out is taken over" | "a released record is claimed";
}

/// `cargo test --release -p dynamo-elector-sim --lib model -- --ignored --nocapture`
#[test]
#[ignore = "millions of states: takes minutes"]
fn thorough_bounds_hold() {
    for bounds in Bounds::thorough() {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let report = check(bounds, threads);
        println!("{report}");
        assert!(report.broken.is_empty(), "{report}");
        assert!(report.unique > 500_000, "{} states: is it blind?", report.unique);
    }
}

/// Both sides of the theorem, with clocks that are off by 200 parts per million: random runs never see these windows
/// of 4 ms and of 20 µs.
#[test]
fn the_margin_for_clocks_is_enough_and_nothing_less_is() {
    for validity in [Validity::Longest, Validity::Usual] {
        let exact = run(Bounds { validity, ..Bounds::quartz(200) }, None, 1);
        assert!(exact.broken.is_empty(), "{exact}");
        assert!(exact.seen.iter().any(|found| found.property == "a lease that ran out is taken over"), "{exact}");
        for assumed in [0, 199] {
            let short = run(Bounds { validity, ..Bounds::quartz(assumed) }, None, 1);
            let found = short.broken.first().unwrap_or_else(|| panic!("not noticed: {short}"));
            println!("{validity:?}, {assumed} ppm assumed: {} states\n{}", short.unique, found.path);
            assert!(found.property.starts_with("I1"), "{short}");
            assert!(found.path.contains("Claim"), "no take-over in\n{}", found.path);
        }
    }
}

/// Or the test above would show less than it says.
#[test]
fn the_longest_validity_leaves_no_slack() {
    for bounds in [Bounds::default(), Bounds::quartz(200)] {
        let timing = bounds.timing().expect("a valid timing");
        let (million, off) = (1_000_000, u128::from(bounds.drift));
        let safe = bounds.lease.as_nanos() * (million - off) / (million + off);
        assert_eq!((timing.validity() + timing.guard()).as_nanos(), safe);
        assert_eq!(timing.hard_limit(), timing.validity());
        let more = timing.to_builder().validity(timing.validity() + Duration::from_nanos(10)).build();
        assert!(more.is_err(), "{more:?}");
    }
}

/// The machines in the model are those of the core: a rule that is broken there breaks a property here.
#[test]
fn broken_rules_are_noticed() {
    let kills = mutants();
    for kill in &kills {
        println!("{:24} {:?}", kill.what, kill.found);
        assert!(kill.is_as_expected(), "{} within {}", kill.what, kill.bounds);
    }
    let by =
        |what: &str| kills.iter().find(|kill| kill.what == what).and_then(|kill| kill.found).map(|(by, _)| &by[..2]);
    for (what, property) in [
        ("DeadlineFromReply", "I1"),
        ("LeaseNotLowered", "I1"),
        ("FirstSeenFromSend", "I1"),
        ("TimerNotReset", "I1"),
        ("OwnLease", "I1"),
        ("NoDriftMargin", "I1"),
        ("TokenNotRaised", "I2"),
        ("OwnerIsEnough", "I3"),
        ("TokenOfAnEarlierTerm", "I4"),
        ("ReleaseUnderWork", "I5"),
        ("StrictCondition", "R3"),
        ("FailedConditionIsLoss", "R4"),
        ("ReviveAfterDeadline", "R8"),
    ] {
        assert_eq!(by(what), Some(property), "{what}");
    }
}

/// The same bounds without the mutant hold: what is noticed is the mutant.
#[test]
fn the_bounds_in_which_mutants_are_noticed_hold_without_them() {
    let mut checked: Vec<Bounds> = Vec::new();
    for (defect, bounds) in super::report::suspects() {
        if checked.contains(&bounds) || defect == Defect::Core(Mutant::FailedConditionIsLoss) {
            // The latter's bounds are those of a test above.
            continue;
        }
        let report: Report = check(bounds, 1);
        assert!(report.broken.is_empty(), "{report}");
        checked.push(bounds);
    }
}

fn held_by_one(nodes: usize) -> (Election, State) {
    let model = Election::new(Bounds { nodes, ..pair() }, None);
    let state = model.init_states().remove(0);
    (model, state)
}

fn hash(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Threads share the work, not the verdict.
#[test]
fn two_threads_find_the_same_states() {
    let bounds = Bounds { faults: Faults { losses: 1, ..Faults::default() }, ..pair() };
    let (one, two) = (check(bounds, 1), check(bounds, 2));
    assert_eq!((one.unique, one.states), (two.unique, two.states));
    assert!(two.broken.is_empty(), "{two}");
}

#[test]
fn two_holders_would_be_noticed() {
    let (model, mut state) = held_by_one(2);
    let property = model.property(super::properties::ONE_HOLDER);
    assert!((property.condition)(&model, &state));
    state.nodes[1] = std::sync::Arc::clone(&state.nodes[0]);
    assert!(!(property.condition)(&model, &state));
}

#[test]
fn states_are_the_same_if_they_differ_only_in_which_of_the_followers_did_it() {
    let (model, state) = held_by_one(3);
    let after = |action: Action| model.next_state(&state, action).expect("every action leads somewhere");
    assert_eq!(hash(&after(Action::Wake(1))), hash(&after(Action::Wake(2))));
    assert_ne!(hash(&after(Action::Wake(1))), hash(&state));
    assert_ne!(hash(&after(Action::Wake(0))), hash(&after(Action::Wake(1))));
}
