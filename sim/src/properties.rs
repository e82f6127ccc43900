//! Random sequences of everything that can happen, in any order and at any time, on a perfect clock:
//! what the simulator makes likely, proptest makes small.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use crate::lock_layer::terms_of;
use crate::protocol::*;
use crate::record;
use crate::timing::Timing;

pub(crate) const NODES: usize = 2;

/// What may happen. Indices pick among what there is at that moment.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Pass(u64),
    /// The node's task wakes up: it sends what it wants to send.
    Wake(usize),
    /// Requests arrive late, twice, in any order; their answers come, or don't.
    Arrive {
        which: usize,
        answered: bool,
        again: bool,
    },
    Answer(usize),
    GiveUpWaiting(usize),
    Resign(usize),
    WorkEnds(usize),
    /// Every further write promises a lease of so many times the usual length.
    Extend(usize, u32),
    /// The process is gone and comes back without memory.
    Crash(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let node = 0..NODES;
    prop_oneof![
        16 => (1_u64..5_000).prop_map(Act::Pass),
        24 => node.clone().prop_map(Act::Wake),
        16 => (0_usize..8, prop::bool::weighted(0.8), prop::bool::weighted(0.1))
            .prop_map(|(which, answered, again)| Act::Arrive { which, answered, again }),
        16 => (0_usize..8).prop_map(Act::Answer),
        1 => node.clone().prop_map(Act::GiveUpWaiting),
        1 => node.clone().prop_map(Act::Resign),
        1 => node.clone().prop_map(Act::WorkEnds),
        1 => (node.clone(), 1..=3_u32).prop_map(|(node, times)| Act::Extend(node, times)),
        1 => node.prop_map(Act::Crash),
    ]
}

#[derive(Debug, Clone)]
enum Ask {
    Read,
    Write(Write),
}

#[derive(Debug)]
struct Sent {
    node: usize,
    flight: u64,
    at: SentAt,
    ask: Ask,
}

struct Node {
    known: Observation,
    candidate: Candidate,
    holder: Option<Holder>,
    flight: Option<u64>,
    working: bool,
    was_over: bool,
}

fn terms() -> Terms {
    terms_of(Timing::default())
}

fn extended(times: u32) -> Terms {
    let timing = Timing::default();
    terms_of(timing.with_lease(timing.lease() * times).expect("longer leases are fine"))
}

impl Node {
    fn new() -> Self {
        let candidate = Candidate::new(Duration::from_secs(1), terms().lease, Absence::WaitsOutLease, false);
        Self { known: Observation::default(), candidate, holder: None, flight: None, working: false, was_over: false }
    }
}

struct World {
    now: Moment,
    nodes: Vec<Node>,
    record: Option<Sighting>,
    overwritten: HashSet<Version>,
    network: Vec<Sent>,
    answers: Vec<(Sent, Result<Reply, Seen>)>,
    count: u64,
    tokens: Vec<u64>,
    fence: u64,
}

impl World {
    fn new() -> Self {
        Self {
            now: Moment::from_nanos(1_000_000_000),
            nodes: (0..NODES).map(|_| Node::new()).collect(),
            record: None,
            overwritten: HashSet::new(),
            network: Vec::new(),
            answers: Vec::new(),
            count: 0,
            tokens: Vec::new(),
            fence: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Pass(millis) => self.now = self.now.after(Duration::from_millis(*millis)),
            Act::Wake(node) => self.wake(*node),
            Act::Arrive { which, answered, again } => self.arrive(*which, *answered, *again),
            Act::Answer(which) => self.answer(*which),
            Act::GiveUpWaiting(node) => self.give_up(*node),
            Act::Resign(node) => {
                if let Some(holder) = &mut self.nodes[*node].holder {
                    holder.resign();
                }
            }
            Act::WorkEnds(node) => self.work_ends(*node),
            Act::Extend(node, times) => {
                let now = self.now;
                if let Some(holder) = &mut self.nodes[*node].holder {
                    holder.set_terms(extended(*times));
                    holder.beat_now(now);
                }
            }
            Act::Crash(node) => self.nodes[*node] = Node::new(),
        }
        self.check();
    }

