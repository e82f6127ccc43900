//! The world: true time, the network, the faults, and what must hold at every step.

mod checks;
mod driver;
mod network;
mod outside;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;

use super::foreign::{Foreign, ForeignOp};
use super::node::{Activity, Cell, Flight, LocalClock, Node, Request, Tenure};
use super::scenario::{DRAIN, END, EXTENSION, NODES, QUIET, Scenario};
use super::seldom::Seldom;
use super::store::{Acquisition, HISTORY, Store};
use crate::protocol::{
    Absence, Candidate, Consistency, Holder, Loss, Moment, Next, Noted, Observation, Phase, ReceivedAt, Release, Reply,
    Restraint, Seen, SentAt, Sighting, Step, Version, Write, WriteKind, Writer,
};
use crate::terms_of;

/// After so many failed writes a claim is taken back; as in the lock layer.
const CLAIM_TRIES: u32 = 3;
/// I7: requests of one node in the whole run stay below what its timing allows, and this for each term.
const PER_TERM: u64 = 12;

#[derive(Debug, Clone)]
enum Event {
    Wake,
    /// A request reaches the store; `answered`: its sender waits for this very delivery.
    Arrive {
        flight: u64,
        request: Request,
        answered: bool,
    },
    /// The SDK's own second attempt of the same request.
    Retry {
        flight: u64,
    },
    Timeout {
        flight: u64,
    },
    Answer {
        flight: u64,
        answer: Answer,
    },
    Work {
        acquisition: Acquisition,
    },
    Effect {
        acquisition: Acquisition,
        token: u64,
    },
    Fault(Fault),
    Restart,
    ForeignActs,
    ForeignArrives(ForeignOp),
    ForeignHears(ForeignOp, Result<bool, Seen>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Pause,
    Crash,
    Cut,
    Resign,
    Extend,
}

#[derive(Debug, Clone)]
enum Answer {
    Write(Reply),
    Read(Seen),
}

#[derive(Debug)]
struct Queued {
    at: u64,
    order: u64,
    node: usize,
    life: u32,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Which invariant broke, and what happened before.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) what: String,
    pub(crate) log: Vec<String>,
}

/// The node number of whoever is no node of ours.
const FOREIGN: usize = NODES;

