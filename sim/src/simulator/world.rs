//! The world: true time, what happens in it, and the log of it.

mod checks;
mod driver;
mod faults;
mod network;
mod outside;

use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;

use super::foreign::{Foreign, ForeignOp};
use super::node::{Activity, Cell, Flight, LastTerm, NEVER, Node, RETRY_TOKENS, Request, Tenure, Timers};
use super::queue::Queue;
use super::scenario::{DRAIN, EXTENSION, Fault, Judged, Scenario};
use super::store::{Acquisition, HISTORY, Store};
use super::tally::Tally;
use crate::clock::LocalClock;
use crate::lock_layer::{CLAIM_TRIES, is_winding_down, own_write, terms_of};
use crate::protocol::{
    Absence, Candidate, Consistency, Holder, Loss, Moment, Mutant, Next, Noted, Observation, Phase, Plan, ReceivedAt,
    Release, Reply, Restraint, Seen, SentAt, Sighting, Step, Version, Write, WriteKind, Writer, on,
};
use crate::timing::Timing;

/// How often the keeper compares its timers with the clock; as in the lock layer.
const COMPARE_EVERY: u64 = 250_000_000;

#[derive(Debug)]
enum Event {
    /// A request reaches the store; `answered`: its sender waits for this very delivery.
    Arrive {
        node: usize,
        life: u32,
        flight: u64,
        answered: bool,
        request: Request,
    },
    Answer {
        node: usize,
        life: u32,
        flight: u64,
        /// `None`: the server refuses to work.
        answer: Option<Answer>,
    },
    Work {
        node: usize,
        life: u32,
        acquisition: Acquisition,
    },
    Effect {
        acquisition: Acquisition,
        token: u64,
    },
    Fault(Fault),
    Restart {
        node: usize,
        life: u32,
    },
    /// An operator puts right what another one did.
    Mend,
    ForeignActs,
    ForeignArrives(Box<ForeignOp>),
    ForeignHears(Box<(ForeignOp, Result<bool, Seen>)>),
}

#[derive(Debug, Clone)]
enum Answer {
    Write(Reply),
    Read(Seen),
}

/// Which invariant broke, and what happened before.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) what: String,
    pub(crate) log: Vec<String>,
}

/// What another attempt takes from the SDK's retry bucket: after an error, and after a time limit.
const ERROR_COST: u32 = 5;
const TIMEOUT_COST: u32 = 10;

/// The node number of whoever is no node of ours.
const OUTSIDE: usize = usize::MAX;

