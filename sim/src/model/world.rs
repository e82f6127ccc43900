//! The steps: what may happen next in a state, and what it makes of it.

use std::sync::Arc;
use std::time::Duration;

use stateright::{Model, Property};

use super::bounds::{Bounds, Start};
use super::properties;
use super::state::{Activity, Answer, Event, Node, Request, Rule, State};
use crate::clock::LocalClock;
use crate::lock_layer::is_winding_down;
use crate::protocol::{Consistency, Moment, Mutant, Next, Phase, Step as Do, run_with};
use crate::timing::Timing;

/// A rule outside the core, broken on purpose: the store's condition, the driver, the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slip {
    /// R3: a renewal is applied where the owner matches, whatever the version.
    OwnerIsEnough,
    /// R7: the driver says that work has ended although it runs.
    ReleaseUnderWork,
    /// R6: whoever leads again acts with the token of the first term.
    TokenOfAnEarlierTerm,
}

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defect {
    Core(Mutant),
    Around(Slip),
}

/// An election within its bounds, in which one rule may be broken.
pub(super) struct Election {
    pub(super) bounds: Bounds,
    pub(super) timing: Timing,
    /// Of the first acquisition, where it starts with a longer lease.
    pub(super) long: Timing,
    mutant: Option<Mutant>,
    slip: Option<Slip>,
}

/// One thing that happens. Nodes by number, messages by their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// True time goes on to the next instant at which any clock says anything to anybody.
    Advance,
    /// A node does what its clock tells it. It need not: any node may be paused for any time.
    Wake(usize),
    /// The request of a node reaches the store.
    Deliver(usize),
    /// The same, and a copy of it stays in the network.
    DeliverOneOfTwo(usize),
    /// A read shows what was current so many writes ago.
    DeliverStale(usize, usize),
    /// A write that was answered reaches the store once more; only the second answer is heard.
    Retry(usize),
    /// The answer reaches its node.
    Hear(usize),
    /// A node waits no longer: its request or the answer is lost, or late.
    GiveUp(usize),
    /// A write that nobody waits for reaches the store.
    ArriveLate(usize),
    Crash(usize),
    Resign(usize),
    WorkEnds(usize),
    Shorten(usize),
    /// A valid leader sends an effect to the resource.
    Act(usize),
    /// An effect reaches the resource.
    Land(usize),
}

/// When a node wants to do something.
enum Wants {
    Now,
    At(Moment),
    Nothing,
}

impl Election {
    pub(super) fn new(bounds: Bounds, defect: Option<Defect>) -> Self {
        let timing = bounds.timing().expect("bounds have a timing that is valid");
        let long = timing.with_lease(bounds.lease * 2).expect("a longer lease is valid too");
        let (mutant, slip) = match defect {
            None => (None, None),
            Some(Defect::Core(mutant)) => (Some(mutant), None),
            Some(Defect::Around(slip)) => (None, Some(slip)),
        };
        Self { bounds, timing, long, mutant, slip }
    }

    pub(super) fn slips(&self, slip: Slip) -> bool {
        self.slip == Some(slip)
    }

    fn clock(&self, index: usize) -> LocalClock {
        let off = i64::from(self.bounds.drift);
        LocalClock::new(ORIGIN, if index == 0 { -off } else { off })
    }

    pub(super) fn local(&self, index: usize, time: u64) -> Moment {
        self.clock(index).local(time)
    }

    /// How long work may wind down after a voluntary end.
    pub(super) fn drain(&self) -> Duration {
        self.timing.lease() / 2
    }

