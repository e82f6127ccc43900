//! The world: true time, the network, the faults, and what must hold at every step.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use fastrand::Rng;

use super::foreign::{Foreign, ForeignOp};
use super::node::{Activity, Cell, Flight, LocalClock, Node, Request, Tenure};
use super::scenario::{DRAIN, END, NODES, QUIET, Scenario};
use super::store::{Acquisition, Store};
use crate::protocol::{
    Absence, Candidate, Consistency, Holder, Loss, Moment, Next, Noted, Observation, Phase, ReceivedAt, Release, Reply,
    Seen, SentAt, Sighting, Step, Version, Write, WriteKind, Writer,
};

/// After so many failed writes a claim is taken back; as in the lock layer.
const CLAIM_TRIES: u32 = 3;
/// I7: requests of one node in the whole run stay below what its timing allows, and this for each term.
const PER_TERM: u64 = 12;

/// What was seen to happen over all seeds: a simulator that shows none of it is blind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seldom {
    pub(crate) terms: u64,
    pub(crate) takeovers_after_expiry: u64,
    pub(crate) lost_by_deadline: u64,
    pub(crate) released: u64,
    pub(crate) release_unknown: u64,
    pub(crate) adopted: u64,
    pub(crate) duplicates_refused: u64,
    pub(crate) stale_reads: u64,
    pub(crate) claims_taken_back: u64,
    pub(crate) settled_by_read: u64,
    pub(crate) fenced_off: u64,
    pub(crate) foreign_terms: u64,
    pub(crate) thaws_past_deadline: u64,
    pub(crate) stubborn_work: u64,
}