pub(crate) struct World {
    rng: Rng,
    scenario: Scenario,
    now: u64,
    quiet: u64,
    end: u64,
    /// From here on somebody leads, and goes on leading.
    led_from: u64,
    queue: Queue<Event>,
    store: Store,
    nodes: Vec<Node>,
    foreign: Option<Foreign>,
    acquisitions: Acquisition,
    flights: u64,
    versions: u64,
    /// Of the acquisition that the store applied last (I2).
    last_token: u64,
    resource: Option<(u64, Acquisition)>,
    /// Whoever holds from the end of the liveness bound must hold to the end.
    steady: Option<Acquisition>,
    recovered: bool,
    /// Two or more were valid a moment ago.
    several_valid: bool,
    /// When the record was written last.
    written_at: u64,
    /// The store fails for everybody meanwhile.
    outage: Range<u64>,
    /// The smallest margin of this run.
    smallest: u64,
    log: Option<Vec<String>>,
    tally: Tally,
    broken: Option<String>,
    /// Requests in each second, where they are asked for.
    pub(crate) rates: Option<Vec<u32>>,
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl World {
    /// What follows from one number.
    pub(crate) fn swarm(seed: u64, logging: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let scenario = Scenario::swarm(&mut rng);
        Self::new(scenario, rng, logging)
    }

    pub(crate) fn new(mut scenario: Scenario, mut rng: Rng, logging: bool) -> Self {
        if on(Mutant::TokenInDeletedRecord) {
            scenario.deletes = true;
        }
        let mut clock = |drift| LocalClock::new(rng.u64(1..10_000_000_000_000), drift);
        let nodes = scenario.settings.iter();
        let nodes = nodes.map(|is| Node::new(clock(is.drift), is.timing, scenario.at_tolerance)).collect();
        let lease = scenario.settings[0].timing.lease();
        let foreign =
            scenario.foreign.then(|| Foreign::new(clock(scenario.foreign_drift), lease, scenario.foreign_deletes));
        let mut world = Self {
            rng,
            now: 0,
            quiet: nanos(scenario.quiet),
            end: nanos(scenario.end),
            led_from: nanos(scenario.quiet + scenario.liveness_bound()),
            queue: Queue::default(),
            store: Store::new(scenario.deletes, scenario.forgets()),
            nodes,
            foreign,
            acquisitions: 0,
            flights: 0,
            versions: 0,
            last_token: 0,
            resource: None,
            steady: None,
            recovered: false,
            several_valid: false,
            written_at: 0,
            outage: 0..0,
            smallest: NEVER,
            log: logging.then(Vec::new),
            tally: Tally::default(),
            broken: None,
            rates: None,
            scenario,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let scenario = format!("{:?}", self.scenario);
        self.say(OUTSIDE, || scenario);
        for node in 0..self.nodes.len() {
            let at = self.rng.u64(0..2_000_000_000);
            self.queue.push(at, Event::Restart { node, life: 0 });
        }
        if self.foreign.is_some() {
            let at = self.rng.u64(0..5_000_000_000);
            self.queue.push(at, Event::ForeignActs);
        }
        for fault in Fault::ALL {
            self.next_fault(fault);
        }
        if self.scenario.has_operator() {
            // Whatever an operator broke is mended when faults stop.
            self.queue.push(self.quiet, Event::Mend);
        }
        self.tally.seeds = 1;
        self.tally.seconds = self.scenario.end.as_secs();
        self.tally.default_seconds = if self.scenario.is_default() { self.tally.seconds } else { 0 };
        self.tally.counts.tolerance = u64::from(self.scenario.at_tolerance);
        self.tally.counts.operated = u64::from(self.scenario.has_operator());
        self.tally.counts.forgetful = u64::from(self.scenario.forgets());
    }

    /// The store fails for everybody meanwhile.
    pub(crate) fn fails_between(&mut self, from: Duration, to: Duration) {
        self.outage = nanos(from)..nanos(to);
    }

    /// Runs to the end, or to the first thing that must not be.
    pub(crate) fn run(self) -> (Result<(), Broken>, Tally, Vec<String>) {
        let (result, tally, log, _) = self.run_counting_requests();
        (result, tally, log)
    }

    /// The same, and how many requests there were in each second.
    pub(crate) fn run_counting_requests(mut self) -> (Result<(), Broken>, Tally, Vec<String>, Vec<u32>) {
        while self.broken.is_none() && self.step() {
            self.tally.counts.events += 1;
            self.check();
        }
        if self.broken.is_none() {
            // Each run is an election of its own: at its end it has exactly one leader.
            self.now = self.end;
            self.check();
            self.check_calm_budget();
            self.check_budget();
        }
        if self.smallest != NEVER {
            self.tally.smallest_margin.note(self.smallest);
        }
        let log = self.log.take().unwrap_or_default();
        let rates = self.rates.take().unwrap_or_default();
        match self.broken {
            None => (Ok(()), self.tally, log, rates),
            Some(what) => (Err(Broken { what, log }), self.tally, Vec::new(), rates),
        }
    }

    /// The next thing that happens; `false` at the end.
    fn step(&mut self) -> bool {
        let (mut at, mut who) = (self.queue.next_at().unwrap_or(NEVER), OUTSIDE);
        for (index, node) in self.nodes.iter().enumerate() {
            let due = node.due();
            if due < at {
                (at, who) = (due, index);
            }
        }
        if at >= self.end {
            return false;
        }
        self.now = at;
        if who == OUTSIDE {
            if let Some(event) = self.queue.pop() {
                self.handle(event);
            }
        } else {
            self.timer(who);
        }
        true
    }

    fn say(&mut self, node: usize, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let who = if node == OUTSIDE { "world".into() } else { format!("node {node}") };
            log.push(format!("{:>15} ns  {who}  {}", self.now, text()));
        }
    }

    fn fail(&mut self, what: String) {
        if self.broken.is_none() && self.scenario.judged != Judged::Nothing {
            self.say(OUTSIDE, || format!("BROKEN {what}"));
            self.broken = Some(what);
        }
    }

    fn local(&self, node: usize) -> Moment {
        self.nodes[node].clock.local(self.now)
    }

    fn is_quiet(&self) -> bool {
        self.now >= self.quiet
    }

    fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && !self.is_quiet() && self.rng.f64() < probability
    }

