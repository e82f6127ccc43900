//! Running a check, and telling what came of it.

use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};

use super::bounds::{Bounds, Faults, Start, Validity};
use super::properties;
use super::state::{Activity, Request, State};
use super::world::{Action, Defect, Election, Slip};
use crate::protocol::Mutant;

/// A property, and a shortest way to the state that decided it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) property: &'static str,
    /// One step a line.
    pub(crate) path: String,
}

/// What a check came to.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) bounds: String,
    /// States generated, and how many different ones.
    pub(crate) states: usize,
    pub(crate) unique: usize,
    /// The longest shortest way to a state, in steps.
    pub(crate) depth: usize,
    pub(crate) took: Duration,
    /// What must not be, and was found.
    pub(crate) broken: Vec<Found>,
    /// What may happen, and was found to: a check without these would be vacuous.
    pub(crate) seen: Vec<Found>,
    /// What was looked for, and happens nowhere within these bounds.
    pub(crate) unseen: Vec<&'static str>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.bounds)?;
        let Self { states, unique, depth, took, .. } = self;
        writeln!(f, "{unique} different states of {states} generated, depth {depth}, {:.1} s", took.as_secs_f64())?;
        for found in &self.broken {
            writeln!(f, "BROKEN {}\n{}", found.property, found.path)?;
        }
        self.seen.iter().try_for_each(|found| writeln!(f, "seen: {}", found.property))?;
        self.unseen.iter().try_for_each(|name| writeln!(f, "not seen: {name}"))
    }
}

/// Explores every state within the bounds.
pub(crate) fn check(bounds: Bounds, threads: usize) -> Report {
    run(bounds, None, threads)
}

/// The same with one rule broken; ends at the first thing that must not be.
#[allow(clippy::disallowed_methods, reason = "how long it took, for people")]
pub(super) fn run(bounds: Bounds, defect: Option<Defect>, threads: usize) -> Report {
    let started = Instant::now();
    let model = Election::new(bounds, defect);
    let checker = model.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let took = started.elapsed();
    let mut discoveries = checker.discoveries();
    let mut report = Report {
        bounds: bounds.to_string(),
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        took,
        broken: Vec::new(),
        seen: Vec::new(),
        unseen: Vec::new(),
    };
    for property in properties::all() {
        let found = discoveries.remove(property.name).map(|path| {
            let path = describe(checker.model(), path);
            Found { property: property.name, path }
        });
        match (property.expectation, found) {
            (Expectation::Always | Expectation::Eventually, found) => report.broken.extend(found),
            (Expectation::Sometimes, Some(found)) => report.seen.push(found),
            (Expectation::Sometimes, None) => report.unseen.push(property.name),
        }
    }
    report
}

fn describe(model: &Election, path: Path<State, Action>) -> String {
    let mut text = String::new();
    for (state, action) in path.into_vec() {
        let Some(action) = action else { break };
        let next = model.next_state(&state, action);
        let subject = subject(&state, next.as_ref(), action);
        // Writing to a string can't fail.
        let _ = writeln!(text, "{:>14.9} s  {action:?}{subject}", Duration::from_nanos(state.now).as_secs_f64());
    }
    text
}

/// What an action was about.
fn subject(state: &State, next: Option<&State>, action: Action) -> String {
    let flight = |state: Option<&State>, index: usize| state.and_then(|state| state.nodes[index].flight.clone());
    match action {
        Action::Wake(index) | Action::Shorten(index) => match flight(next, index).map(|flight| flight.request) {
            Some(request) => format!(": sends {request:?}"),
            None => phase(next, index),
        },
        Action::Deliver(index)
        | Action::DeliverOneOfTwo(index)
        | Action::DeliverStale(index, _)
        | Action::Retry(index) => match flight(next, index) {
            Some(flight) => format!(": {} is answered {:?}", name(&flight.request), flight.answer),
            None => String::new(),
        },
        Action::Hear(index) | Action::GiveUp(index) => match flight(Some(state), index) {
            Some(flight) => format!(": {} {:?}{}", name(&flight.request), flight.answer, phase(next, index)),
            None => String::new(),
        },
        Action::WorkEnds(index) | Action::Resign(index) => phase(next, index),
        Action::ArriveLate(position) => format!(": {:?}", state.late[position]),
        Action::Land(position) => format!(": {:?}", state.effects[position]),
        Action::Advance | Action::Crash(_) | Action::Act(_) => String::new(),
    }
}