    fn work_ends(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if let Some(holder) = &mut node.holder {
            node.working = false;
            holder.work_ended(now);
        }
    }

    fn send(&mut self, node: usize, ask: Ask) {
        let flight = self.number();
        self.nodes[node].flight = Some(flight);
        self.network.push(Sent { node, flight, at: SentAt(self.now), ask });
    }

    fn wake(&mut self, index: usize) {
        let (now, number) = (self.now, self.number());
        let node = &mut self.nodes[index];
        if let Some(holder) = &mut node.holder {
            holder.expire(now);
            if node.flight.is_some() {
                return;
            }
            match holder.poll(now) {
                Step::Send => {
                    let write = holder.begin(SentAt(now), Version::new(format!("v{number}")));
                    // I5
                    assert!(write.kind != WriteKind::Release || !node.working, "released while work runs");
                    self.send(index, Ask::Write(write));
                }
                Step::Read => {
                    holder.begin_read();
                    self.send(index, Ask::Read);
                }
                Step::Wait(_) | Step::Idle => {}
            }
        } else if node.flight.is_none() {
            match node.candidate.next(&node.known, now) {
                Next::Read(_) => self.send(index, Ask::Read),
                Next::Claim { base, token } => {
                    node.was_over = false;
                    node.holder = Some(Holder::claim(base, token, terms(), now));
                    self.wake(index);
                }
                Next::Wait(_) => {}
            }
        }
    }

    fn arrive(&mut self, which: usize, answered: bool, again: bool) {
        if self.network.is_empty() {
            return;
        }
        let which = which % self.network.len();
        let sent = self.network.swap_remove(which);
        let seen = || record::seen(self.record.as_ref());
        let result = match &sent.ask {
            Ask::Read => Err(seen()),
            Ask::Write(write) => {
                let old = seen();
                Ok(if self.apply(write, sent.node) { Reply::Applied } else { Reply::Refused(old) })
            }
        };
        if again {
            self.network.push(Sent { ask: sent.ask.clone(), ..sent });
        }
        if answered {
            self.answers.push((sent, result));
        }
    }

    fn apply(&mut self, write: &Write, author: usize) -> bool {
        let current = self.record.as_ref();
        if !record::holds(write, current) {
            return false;
        }
        let repeated = current.is_some_and(|record| record.version == write.version);
        // I3
        assert!(repeated || !self.overwritten.contains(&write.version), "{:?} came back", write.version);
        if let (WriteKind::Claim { .. }, false) = (write.kind, repeated) {
            for (index, node) in self.nodes.iter().enumerate().filter(|(index, _)| *index != author) {
                let hard = node.holder.as_ref().filter(|_| node.working).and_then(Holder::hard_deadline);
                // I1, as strong as the theorem has it.
                assert!(hard.is_none_or(|hard| self.now >= hard), "taken over from node {index} before its hard limit");
            }
        }
        let next = record::after(write, current);
        if let Some(old) = self.record.replace(next).filter(|_| !repeated) {
            self.overwritten.insert(old.version);
        }
        true
    }

    fn answer(&mut self, which: usize) {
        if self.answers.is_empty() {
            return;
        }
        let which = which % self.answers.len();
        let (sent, result) = self.answers.swap_remove(which);
        let now = self.now;
        let node = &mut self.nodes[sent.node];
        if node.flight != Some(sent.flight) {
            return;
        }
        node.flight = None;
        let seen = match &result {
            Err(seen) | Ok(Reply::Refused(seen)) => Some(seen.clone()),
            Ok(_) => None,
        };
        let noted = seen.clone().map(|seen| node.known.observe(seen, sent.at, ReceivedAt(now), Consistency::Strong));
        let before = node.holder.as_ref().map(Holder::phase);
        match (&mut node.holder, &result) {
            (Some(holder), Ok(reply)) => holder.on_reply(reply, now, 0.5),
            (Some(holder), Err(_)) => holder.on_read(seen.as_ref(), now, 0.5),
            (None, _) => node.candidate.answered(&node.known, sent.at, now),
        }
        self.after_answer(sent.node, before, noted);
    }

