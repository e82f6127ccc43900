//! What a state is: the real machines of each node, the record, what is under way, and what may still happen.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::bounds::Faults;
use crate::protocol::{
    Candidate, Consistency, Holder, Moment, Observation, Reply, Seen, SentAt, Sighting, Version, Write,
};

/// One acquisition of one node, numbered in the order in which they began. Part of every version it makes.
pub(super) type Acquisition = u8;

/// A version is named by the acquisition and the number of its write.
pub(super) fn version(author: Acquisition, write: u8) -> Version {
    Version::new(format!("{author}.{write}"))
}

/// The acquisition and the number of a write.
pub(super) fn author(version: &Version) -> (Acquisition, u8) {
    let parts = version.as_str().split_once('.');
    parts.and_then(|(author, write)| Some((author.parse().ok()?, write.parse().ok()?))).unwrap_or_default()
}

/// A rule, broken in this very step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    Exclusion,
    Tokens,
    Recurrence,
    Fencing,
    ReleaseUnderWork,
    OwnWrites,
    OwnEvidence,
    Revival,
}

/// What happened in the last step; the proof that a check is not vacuous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub(super) enum Event {
    TakenOver = 1,
    Adopted = 2,
    Settled = 4,
    LateRefused = 8,
    ClaimedAfterRelease = 16,
    HandedOut = 32,
    FencedOff = 64,
    LateApplied = 128,
    LostByDeadline = 256,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Request {
    Read(Consistency),
    Write(Write),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Read(Seen),
    Write(Reply),
}

/// The one request that a node waits for (R11).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Flight {
    pub(super) sent: SentAt,
    pub(super) request: Request,
    /// The store has answered; the answer is on its way.
    pub(super) answer: Option<Answer>,
}

/// What a leadership shares with its keeper; as in the lock layer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Cell {
    pub(super) valid_until: Option<Moment>,
    pub(super) token_fired: bool,
    pub(super) working: bool,
    pub(super) drain_until: Option<Moment>,
    pub(super) was_over: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Tenure {
    pub(super) holder: Holder,
    pub(super) acquisition: Acquisition,
    pub(super) candidate: Candidate,
    /// Once it was handed out.
    pub(super) cell: Option<Cell>,
    /// Versions made.
    pub(super) writes: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(clippy::large_enum_variant, reason = "one of each node")]
pub(super) enum Activity {
    Following(Candidate),
    Tenure(Box<Tenure>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) observation: Observation,
    pub(super) activity: Activity,
    pub(super) flight: Option<Flight>,
}

impl Node {
    pub(super) fn following(candidate: Candidate) -> Self {
        Self { observation: Observation::default(), activity: Activity::Following(candidate), flight: None }
    }

    pub(super) fn tenure(&self) -> Option<&Tenure> {
        match &self.activity {
            Activity::Tenure(tenure) => Some(tenure),
            Activity::Following(_) => None,
        }
    }

    pub(super) fn tenure_mut(&mut self) -> Option<&mut Tenure> {
        match &mut self.activity {
            Activity::Tenure(tenure) => Some(tenure),
            Activity::Following(_) => None,
        }
    }

    pub(super) fn cell(&self) -> Option<&Cell> {
        self.tenure().and_then(|tenure| tenure.cell.as_ref())
    }

    /// Whether `is_valid()` would say yes, were the process running or not.
    pub(super) fn is_valid(&self, now: Moment) -> bool {
        self.cell().is_some_and(|cell| cell.valid_until.is_some_and(|until| now < until))
    }

    /// A write of this node that may reach the store once more.
    pub(super) fn write_under_way(&self) -> Option<(&Write, bool)> {
        match &self.flight {
            Some(Flight { request: Request::Write(write), answer, .. }) => Some((write, answer.is_none())),
            _ => None,
        }
    }
}

/// An act of a leader on something outside, with its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(super) struct Effect {
    pub(super) token: u64,
    pub(super) by: Acquisition,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    /// True time, in nanoseconds.
    pub(super) now: u64,
    pub(super) record: Option<Sighting>,
    /// What an eventually consistent read may still show, latest last.
    pub(super) past: Vec<Option<Sighting>>,
    /// Versions that must not come back, as far as anything under way could bring them back.
    pub(super) overwritten: Vec<Version>,
    pub(super) nodes: Vec<Arc<Node>>,
    /// The hash of each: most steps change one of them.
    pub(super) marks: Vec<u64>,
    /// Writes that nobody waits for any more, and that may still change something.
    pub(super) late: Vec<Write>,
    pub(super) effects: Vec<Effect>,
    /// The highest that the resource has accepted.
    pub(super) accepted: Effect,
    pub(super) claims: Acquisition,
    pub(super) last_token: Option<u64>,
    pub(super) left: Faults,
    pub(super) leader_crashed: bool,
    /// Of the last step.
    pub(super) events: u16,
    pub(super) broken: Option<Rule>,
}

impl State {
    pub(super) fn shows(&self, event: Event) -> bool {
        self.events & event as u16 != 0
    }
}

/// All nodes but the first are alike (no name of a node is part of anything else), so that states which differ
/// only in who of them is who are one.
impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { now, record, past, overwritten, late, effects, accepted, claims, last_token, left, .. } = self;
        (now, record, past, overwritten, late, effects, accepted, claims).hash(state);
        (last_token, left, self.leader_crashed, self.events, self.broken).hash(state);
        let mut marks = self.marks.clone();
        marks[1..].sort_unstable();
        marks.hash(state);
    }
}

impl Node {
    pub(super) fn mark(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}