    fn broken<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.mutant.is_none() { work() } else { run_with(self.mutant, work) }
    }

    fn wants(&self, state: &State, index: usize) -> Wants {
        let (node, now) = (&state.nodes[index], self.local(index, state.now));
        match &node.activity {
            Activity::Following(_) if node.flight.is_some() => Wants::Nothing,
            Activity::Following(candidate) => match candidate.clone().next(&node.observation, now) {
                Next::Wait(until) => Wants::At(until),
                Next::Claim { .. } if state.claims >= self.bounds.claims => Wants::Nothing,
                Next::Claim { .. } | Next::Read(_) => Wants::Now,
            },
            Activity::Tenure(tenure) => {
                let phase = tenure.holder.phase();
                let overdue = tenure.cell.as_ref().and_then(|cell| cell.drain_until).is_some_and(|until| now >= until);
                let expired = tenure.holder.held_until().is_some_and(|until| now >= until);
                let over = matches!(phase, Phase::Ended(_) | Phase::Refused);
                if over || expired || (is_winding_down(phase) && overdue) {
                    return Wants::Now;
                }
                match tenure.holder.clone().poll(now) {
                    Do::Send | Do::Read => Wants::Now,
                    Do::Wait(until) => Wants::At(until),
                    Do::Idle => Wants::Nothing,
                }
            }
        }
    }

    /// The next instant of true time at which a timer of any node fires or anything it has promised ends.
    fn next_instant(&self, state: &State) -> Option<u64> {
        let guard = self.timing.guard();
        let mut next = None;
        let mut consider = |index: usize, moment: Moment| {
            let at = self.clock(index).true_time(moment);
            if at > state.now && next.is_none_or(|next| at < next) {
                next = Some(at);
            }
        };
        for (index, node) in state.nodes.iter().enumerate() {
            if let Wants::At(moment) = self.wants(state, index) {
                consider(index, moment);
            }
            if let Some(tenure) = node.tenure() {
                let working = tenure.cell.as_ref().is_some_and(|cell| cell.working);
                let drain = tenure.cell.as_ref().and_then(|cell| cell.drain_until).filter(|_| working);
                let hard = tenure.holder.hard_deadline().filter(|_| working);
                let ends = [tenure.holder.held_until(), drain, hard, hard.map(|hard| hard.after(guard))];
                ends.into_iter().flatten().for_each(|moment| consider(index, moment));
            }
        }
        next.filter(|next| u128::from(*next) <= self.bounds.horizon.as_nanos())
    }

    /// What may happen to the request of a node, or to its answer.
    fn network(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let Some(flight) = &state.nodes[index].flight else { return };
        let repeats = state.left.duplicates > 0 && matches!(flight.request, Request::Write(_));
        if flight.answer.is_some() {
            actions.push(Action::Hear(index));
            actions.extend(repeats.then_some(Action::Retry(index)));
        } else {
            actions.push(Action::Deliver(index));
            actions.extend(repeats.then_some(Action::DeliverOneOfTwo(index)));
            if state.left.stale > 0 && flight.request == Request::Read(Consistency::Eventual) {
                actions.extend((1..=state.past.len()).map(|back| Action::DeliverStale(index, back)));
            }
        }
        actions.extend((state.left.losses > 0).then_some(Action::GiveUp(index)));
    }

    /// What a node, its users or its operators may do.
    fn life(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let (node, left) = (&state.nodes[index], &state.left);
        if let Wants::Now = self.wants(state, index) {
            actions.push(Action::Wake(index));
        }
        actions.extend((left.crashes > 0).then_some(Action::Crash(index)));
        let (Some(tenure), Some(cell)) = (node.tenure(), node.cell()) else { return };
        if tenure.holder.phase() == Phase::Holding {
            actions.extend((left.resigns > 0).then_some(Action::Resign(index)));
            actions.extend((left.shortenings > 0).then_some(Action::Shorten(index)));
        }
        if cell.working && cell.token_fired {
            actions.push(Action::WorkEnds(index));
        }
        if left.effects > 0 && cell.working && node.is_valid(self.local(index, state.now)) {
            actions.push(Action::Act(index));
        }
    }
}

impl Model for Election {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.broken(|| vec![Step::start(self).state])
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        self.broken(|| {
            for index in 0..state.nodes.len() {
                self.network(state, index, actions);
                self.life(state, index, actions);
            }
            for (index, write) in state.late.iter().enumerate() {
                if index == 0 || state.late[index - 1] != *write {
                    actions.push(Action::ArriveLate(index));
                }
            }
            actions.extend((0..state.effects.len()).map(Action::Land));
            actions.extend(self.next_instant(state).map(|_| Action::Advance));
        });
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        self.broken(|| {
            let mut step = Step { model: self, state: last.clone() };
            step.state.events = 0;
            step.take(action);
            step.tidy();
            for (index, node) in step.state.nodes.iter().enumerate() {
                if !Arc::ptr_eq(node, &last.nodes[index]) {
                    step.state.marks[index] = node.mark();
                }
            }
            Some(step.state)
        })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

/// A state on its way to the next.
pub(super) struct Step<'a> {
    pub(super) model: &'a Election,
    pub(super) state: State,
}

