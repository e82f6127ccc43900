//! Least privilege: what each role sends is what its policy in `iam/` grants, no more and no less.
//!
//! A role is a policy and the modules whose tests play it. They are called once more, on this thread, with their clients
//! recorded. To give a module to a role: name its tests in a [`suite!`] at the module's end, and its `suite` in the role.

mod admin;
mod candidate;
mod fenced_writer;
mod observer;
mod policy;
mod recorder;

use std::collections::BTreeSet;
use std::path::Path;

use policy::{Grant, Place, Policy, Request};
pub(crate) use recorder::record;

use crate::{
    cancel, candidacy, content, costs, elections, fences, fencing, handing_over, handles, heartbeats, input, isolation,
    leases, locks, losses, monitor, observability, observers, operators, reading, refusals, requests, services,
    shutdown, tables, telemetry, waiting,
};

/// The tests of a module.
pub(crate) struct Suite {
    pub(crate) file: &'static str,
    pub(crate) tests: &'static [(&'static str, fn())],
}

/// Names the tests of a module in simulated time, so that they can be called: a `#[tokio::test]` is a plain function.
/// One that is forgotten fails [`every_test_of_a_suite_is_named`].
macro_rules! suite {
    ($($test:ident,)+) => {
        pub(crate) fn suite() -> $crate::privileges::Suite {
            $crate::privileges::Suite { file: file!(), tests: &[$((stringify!($test), $test as fn())),+] }
        }
    };
}
pub(crate) use suite;

struct Role {
    policy: &'static str,
    /// The key in the policy, and what its scenarios use in its place: the policy is evaluated once with each of these names
    /// where it has the placeholder. A scenario with another key must add it here, and one that is used no more must go.
    place: Place<'static>,
    suites: &'static [fn() -> Suite],
    /// The helpers make the table through the client itself, which outside of tests is the administrator's part.
    makes_tables: bool,
}

const CANDIDATE: Role = Role {
    policy: include_str!("../../iam/candidate.json"),
    place: Place {
        holder: "nightly-billing",
        names: &["nightly-billing", "election", "e", "careful", "patient", "f", "g", "e-up", "e-down"],
    },
    suites: &[
        costs::suite,
        elections::suite,
        fences::suite,
        losses::suite,
        services::suite,
        candidacy::suite,
        handing_over::suite,
        telemetry::suite,
        observability::suite,
        candidate::suite,
    ],
    makes_tables: false,
};

const FENCED_WRITER: Role = Role {
    policy: include_str!("../../iam/fenced-writer.json"),
    place: Place { holder: "nightly-billing", names: &["nightly-billing"] },
    suites: &[fenced_writer::suite],
    makes_tables: false,
};

const OBSERVER: Role = Role {
    policy: include_str!("../../iam/observer.json"),
    place: Place { holder: "nightly-billing", names: &["nightly-billing"] },
    suites: &[observer::suite, observers::suite],
    makes_tables: false,
};

const LOCK_USER: Role = Role {
    policy: include_str!("../../iam/lock-user.json"),
    place: Place { holder: "reports/", names: &["job", "one", "two", "other", "busy", "election", "mine", "quick"] },
    suites: &[
        locks::suite,
        requests::suite,
        input::suite,
        content::suite,
        fencing::suite,
        handles::suite,
        heartbeats::suite,
        isolation::suite,
        leases::suite,
        monitor::suite,
        shutdown::suite,
        waiting::suite,
    ],
    makes_tables: false,
};

const ADMIN: Role = Role {
    policy: include_str!("../../iam/admin.json"),
    place: Place { holder: "", names: &[] },
    suites: &[admin::suite, cancel::suite, operators::suite, reading::suite, refusals::suite, tables::suite],
    makes_tables: true,
};

const ROLES: [&Role; 5] = [&CANDIDATE, &FENCED_WRITER, &OBSERVER, &LOCK_USER, &ADMIN];

/// A table of the user's own. What is written there is the user's to grant.
const OWN_TABLE: &str = "schedule";

/// Modules that play no role by themselves, such as several at once: they say nothing of any policy.
const WITHOUT_ROLE: &[&str] = &[
    "tests/behaviour/hostile.rs",
    "tests/behaviour/watching.rs",
    "tests/behaviour/scripted.rs",
    "tests/behaviour/soak.rs",
];

fn lines<T: ToString>(things: impl IntoIterator<Item = T>) -> String {
    things.into_iter().map(|thing| format!("\n  {}", thing.to_string())).collect()
}