    fn give_up(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.flight.take().is_some() {
            let before = node.holder.as_ref().map(Holder::phase);
            match &mut node.holder {
                // A read that fails and a write without an answer are the same to it.
                Some(holder) => {
                    holder.on_reply(&Reply::Unknown, now, 0.5);
                    holder.on_read(None, now, 0.5);
                }
                None => node.candidate.failed(true, now, 0.5),
            }
            self.after_answer(index, before, None);
        }
    }

    fn after_answer(&mut self, index: usize, before: Option<Phase>, noted: Option<Noted>) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let Some(holder) = &mut node.holder else { return };
        let phase = holder.phase();
        if before == Some(Phase::Claiming) && phase == Phase::Holding {
            node.working = true;
            // I2
            let token = holder.token();
            assert!(self.tokens.last().is_none_or(|last| *last < token), "token {token} after {:?}", self.tokens);
            self.tokens.push(token);
        }
        if let Phase::Refused | Phase::Ended(_) = phase {
            node.holder = None;
            node.working = false;
            node.flight = None;
            node.candidate.refused(noted.unwrap_or(Noted::Same), now);
        }
    }

    fn check(&mut self) {
        let now = self.now;
        let mut valid = Vec::new();
        for node in &mut self.nodes {
            let Some(holder) = &mut node.holder else { continue };
            let until = holder.held_until();
            // R8: once over, over for good.
            let over = until.is_none_or(|until| now >= until) && node.working;
            node.was_over |= over;
            holder.expire(now);
            assert!(!(node.was_over && holder.held_until().is_some()), "revived");
            if let Some(token) = until.filter(|until| now < *until && node.working).map(|_| holder.token()) {
                valid.push(token);
            }
        }
        // I1 and I4: one at most, and what it does is never fenced off.
        assert!(valid.len() <= 1, "two valid holders: {valid:?}");
        if let Some(token) = valid.first() {
            assert!(*token >= self.fence, "token {token} acts after {}", self.fence);
            self.fence = *token;
        }
    }
}

/// How many terms a sequence has; it panics where it breaks an invariant.
pub(crate) fn run(acts: &[Act]) -> usize {
    let mut world = World::new();
    for act in acts {
        world.act(act);
    }
    world.tokens.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// I1 to I5, R8, and I9: whatever happens, in whatever order.
    #[test]
    fn no_sequence_of_events_breaks_an_invariant(acts in prop::collection::vec(act(), 0..400)) {
        run(&acts);
    }
}

/// The property says something: sequences like its own elect several holders, and break with a rule broken.
#[test]
fn the_sequences_elect_holders_and_notice_a_broken_rule() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = prop::collection::vec(act(), 400);
    let sequences: Vec<Vec<Act>> =
        (0..2_000).map(|_| strategy.new_tree(&mut runner).expect("a sequence").current()).collect();
    let terms: usize = sequences.iter().map(|acts| run(acts)).sum();
    assert!(terms > 2_000, "{terms} terms in 2,000 sequences");
    for mutant in [Mutant::DeadlineFromReply, Mutant::FirstSeenFromSend, Mutant::TimerNotReset, Mutant::TokenNotRaised]
    {
        let quiet = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let noticed =
            sequences.iter().any(|acts| std::panic::catch_unwind(|| run_with(Some(mutant), || run(acts))).is_err());
        std::panic::set_hook(quiet);
        assert!(noticed, "{mutant:?} breaks no sequence");
    }
}