fn name(request: &Request) -> String {
    match request {
        Request::Read(consistency) => format!("{consistency:?} read"),
        Request::Write(write) => format!("{:?} {:?}", write.kind, write.version),
    }
}

fn phase(state: Option<&State>, index: usize) -> String {
    match state.map(|state| &state.nodes[index].activity) {
        Some(Activity::Tenure(tenure)) => format!(" -> {:?}", tenure.holder.phase()),
        Some(Activity::Following(_)) => " -> follows".into(),
        None => String::new(),
    }
}

/// What it took to notice a broken rule.
#[derive(Debug)]
pub(crate) struct Kill {
    pub(crate) what: String,
    pub(crate) bounds: Bounds,
    /// The property that failed first, and how many different states had been generated by then.
    pub(crate) found: Option<(&'static str, usize)>,
}

/// What only concerns clients of another make: there is none in this model, but in the simulator.
const CONCERNS_OTHERS: [&str; 2] = ["ForeignTokenForgotten", "ForeignWithoutMargin"];

impl Kill {
    pub(crate) fn is_as_expected(&self) -> bool {
        self.found.is_some() != CONCERNS_OTHERS.contains(&self.what.as_str())
    }
}

/// Every rule that can be broken on purpose, and small bounds in which that shows: with two nodes.
pub(super) fn suspects() -> Vec<(Defect, Bounds)> {
    let base = Bounds { nodes: 2, claims: 2, faults: Faults::default(), ..Bounds::default() };
    let with = |faults: Faults| Bounds { faults, ..base };
    let (none, long) = (Faults::default(), Bounds { start: Start::HeldLong, ..base });
    let core = [
        (Mutant::DeadlineFromReply, Bounds { start: Start::Cold, ..base }),
        (Mutant::LeaseNotLowered, Bounds { faults: Faults { losses: 1, shortenings: 1, ..none }, ..long }),
        (Mutant::FirstSeenFromSend, base),
        (Mutant::TimerNotReset, base),
        (Mutant::OwnLease, long),
        (Mutant::StrictCondition, with(Faults { losses: 1, ..none })),
        (Mutant::FailedConditionIsLoss, with(Faults { losses: 3, ..none })),
        (Mutant::TimeoutIsSuccess, with(Faults { losses: 1, ..none })),
        (Mutant::TokenNotRaised, base),
        (Mutant::ForeignTokenForgotten, base),
        (Mutant::ReviveAfterDeadline, Bounds { validity: Validity::Usual, ..base }),
        (Mutant::ForeignWithoutMargin, base),
    ];
    let around = [
        (Slip::OwnerIsEnough, Bounds { faults: Faults { duplicates: 1, ..none }, ..base }),
        (Slip::ReleaseUnderWork, with(Faults { resigns: 1, ..none })),
        (Slip::TokenOfAnEarlierTerm, with(Faults { effects: 2, ..none })),
    ];
    let core = core.map(|(mutant, bounds)| (Defect::Core(mutant), bounds));
    core.into_iter().chain(around.map(|(slip, bounds)| (Defect::Around(slip), bounds))).collect()
}

/// Every rule that can be broken on purpose: what notices it, after how many states.
pub(crate) fn mutants() -> Vec<Kill> {
    let broken = suspects().into_iter().map(|(defect, bounds)| match defect {
        Defect::Core(mutant) => kill(format!("{mutant:?}"), bounds, Some(defect)),
        Defect::Around(slip) => kill(format!("{slip:?}"), bounds, Some(defect)),
    });
    // No rule of the core but a timing that leaves no margin for clocks: 4 ms in ten seconds.
    broken.chain([kill("NoDriftMargin".into(), Bounds::quartz(0), None)]).collect()
}

fn kill(what: String, bounds: Bounds, defect: Option<Defect>) -> Kill {
    let report = run(bounds, defect, 1);
    let found = report.broken.first().map(|found| (found.property, report.unique));
    Kill { what, bounds, found }
}