/// The requests of a role's scenarios, against its policy, in both directions.
fn hold(role: &Role) {
    let policy = Policy::parse(role.policy);
    let mut sent = recorder::requests(|| {
        for (_, test) in role.suites.iter().flat_map(|suite| suite().tests) {
            test();
        }
    });
    if !role.makes_tables {
        sent.retain(|request, _| request.action != "CreateTable");
    }
    sent.retain(|request, _| request.table != OWN_TABLE);
    let denied = |policy: &Policy| -> Vec<String> {
        let requests = sent.iter().filter(|(request, _)| policy.granted(request, &role.place).is_empty());
        requests.map(|(request, times)| format!("{request}, {times} times")).collect()
    };
    assert!(denied(&policy).is_empty(), "sent, but not granted:{}", lines(denied(&policy)));
    let used: BTreeSet<Grant> = sent.keys().flat_map(|request| policy.granted(request, &role.place)).collect();
    let unused = policy.grants().into_iter().filter(|grant| !used.contains(grant));
    let unused: Vec<String> = unused.map(|grant| format!("{grant:?}")).collect();
    assert!(unused.is_empty(), "granted, but never used:{}", lines(unused));
    for grant in policy.grants() {
        assert!(!denied(&policy.without(&grant)).is_empty(), "nothing is denied without {grant:?}: it stands twice");
    }
    for name in role.place.names {
        let used = sent.keys().any(|Request { key, .. }| key.as_ref().is_some_and(|key| key.starts_with(name)));
        assert!(used, "no scenario uses the key {name:?}: take it out of the role");
    }
}

#[test]
fn a_candidate_sends_what_its_policy_grants() {
    hold(&CANDIDATE);
}

#[test]
fn a_fenced_writer_sends_what_its_policy_grants() {
    hold(&FENCED_WRITER);
}

#[test]
fn an_observer_sends_what_its_policy_grants() {
    hold(&OBSERVER);
}

#[test]
fn a_lock_user_sends_what_its_policy_grants() {
    hold(&LOCK_USER);
}

#[test]
fn an_administrator_sends_what_the_policy_grants() {
    hold(&ADMIN);
}

/// A client that was not told to make its table does not try to: without the helpers' own set-up nothing is left out above.
#[test]
fn nobody_makes_a_table_unasked() {
    for suite in [candidate::suite(), observer::suite()] {
        let sent = recorder::requests(|| suite.tests.iter().for_each(|(_, test)| test()));
        assert!(sent.keys().any(|request| request.action == "DescribeTable"), "recorded: {sent:?}");
        assert!(sent.keys().all(|request| request.action != "CreateTable"), "{sent:?}");
    }
}

#[test]
fn the_readme_shows_the_candidates_policy() {
    let readme = source("README.md");
    let shown =
        readme.split("```json").nth(1).and_then(|rest| rest.split("```").next()).expect("a policy in README.md");
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(json(shown), json(CANDIDATE.policy));
}

fn source(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The names of the tests in a source.
fn tests(source: &str) -> BTreeSet<String> {
    let tests = source.split("\n#[tokio::test").skip(1);
    let name = |test: &str| test.split("async fn ").nth(1).and_then(|rest| rest.split('(').next()).map(str::to_owned);
    tests.map(|test| name(test).expect("a test is an async fn")).collect()
}

#[test]
fn every_test_of_a_suite_is_named() {
    let mut suites = 0;
    for suite in ROLES.iter().flat_map(|role| role.suites) {
        let Suite { file, tests: named } = suite();
        let named: BTreeSet<String> = named.iter().map(|(name, _)| (*name).to_owned()).collect();
        let missing: Vec<String> = tests(&source(file)).difference(&named).cloned().collect();
        assert!(missing.is_empty(), "name these in the suite! of {file}:{}", lines(missing));
        suites += 1;
    }
    assert!(suites >= 8, "{suites} suites");
}

#[test]
fn every_module_has_a_role() {
    let named: Vec<&str> = ROLES.iter().flat_map(|role| role.suites).map(|suite| suite().file).collect();
    let main = source("tests/behaviour/main.rs");
    let modules = main.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let files: Vec<String> = modules.map(|module| format!("tests/behaviour/{module}.rs")).collect();
    assert!(files.len() >= 6, "{files:?}");
    for file in files.iter().filter(|file| !tests(&source(file)).is_empty()) {
        let known = named.contains(&file.as_str()) || WITHOUT_ROLE.contains(&file.as_str());
        assert!(known, "give {file} a suite! and name it in a role");
    }
}