impl Seldom {
    pub(crate) fn fields(&self) -> [(&'static str, u64); 14] {
        [
            ("terms", self.terms),
            ("take-overs after expiry", self.takeovers_after_expiry),
            ("lost by deadline", self.lost_by_deadline),
            ("released", self.released),
            ("release unknown", self.release_unknown),
            ("own writes adopted", self.adopted),
            ("duplicates refused", self.duplicates_refused),
            ("stale reads", self.stale_reads),
            ("claims taken back", self.claims_taken_back),
            ("settled by a read", self.settled_by_read),
            ("effects fenced off", self.fenced_off),
            ("terms of a foreign client", self.foreign_terms),
            ("thawed past the deadline", self.thaws_past_deadline),
            ("stubborn work", self.stubborn_work),
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.terms += other.terms;
        self.takeovers_after_expiry += other.takeovers_after_expiry;
        self.lost_by_deadline += other.lost_by_deadline;
        self.released += other.released;
        self.release_unknown += other.release_unknown;
        self.adopted += other.adopted;
        self.duplicates_refused += other.duplicates_refused;
        self.stale_reads += other.stale_reads;
        self.claims_taken_back += other.claims_taken_back;
        self.settled_by_read += other.settled_by_read;
        self.fenced_off += other.fenced_off;
        self.foreign_terms += other.foreign_terms;
        self.thaws_past_deadline += other.thaws_past_deadline;
        self.stubborn_work += other.stubborn_work;
    }
}

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
    terms_of: HashMap<usize, u64>,
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
            })
            .collect();
        let foreign = scenario.foreign.then(|| Foreign::new(clock(FOREIGN), scenario.timings[0].lease()));
        let store = Store::new(scenario.deletes);
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
            terms_of: HashMap::new(),
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
        for fault in [Fault::Pause, Fault::Crash, Fault::Cut, Fault::Resign] {
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

    // --- faults

    fn next_fault(&mut self, fault: Fault) {
        let mean = match fault {
            Fault::Pause => self.scenario.pause_every,
            Fault::Crash => self.scenario.crash_every,
            Fault::Cut => self.scenario.cut_every,
            Fault::Resign => self.scenario.resign_every,
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
            Fault::Resign => {
                let now = self.local(index);
                if self.nodes[index].paused_until <= self.now {
                    self.resign(index, now);
                    self.drive(index);
                }
            }
        }
    }

    // --- events

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
        Candidate::new(timing.poll(), timing.lease(), absence, self.scenario.deletes)
    }

    // --- the network

    fn send(&mut self, index: usize, sent: SentAt, request: Request) {
        self.flights += 1;
        let flight = self.flights;
        self.say(index, || format!("sends {request:?}"));
        let node = &mut self.nodes[index];
        node.requests += 1;
        node.flight = Some(Flight { id: flight, sent, request: request.clone() });
        let (clock, timing) = (node.clock, node.timing);
        let retry = clock.true_time(sent.0.after(timing.attempt_timeout()));
        let timeout = clock.true_time(sent.0.after(timing.operation_timeout()));
        self.attempt(index, flight, request);
        self.schedule(retry, index, Event::Retry { flight });
        self.schedule(timeout, index, Event::Timeout { flight });
    }

    fn retry(&mut self, index: usize, flight: u64) {
        if let Some(open) = self.nodes[index].flight.clone().filter(|open| open.id == flight) {
            self.attempt(index, flight, open.request);
        }
    }

    fn attempt(&mut self, index: usize, flight: u64, request: Request) {
        let lose = self.scenario.lose_request;
        if self.nodes[index].cut_until > self.now || self.happens(lose) {
            return;
        }
        let duplicate = self.scenario.duplicate;
        if self.happens(duplicate) {
            let at = self.now + self.network_delay() + self.network_delay();
            self.schedule(at, index, Event::Arrive { flight, request: request.clone(), answered: false });
        }
        let at = self.now + self.network_delay();
        self.schedule(at, index, Event::Arrive { flight, request, answered: true });
    }

    fn arrive(&mut self, index: usize, life: u32, flight: u64, request: &Request, answered: bool) {
        let answer = match request {
            Request::Read(consistency) => {
                let stale = self.scenario.stale;
                let age = if self.happens(stale) { self.rng.f64() } else { 0.0 };
                Answer::Read(self.store.read(*consistency, age))
            }
            Request::Write(write) => {
                let Some(reply) = self.apply(index, write) else { return };
                if !answered && matches!(reply, Reply::Refused(_)) {
                    self.seldom.duplicates_refused += 1;
                }
                Answer::Write(reply)
            }
        };
        let lose = self.scenario.lose_reply;
        let cut = self.nodes[index].cut_until > self.now;
        if answered && self.nodes[index].life == life && !cut && !self.happens(lose) {
            let at = self.now + self.network_delay();
            self.schedule(at, index, Event::Answer { flight, answer });
        }
    }

    /// Applies a write and checks, where it installs somebody new, that nobody else may still act.
    fn apply(&mut self, index: usize, write: &Write) -> Option<Reply> {
        let before = self.store.author;
        let reply = match self.store.write(write) {
            Ok(reply) => reply,
            Err(what) => {
                self.fail(what);
                return None;
            }
        };
        let author = self.store.author_of(&write.version);
        self.say(index, || format!("store: {:?} {:?}: {reply:?}", write.kind, write.version));
        if reply == Reply::Applied && matches!(write.kind, WriteKind::Claim { .. }) && before != author {
            self.check_takeover(author);
        }
        Some(reply)
    }

    /// I1, as the theorem puts it: no other acquisition is applied while a holder's work may still run.
    fn check_takeover(&mut self, by: Option<Acquisition>) {
        for index in 0..NODES {
            let holds = match &self.nodes[index].activity {
                Activity::Tenure(tenure) => Some(tenure.acquisition) != by,
                Activity::Down | Activity::Following(_) => false,
            };
            let (local, until) = (self.local(index), self.nodes[index].untouchable_until());
            if holds && until.is_some_and(|until| local < until) {
                self.fail(format!("I1: taken over from node {index} at {local:?}, whose work may run until {until:?}"));
            }
        }
        let foreign = self.foreign.as_ref().is_some_and(|foreign| foreign.is_valid(foreign.clock.local(self.now)));
        if foreign && by.is_some() {
            self.fail("I1: taken over from a foreign client that still believes in its lease".into());
        }
    }

    // --- what the lock layer does

    fn answer(&mut self, index: usize, flight: u64, answer: Option<Answer>) {
        let Some(open) = self.nodes[index].flight.take_if(|open| open.id == flight) else { return };
        let (now, spread) = (self.local(index), self.rng.f64());
        self.say(index, || format!("hears {answer:?}"));
        let node = &mut self.nodes[index];
        match &mut node.activity {
            Activity::Down => {}
            Activity::Following(candidate) => match answer {
                Some(Answer::Read(seen)) => {
                    let Request::Read(consistency) = open.request else { return };
                    let noted = node.observation.observe(seen, open.sent, ReceivedAt(now), consistency);
                    self.seldom.stale_reads += u64::from(noted == Noted::Stale);
                    candidate.answered(&node.observation, now);
                }
                Some(Answer::Write(_)) => {}
                None => candidate.failed(true, now, spread),
            },
            Activity::Tenure(tenure) => match (open.request, answer) {
                (Request::Write(write), Some(Answer::Write(Reply::Applied))) => {
                    let token = match write.kind {
                        WriteKind::Claim { token } => Some(token),
                        WriteKind::Renew | WriteKind::Release => Some(tenure.holder.token()),
                    };
                    let own = match write.kind {
                        WriteKind::Renew => None,
                        WriteKind::Release if self.scenario.deletes => Some(Seen::Absent),
                        kind => Some(Seen::Record(Sighting {
                            version: write.version.clone(),
                            lease: write.lease,
                            released: kind == WriteKind::Release,
                            writer: Writer::Ours,
                            token,
                        })),
                    };
                    if let Some(own) = own {
                        node.observation.observe(own, open.sent, ReceivedAt(now), Consistency::Strong);
                    }
                    tenure.holder.on_reply(&Reply::Applied, now, spread);
                }
                (Request::Write(write), Some(Answer::Write(reply @ Reply::Refused(_)))) => {
                    let Reply::Refused(seen) = &reply else { return };
                    let noted = node.observation.observe(seen.clone(), open.sent, ReceivedAt(now), Consistency::Strong);
                    tenure.holder.on_reply(&reply, now, spread);
                    let seen = seen.clone();
                    self.after_refusal(index, &write, &seen, noted, now);
                }
                (Request::Write(_), _) => {
                    tenure.holder.on_reply(&Reply::Unknown, now, spread);
                    if tenure.holder.phase() == Phase::Claiming {
                        tenure.candidate.failed(true, now, spread);
                        if tenure.holder.misses() >= CLAIM_TRIES {
                            tenure.giving_up = true;
                            tenure.holder.work_ended(now);
                            self.seldom.claims_taken_back += 1;
                        }
                    }
                }
                (Request::Read(_), Some(Answer::Read(seen))) => {
                    node.observation.observe(seen.clone(), open.sent, ReceivedAt(now), Consistency::Strong);
                    tenure.holder.on_read(Some(&seen), now, spread);
                    self.seldom.settled_by_read += 1;
                }
                (Request::Read(_), _) => tenure.holder.on_read(None, now, spread),
            },
        }
    }

    /// R3 and R4, from outside: what the evidence says decides what it may have led to.
    fn after_refusal(&mut self, index: usize, write: &Write, seen: &Seen, noted: Noted, now: Moment) {
        let Some(tenure) = self.nodes[index].tenure() else { return };
        let phase = tenure.holder.phase();
        if phase == Phase::Refused {
            tenure.candidate.refused(noted, now);
        }
        let (acquisition, attempted) = (tenure.acquisition, tenure.attempted.clone());
        let Seen::Record(found) = seen else { return };
        // A deleted record forgets: there a late creation may come back, owned by nobody, for one lease.
        if self.store.author_of(&found.version) != Some(acquisition) || found.released || self.scenario.deletes {
            return;
        }
        self.seldom.adopted += 1;
        let gone = matches!(phase, Phase::Lost(Loss::TakenOver) | Phase::Refused | Phase::Ended(Release::AlreadyGone));
        if gone {
            self.fail(format!("R4: node {index} gave up on a record of its own: {found:?}, {phase:?}"));
        }
        let back = attempted.iter().rev().position(|version| *version == found.version);
        if back.is_some_and(|back| (1..=2).contains(&back)) {
            self.fail(format!("R3: node {index} was refused by its own latest writes: {write:?}"));
        }
    }

    fn drive(&mut self, index: usize) {
        loop {
            self.after_each_step(index);
            let now = self.local(index);
            let node = &mut self.nodes[index];
            if matches!(node.activity, Activity::Following(_)) && node.flight.is_some() {
                return;
            }
            match &mut node.activity {
                Activity::Down => return,
                Activity::Following(candidate) => match candidate.next(&node.observation, now) {
                    Next::Wait(until) => return self.wake_at(index, until),
                    Next::Read(consistency) => {
                        return self.send(index, SentAt(now), Request::Read(consistency));
                    }
                    Next::Claim { base, token } => self.claim(index, base, token, now),
                },
                Activity::Tenure(tenure) => {
                    let phase = tenure.holder.phase();
                    if let Phase::Ended(_) | Phase::Refused = phase {
                        self.term_over(index, phase);
                        continue;
                    }
                    let cell = tenure.cell.as_ref();
                    let drain = cell.and_then(|cell| cell.drain_until).filter(|_| is_winding_down(phase));
                    let work = cell.filter(|cell| cell.working).and_then(|cell| cell.work_ends);
                    let step = tenure.holder.poll(now);
                    let until = match step {
                        Step::Send => {
                            self.write(index, now);
                            continue;
                        }
                        Step::Read => {
                            tenure.holder.begin_read();
                            self.send(index, SentAt(now), Request::Read(Consistency::Strong));
                            continue;
                        }
                        Step::Wait(until) => Some(until),
                        Step::Idle => None,
                    };
                    if tenure.holder.phase() != phase {
                        continue;
                    }
                    if let Some(until) = [until, drain, work].into_iter().flatten().min() {
                        self.wake_at(index, until);
                    }
                    return;
                }
            }
        }
    }

    fn claim(&mut self, index: usize, base: Option<Version>, token: u64, now: Moment) {
        self.acquisitions += 1;
        self.seldom.takeovers_after_expiry += u64::from(
            self.store.record.as_ref().is_some_and(|record| Some(&record.version) == base.as_ref() && !record.released),
        );
        let node = &mut self.nodes[index];
        let holder = Holder::claim(base, token, node.terms(), now);
        let following = std::mem::replace(&mut node.activity, Activity::Down);
        let Activity::Following(candidate) = following else { return };
        node.activity = Activity::Tenure(Box::new(Tenure {
            holder,
            acquisition: self.acquisitions,
            candidate,
            cell: None,
            giving_up: false,
            attempted: Vec::new(),
        }));
    }

    fn write(&mut self, index: usize, now: Moment) {
        self.versions += 1;
        let version = Version::new(format!("v{}", self.versions));
        let Some(tenure) = self.nodes[index].tenure() else { return };
        let write = tenure.holder.begin(SentAt(now), version.clone());
        tenure.attempted.push(version.clone());
        let acquisition = tenure.acquisition;
        let runs = tenure.cell.as_ref().is_some_and(|cell| cell.working || !cell.token_fired);
        self.store.register(&version, acquisition);
        if write.kind == WriteKind::Release && runs {
            self.fail(format!("I5: node {index} releases while its work runs"));
        }
        self.send(index, SentAt(now), Request::Write(write));
    }

    fn term_over(&mut self, index: usize, phase: Phase) {
        let fresh = self.candidate(index);
        let node = &mut self.nodes[index];
        let following = std::mem::replace(&mut node.activity, Activity::Down);
        let Activity::Tenure(tenure) = following else { return };
        node.flight = None;
        // An acquisition that was never handed out goes on with its campaign; a term starts another.
        let held = tenure.cell.is_some();
        node.activity = Activity::Following(if held { fresh } else { tenure.candidate });
        if held {
            self.seldom.released += u64::from(phase == Phase::Ended(Release::Released));
            self.seldom.release_unknown += u64::from(phase == Phase::Ended(Release::Unknown));
        }
        self.say(index, || format!("acquisition {} is over: {phase:?}", tenure.acquisition));
    }

    /// The holding task's turn, in its order: deadline first, then work, then what follows from both.
    fn after_each_step(&mut self, index: usize) {
        let now = self.local(index);
        let Some(tenure) = self.nodes[index].tenure() else { return };
        tenure.holder.expire(now);
        let phase = tenure.holder.phase();
        if phase == Phase::Holding && tenure.cell.is_none() && !tenure.giving_up {
            self.handed_out(index, now);
        }
        let drain = self.rng.f64();
        let stubborn = self.scenario.stubborn;
        let stubborn = self.happens(stubborn);
        let Some(tenure) = self.nodes[index].tenure() else { return };
        let (held_until, hard) = (tenure.holder.held_until(), tenure.holder.hard_deadline());
        let Some(cell) = &mut tenure.cell else { return };
        if cell.was_over && held_until.is_some() {
            return self.fail(format!("R8: node {index} holds again what was over"));
        }
        cell.valid_until = held_until;
        let mut lost = None;
        if let Phase::Lost(loss) = phase
            && !cell.was_over
        {
            cell.was_over = true;
            cell.drain_until = Some(hard.unwrap_or(now));
            lost = Some(loss);
        }
        if let Some(loss) = lost {
            if loss != Loss::Deadline {
                // Only operators can do that, and there are none here.
                return self.fail(format!("I1: node {index} lost its lease before its deadline: {loss:?}"));
            }
            cell.token_fired = true;
            // Work notices and winds down before its hard limit, unless it is stubborn.
            let left = cell.drain_until.unwrap_or(now).since(now).mul_f64(drain);
            cell.work_ends = Some(if stubborn { Moment::from_nanos(u64::MAX) } else { now.after(left) });
            self.seldom.lost_by_deadline += 1;
            self.seldom.stubborn_work += u64::from(stubborn);
        }
        let Some(tenure) = self.nodes[index].tenure() else { return };
        let Some(cell) = &mut tenure.cell else { return };
        if cell.working && cell.work_ends.is_some_and(|ends| now >= ends) {
            cell.working = false;
        }
        if is_winding_down(phase) {
            if !cell.working {
                cell.valid_until = None;
                cell.was_over = true;
                tenure.holder.work_ended(now);
            } else if cell.drain_until.is_some_and(|until| now >= until) {
                // It could not be dropped: no release, the lease runs out. What it does from here on is its user's fault.
                cell.valid_until = None;
                cell.was_over = true;
                cell.working = false;
                tenure.holder.abandon();
            }
        }
    }

    fn handed_out(&mut self, index: usize, now: Moment) {
        let Some(tenure) = self.nodes[index].tenure() else { return };
        let (token, acquisition) = (tenure.holder.token(), tenure.acquisition);
        tenure.cell = Some(Cell {
            valid_until: tenure.holder.held_until(),
            token_fired: false,
            working: true,
            work_ends: None,
            drain_until: None,
            was_over: false,
        });
        self.seldom.terms += 1;
        *self.terms_of.entry(index).or_default() += 1;
        self.say(index, || format!("leads with token {token}"));
        if self.scenario.has_tokens() && token <= self.last_token {
            self.fail(format!("I2: token {token} after {}", self.last_token));
        }
        self.last_token = token;
        let at = self.nodes[index].clock.true_time(now);
        self.schedule(at, index, Event::Work { acquisition });
    }

    fn resign(&mut self, index: usize, now: Moment) {
        let (share, grace) = (self.rng.f64(), self.nodes[index].timing.guard());
        let Some(tenure) = self.nodes[index].tenure() else { return };
        let Some(cell) = tenure.cell.as_mut().filter(|cell| !cell.token_fired) else { return };
        if tenure.holder.phase() != Phase::Holding {
            return;
        }
        tenure.holder.resign();
        cell.token_fired = true;
        cell.drain_until = Some(now.after(DRAIN + grace));
        cell.work_ends = Some(now.after(DRAIN.mul_f64(share)));
    }

    // --- the work of a leader

    /// Checks, then sends an effect that carries its token and may take its time.
    fn work(&mut self, index: usize, acquisition: Acquisition) {
        let valid = self.nodes[index].is_valid(self.now);
        let Some(tenure) = self.nodes[index].tenure() else { return };
        if tenure.acquisition != acquisition || !tenure.cell.as_ref().is_some_and(|cell| cell.working) {
            return;
        }
        let token = tenure.holder.token();
        if valid {
            let late = if self.happens(0.05) { self.rng.u64(0..20_000_000_000) } else { self.network_delay() };
            self.schedule(self.now + late, FOREIGN, Event::Effect { acquisition, token });
        }
        let next = self.now + self.rng.u64(300_000_000..2_000_000_000);
        self.schedule(next, index, Event::Work { acquisition });
    }

    /// I4: the resource accepts nothing lower than what it has seen.
    fn effect(&mut self, acquisition: Acquisition, token: u64) {
        if !self.scenario.has_tokens() {
            return;
        }
        match self.resource {
            Some((highest, _)) if token < highest => self.seldom.fenced_off += 1,
            Some((highest, other)) if token == highest && other != acquisition => {
                self.fail(format!("I4: acquisitions {other} and {acquisition} both act with token {token}"));
            }
            _ => self.resource = Some((token, acquisition)),
        }
    }

    // --- the foreign client

    fn foreign_acts(&mut self) {
        let quiet = self.is_quiet();
        let resign = self.rng.u8(0..20) == 0;
        let Some(foreign) = &mut self.foreign else { return };
        let now = foreign.clock.local(self.now);
        let op = foreign.act(now, resign || quiet);
        let mut period = nanos(foreign.period());
        let delay = self.network_delay();
        let lose = self.scenario.lose_request;
        if !self.happens(lose) {
            self.schedule(self.now + delay, FOREIGN, Event::ForeignArrives(op));
        }
        if self.happens(0.02) {
            // It freezes for longer than its lease.
            period += period * 8;
        }
        if !quiet {
            self.schedule(self.now + period, FOREIGN, Event::ForeignActs);
        }
    }

    fn foreign_arrives(&mut self, op: ForeignOp) {
        let heard = match &op {
            ForeignOp::Read => Err(self.store.read(Consistency::Strong, 0.0)),
            ForeignOp::Release(version) => {
                self.store.foreign_release(version);
                return;
            }
            ForeignOp::Put { base, version, .. } => {
                let lease = self.foreign.as_ref().map_or(Duration::from_secs(10), |foreign| foreign.lease);
                let before = self.store.author;
                match self.store.foreign_put(base.as_ref(), version.clone(), lease) {
                    Ok(applied) => {
                        if applied && before.is_some() {
                            self.check_takeover(None);
                        }
                        Ok(applied)
                    }
                    Err(what) => return self.fail(what),
                }
            }
        };
        self.say(FOREIGN, || format!("foreign {op:?}: {heard:?}"));
        let delay = self.network_delay();
        self.schedule(self.now + delay, FOREIGN, Event::ForeignHears(op, heard));
    }

    fn foreign_hears(&mut self, op: ForeignOp, heard: Result<bool, Seen>) {
        let quiet = self.is_quiet();
        let Some(foreign) = &mut self.foreign else { return };
        let now = foreign.clock.local(self.now);
        match (op, heard) {
            (ForeignOp::Put { base, version, sent }, Ok(applied)) => {
                let first = foreign.held.as_ref().map(|(version, _)| version) != base.as_ref();
                foreign.put_answered(applied, version, sent);
                self.seldom.foreign_terms += u64::from(applied && first);
            }
            (_, Err(seen)) if !quiet && foreign.held.is_none() => {
                if let Some(put) = foreign.saw(&seen, now) {
                    let delay = self.network_delay();
                    self.schedule(self.now + delay, FOREIGN, Event::ForeignArrives(put));
                }
            }
            _ => {}
        }
    }

    // --- what must hold

    fn check(&mut self) {
        let now = self.now;
        let ours = self.nodes.iter().filter(|node| node.is_valid(now)).count();
        let foreign = self.foreign.as_ref().is_some_and(|foreign| foreign.is_valid(foreign.clock.local(now)));
        if ours + usize::from(foreign) > 1 {
            self.fail(format!("I1: {ours} valid holders of ours, foreign: {foreign}"));
        }
        if now < nanos(QUIET + self.scenario.liveness_bound()) {
            return;
        }
        // I6: somebody leads by now, and nothing deposes a healthy leader.
        let holder = self.nodes.iter().find(|node| node.is_valid(now)).map(|node| match &node.activity {
            Activity::Tenure(tenure) => tenure.acquisition,
            Activity::Down | Activity::Following(_) => 0,
        });
        match (holder, self.steady) {
            (None, _) => self.fail("I6: nobody leads although all faults have stopped".into()),
            (Some(holder), Some(steady)) if holder != steady => {
                self.fail(format!("I6: a healthy leader was replaced: {steady} by {holder}"));
            }
            (holder, _) => self.steady = holder,
        }
    }

    /// I7: nobody asks more than its timing allows: polls or heartbeats, retries at a quarter of a heartbeat.
    fn check_budget(&mut self) {
        for index in 0..NODES {
            let node = &self.nodes[index];
            let fastest = node.timing.poll().min(node.timing.heartbeat() / 4).as_secs_f64() / 2.0;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let allowed =
                (END.as_secs_f64() / fastest) as u64 + PER_TERM * self.terms_of.get(&index).unwrap_or(&0) + 50;
            let (requests, calm) = (node.requests, self.scenario.lose_request == 0.0);
            if requests > allowed {
                self.fail(format!("I7: node {index} sent {requests} requests, {allowed} are allowed (calm: {calm})"));
            }
        }
    }
}

fn is_winding_down(phase: Phase) -> bool {
    matches!(phase, Phase::Draining | Phase::Lost(_))
}