    fn handle(&mut self, event: Event) {
        match event {
            // What is in the network arrives, whatever became of its sender.
            Event::Arrive { node, life, flight, answered, request } => {
                self.arrive(node, life, flight, &request, answered);
            }
            Event::Effect { acquisition, token } => self.effect(acquisition, token),
            Event::Fault(fault) => self.fault(fault),
            Event::Mend => self.mend(),
            Event::ForeignActs => self.foreign_acts(),
            Event::ForeignArrives(op) => self.foreign_arrives(*op),
            Event::ForeignHears(heard) => self.foreign_hears(heard.0, heard.1),
            Event::Answer { node, life, .. } | Event::Work { node, life, .. } | Event::Restart { node, life } => {
                let paused_until = self.nodes[node].paused_until;
                if self.nodes[node].life != life {
                    return;
                }
                if paused_until > self.now {
                    return self.queue.push(paused_until, event);
                }
                self.tell(node, event);
            }
        }
    }

    /// Something reaches a running node.
    fn tell(&mut self, node: usize, event: Event) {
        match event {
            Event::Answer { flight, answer, .. } => self.attempt_answered(node, flight, answer),
            // The machines know nothing of it.
            Event::Work { acquisition, .. } => return self.work(node, acquisition),
            Event::Restart { .. } => self.restart(node),
            _ => {}
        }
        self.drive(node);
    }

    /// One of a node's timers has fired.
    fn timer(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let timers = &mut node.timers;
        if timers.timeout <= now {
            self.answer(index, None);
        } else if timers.retry <= now {
            timers.retry = NEVER;
            if node.flight.as_ref().is_some_and(|open| open.pauses) {
                return self.attempt_again(index);
            }
            self.attempt_failed(index, TIMEOUT_COST);
        } else if timers.compare <= now {
            timers.compare = NEVER;
        } else {
            timers.wake = NEVER;
        }
        self.drive(index);
    }

    fn restart(&mut self, index: usize) {
        let candidate = self.candidate(index);
        self.nodes[index].activity = Activity::Following(candidate);
        self.say(index, || "starts".into());
    }

    fn candidate(&self, index: usize) -> Candidate {
        let timing = self.nodes[index].timing;
        let absence = if self.scenario.deletes { Absence::Free } else { Absence::WaitsOutLease };
        let restraint = Restraint { delay: self.delay(index), ..Restraint::default() };
        let poll = if on(Mutant::PollsTwice) { timing.poll() / 2 } else { timing.poll() };
        let candidate = Candidate::new(poll, timing.lease(), absence, self.scenario.deletes).restrained(restraint);
        // Whoever polls twice as often follows nobody.
        if self.scenario.phase_locked && !on(Mutant::PollsTwice) { candidate.phase_locked() } else { candidate }
    }

    /// How long it lets others go first.
    fn delay(&self, index: usize) -> Duration {
        let more = if on(Mutant::WaitsThrice) { self.nodes[index].timing.lease() * 2 } else { Duration::ZERO };
        self.scenario.settings[index].delay + more
    }

    /// The candidate after a term: others get a turn first.
    fn candidate_again(&mut self, index: usize) -> Candidate {
        let (timing, now) = (self.nodes[index].timing, self.local(index));
        let restraint = Restraint {
            not_before: now.after(timing.poll().mul_f64(1.0 + self.rng.f64())),
            delay: self.delay(index),
            courteous_until: if self.scenario.courteous { now.after(timing.lease()) } else { Moment::default() },
        };
        self.candidate(index).restrained(restraint)
    }
}