pub(crate) struct World {
    rng: Rng,
    scenario: Scenario,
    now: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    orders: u64,
    store: Store,
    nodes: Vec<Node>,
    foreign: Option<Foreign>,
    acquisitions: Acquisition,
    flights: u64,
    versions: u64,
    last_token: u64,
    resource: Option<(u64, Acquisition)>,
    /// Whoever holds from the end of the liveness bound must hold to the end.
    steady: Option<Acquisition>,
    log: Option<Vec<String>>,
    pub(crate) seldom: Seldom,
    broken: Option<String>,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl World {
    pub(crate) fn new(seed: u64, logging: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let scenario = Scenario::draw(&mut rng);
        let mut clock = |index: usize| LocalClock::new(rng.u64(1..10_000_000_000_000), scenario.drifts[index]);
        let nodes = (0..NODES)
            .map(|index| Node {
                clock: clock(index),
                timing: scenario.timings[index],
                observation: Observation::default(),
                activity: Activity::Down,
                flight: None,
                life: 0,
                paused_until: 0,
                cut_until: 0,
                requests: 0,
                led: 0,
            })
            .collect();
        let foreign = scenario
            .foreign
            .then(|| Foreign::new(clock(FOREIGN), scenario.timings[0].lease(), scenario.foreign_deletes));
        let store = Store::new(scenario.deletes, scenario.forgets());
        let mut world = Self {
            rng,
            now: 0,
            queue: BinaryHeap::new(),
            orders: 0,
            store,
            nodes,
            foreign,
            acquisitions: 0,
            flights: 0,
            versions: 0,
            last_token: 0,
            resource: None,
            steady: None,
            log: logging.then(Vec::new),
            seldom: Seldom::default(),
            broken: None,
            scenario,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let scenario = format!("{:?}", self.scenario);
        self.say(FOREIGN, || scenario);
        for node in 0..NODES {
            let at = self.rng.u64(0..2_000_000_000);
            self.schedule(at, node, Event::Restart);
        }
        if self.foreign.is_some() {
            let at = self.rng.u64(0..5_000_000_000);
            self.schedule(at, FOREIGN, Event::ForeignActs);
        }
        for fault in [Fault::Pause, Fault::Crash, Fault::Cut, Fault::Resign, Fault::Extend] {
            self.next_fault(fault);
        }
    }

    /// Runs to the end, or to the first thing that must not be.
    pub(crate) fn run(mut self) -> (Result<(), Broken>, Seldom, Vec<String>) {
        while let Some(Reverse(next)) = self.queue.pop() {
            if next.at > nanos(END) || self.broken.is_some() {
                break;
            }
            self.now = next.at;
            self.handle(next);
            self.check();
        }
        if self.broken.is_none() {
            // Each run is an election of its own: at its end it has exactly one leader.
            self.now = nanos(END);
            self.check();
            self.check_budget();
        }
        let log = self.log.take().unwrap_or_default();
        match self.broken {
            None => (Ok(()), self.seldom, log),
            Some(what) => (Err(Broken { what, log }), self.seldom, Vec::new()),
        }
    }

    fn say(&mut self, node: usize, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let who = if node == FOREIGN { "world".into() } else { format!("node {node}") };
            log.push(format!("{:>15} ns  {who}  {}", self.now, text()));
        }
    }

    fn fail(&mut self, what: String) {
        if self.broken.is_none() {
            self.say(FOREIGN, || format!("BROKEN {what}"));
            self.broken = Some(what);
        }
    }

    fn schedule(&mut self, at: u64, node: usize, event: Event) {
        let life = self.nodes.get(node).map_or(0, |node| node.life);
        self.orders += 1;
        self.queue.push(Reverse(Queued { at: at.max(self.now), order: self.orders, node, life, event }));
    }

    fn wake_at(&mut self, node: usize, moment: Moment) {
        // Timers are a little late, as they are.
        let late = self.rng.u64(0..2_000_000);
        let at = self.nodes[node].clock.true_time(moment).saturating_add(late);
        self.schedule(at, node, Event::Wake);
    }

    fn local(&self, node: usize) -> Moment {
        self.nodes[node].clock.local(self.now)
    }

    fn is_quiet(&self) -> bool {
        self.now >= nanos(QUIET)
    }

    fn happens(&mut self, probability: f64) -> bool {
        !self.is_quiet() && self.rng.f64() < probability
    }

    fn network_delay(&mut self) -> u64 {
        let slow = self.scenario.slow;
        if self.happens(slow) {
            self.rng.u64(0..nanos(self.scenario.max_delay))
        } else {
            self.rng.u64(1_000_000..15_000_000)
        }
    }

    fn next_fault(&mut self, fault: Fault) {
        let mean = match fault {
            Fault::Pause => self.scenario.pause_every,
            Fault::Crash => self.scenario.crash_every,
            Fault::Cut => self.scenario.cut_every,
            Fault::Resign => self.scenario.resign_every,
            Fault::Extend => self.scenario.extend_every,
        };
        let Some(mean) = mean else { return };
        let at = self.now + self.rng.u64(0..2 * nanos(mean));
        if at < nanos(QUIET) {
            self.schedule(at, FOREIGN, Event::Fault(fault));
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.next_fault(fault);
        // Mostly the leader: faults of followers are dull.
        let leader = (0..NODES).find(|index| self.nodes[*index].cell().is_some());
        let any = self.rng.usize(0..NODES);
        let index = if self.rng.bool() { leader.unwrap_or(any) } else { any };
        let lease = nanos(self.nodes[index].timing.lease());
        let until = (self.now + self.rng.u64(0..lease * 3 / 2)).min(nanos(QUIET));
        self.say(index, || format!("{fault:?} until {until}"));
        match fault {
            Fault::Pause => {
                let node = &mut self.nodes[index];
                node.paused_until = until;
                self.seldom.thaws_past_deadline += u64::from(node.is_valid(self.now) && !node.is_valid(until));
            }
            Fault::Cut => self.nodes[index].cut_until = until,
            Fault::Crash => {
                let node = &mut self.nodes[index];
                node.life += 1;
                node.flight = None;
                node.activity = Activity::Down;
                // Memory is lost, the clock of the machine runs on.
                node.observation = Observation::default();
                self.schedule(until, index, Event::Restart);
            }
            Fault::Resign | Fault::Extend => {
                let now = self.local(index);
                if self.nodes[index].paused_until <= self.now {
                    if fault == Fault::Resign {
                        self.resign(index, now)
                    } else {
                        self.extend(index, now)
                    }
                    self.drive(index);
                }
            }
        }
    }

    fn handle(&mut self, queued: Queued) {
        let Queued { node, life, event, .. } = queued;
        match event {
            Event::Fault(fault) => return self.fault(fault),
            // What is in the network arrives, whatever became of its sender.
            Event::Arrive { flight, request, answered } => return self.arrive(node, life, flight, &request, answered),
            Event::Effect { acquisition, token } => return self.effect(acquisition, token),
            Event::ForeignActs => return self.foreign_acts(),
            Event::ForeignArrives(op) => return self.foreign_arrives(op),
            Event::ForeignHears(op, heard) => return self.foreign_hears(op, heard),
            Event::Wake
            | Event::Retry { .. }
            | Event::Timeout { .. }
            | Event::Answer { .. }
            | Event::Work { .. }
            | Event::Restart => {}
        }
        if self.nodes[node].life != life {
            return;
        }
        let paused_until = self.nodes[node].paused_until;
        if paused_until > self.now {
            return self.schedule(paused_until, node, event);
        }
        match event {
            Event::Restart => self.restart(node),
            Event::Retry { flight } => self.retry(node, flight),
            Event::Timeout { flight } => self.answer(node, flight, None),
            Event::Answer { flight, answer } => self.answer(node, flight, Some(answer)),
            Event::Work { acquisition } => self.work(node, acquisition),
            Event::Wake => {}
            Event::Fault(_)
            | Event::Arrive { .. }
            | Event::Effect { .. }
            | Event::ForeignActs
            | Event::ForeignArrives(_)
            | Event::ForeignHears(..) => return,
        }
        self.drive(node);
    }

    fn restart(&mut self, index: usize) {
        let candidate = self.candidate(index);
        self.nodes[index].activity = Activity::Following(candidate);
        self.say(index, || "starts".into());
    }

    fn candidate(&self, index: usize) -> Candidate {
        let timing = self.nodes[index].timing;
        let absence = if self.scenario.deletes { Absence::Free } else { Absence::WaitsOutLease };
        let restraint = Restraint { delay: self.scenario.delays[index], ..Restraint::default() };
        Candidate::new(timing.poll(), timing.lease(), absence, self.scenario.deletes).restrained(restraint)
    }

    /// The candidate after a term: others get a turn first.
    fn candidate_again(&mut self, index: usize) -> Candidate {
        let (timing, now) = (self.nodes[index].timing, self.local(index));
        let restraint = Restraint {
            not_before: now.after(timing.poll().mul_f64(1.0 + self.rng.f64())),
            delay: self.scenario.delays[index],
            courtesy: if self.scenario.courteous { timing.lease() } else { Duration::ZERO },
        };
        self.candidate(index).restrained(restraint)
    }
}