impl<'a> Step<'a> {
    fn start(model: &'a Election) -> Self {
        let state = State {
            now: 0,
            record: None,
            past: Vec::new(),
            overwritten: Vec::new(),
            nodes: Vec::new(),
            marks: Vec::new(),
            late: Vec::new(),
            effects: Vec::new(),
            accepted: super::state::Effect::default(),
            claims: 0,
            last_token: None,
            left: model.bounds.faults,
            leader_crashed: false,
            events: 0,
            broken: None,
        };
        let mut step = Self { model, state };
        let node = Arc::new(Node::following(step.candidate()));
        step.state.nodes = vec![node; model.bounds.nodes];
        if model.bounds.start != Start::Cold {
            for action in [Action::Wake(0), Action::Deliver(0), Action::Hear(0)].repeat(2) {
                step.take(action);
            }
        }
        step.state.events = 0;
        step.tidy();
        step.state.marks = step.state.nodes.iter().map(|node| node.mark()).collect();
        step
    }

    pub(super) fn node(&mut self, index: usize) -> &mut Node {
        Arc::make_mut(&mut self.state.nodes[index])
    }

    pub(super) fn local(&self, index: usize) -> Moment {
        self.model.local(index, self.state.now)
    }

    pub(super) fn claims_left(&self) -> bool {
        self.state.claims < self.model.bounds.claims
    }

    pub(super) fn note(&mut self, event: Event) {
        self.state.events |= event as u16;
    }

    pub(super) fn fail(&mut self, rule: Rule) {
        self.state.broken.get_or_insert(rule);
    }

    fn take(&mut self, action: Action) {
        match action {
            Action::Advance => self.state.now = self.model.next_instant(&self.state).unwrap_or(self.state.now),
            Action::Wake(index) => self.wake(index),
            Action::Deliver(index) => self.deliver(index, 0),
            Action::DeliverOneOfTwo(index) => {
                self.state.left.duplicates -= 1;
                let copy = self.state.nodes[index].write_under_way().map(|(write, _)| write.clone());
                self.deliver(index, 0);
                self.state.late.extend(copy);
            }
            Action::DeliverStale(index, back) => {
                self.state.left.stale -= 1;
                self.deliver(index, back);
            }
            Action::Retry(index) => {
                self.state.left.duplicates -= 1;
                self.deliver(index, 0);
            }
            Action::Hear(index) => {
                let answer: Option<Answer> = self.node(index).flight.as_mut().and_then(|flight| flight.answer.take());
                self.answer(index, answer);
            }
            Action::GiveUp(index) => {
                self.state.left.losses -= 1;
                let lost = self.state.nodes[index].write_under_way().filter(|(_, open)| *open);
                let lost = lost.map(|(write, _)| write.clone());
                self.state.late.extend(lost);
                self.answer(index, None);
            }
            Action::ArriveLate(position) => self.arrive_late(position),
            Action::Crash(index) => {
                self.state.left.crashes -= 1;
                self.state.leader_crashed |= self.state.nodes[index].is_valid(self.local(index));
                self.abandon_flight(index);
                // It starts again whenever it wakes.
                let fresh = self.candidate();
                *self.node(index) = Node::following(fresh);
            }
            Action::Resign(index) => {
                self.state.left.resigns -= 1;
                self.resign(index);
            }
            Action::WorkEnds(index) => self.end_work(index),
            Action::Shorten(index) => {
                self.state.left.shortenings -= 1;
                self.shorten(index);
            }
            Action::Act(index) => {
                self.state.left.effects -= 1;
                self.act(index);
            }
            Action::Land(position) => self.land(position),
        }
    }

    /// I1, as the theorem puts it: no other acquisition is applied before a leader's clock shows the end of what its
    /// work may still use, and the guard.
    pub(super) fn check_exclusion(&mut self, by: super::state::Acquisition) {
        let guard = self.model.timing.guard();
        let overtaken = self.state.nodes.iter().enumerate().any(|(index, node)| {
            let Some(tenure) = node.tenure().filter(|tenure| tenure.acquisition != by) else { return false };
            let working = tenure.cell.as_ref().is_some_and(|cell| cell.working);
            let until = tenure.holder.hard_deadline().map(|hard| hard.after(guard).before(ROUNDING));
            working && until.is_some_and(|until| self.local(index) < until)
        });
        if overtaken {
            self.fail(Rule::Exclusion);
        }
    }
}

/// What every clock shows at the beginning.
const ORIGIN: u64 = 1_000_000_000;

/// Two clocks, each of which shows whole nanoseconds.
const ROUNDING: Duration = Duration::from_nanos(2);
