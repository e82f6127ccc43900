//! The board: turns what the keeper notes into status, transitions and telemetry, in that order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use crate::clock::Clock;
use crate::ending::{EndReason, ReleaseOutcome};
use crate::error::Error;
use crate::lock::{LeaseCell, Note, Watcher};
use crate::protocol::{Moment, Noted};
use crate::status::{LeaderInfo, Role, Status, Transition, Trouble};
use crate::store::Found;
use crate::telemetry::{Event, Name, Telemetry};

/// How many transitions a slow reader may lag behind before some are marked as missed.
const BACKLOG: usize = 256;

pub(super) struct Board {
    name: Name,
    owner: Arc<str>,
    clock: Clock,
    telemetry: Telemetry,
    status: watch::Sender<Status>,
    transitions: broadcast::Sender<Transition>,
    /// What only the board needs to remember.
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// What this process advertises when it leads.
    advertised: Option<Vec<u8>>,
    leaderless_since: Option<Moment>,
    ended_at: Option<Moment>,
}

impl Board {
    pub(super) fn new(name: Name, owner: &str, clock: Clock, telemetry: Telemetry) -> Self {
        telemetry.send(Event::Registered { name: Arc::clone(&name) });
        Self {
            name,
            owner: owner.into(),
            clock,
            telemetry,
            status: watch::Sender::new(Status::new(clock)),
            transitions: broadcast::Sender::new(BACKLOG),
            memory: Mutex::default(),
        }
    }

    pub(super) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    pub(super) fn transitions(&self) -> broadcast::Receiver<Transition> {
        self.transitions.subscribe()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn advertise(&self, data: Option<Vec<u8>>) {
        self.memory().advertised = data;
    }

    fn name(&self) -> Name {
        Arc::clone(&self.name)
    }

    /// One change of the status, and the transition that tells of it.
    fn turn(&self, change: impl FnOnce(&mut Status), transition: impl FnOnce(u64) -> Transition) {
        let mut told = None;
        self.status.send_modify(|status| {
            change(status);
            status.epoch += 1;
            told = Some(transition(status.epoch));
        });
        if let Some(transition) = told {
            // Nobody may be listening.
            let _ = self.transitions.send(transition);
        }
    }

    fn set_role(&self, status: &mut Status, role: Role) {
        if status.role != role {
            status.role = role;
            status.since = self.clock.now();
        }
    }

    pub(super) fn campaigning(&self) {
        self.status.send_if_modified(|status| {
            let joins = status.role == Role::Idle;
            if joins {
                self.set_role(status, Role::Unknown);
            }
            joins
        });
    }

    pub(super) fn idle(&self) {
        self.status.send_if_modified(|status| {
            let leaves = matches!(status.role, Role::Unknown | Role::Follower);
            if leaves {
                self.set_role(status, Role::Idle);
            }
            leaves
        });
    }

    pub(super) fn stopped(&self) {
        if self.status.borrow().role != Role::Stopped {
            self.turn(|status| self.set_role(status, Role::Stopped), |epoch| Transition::Stopped { epoch });
        }
    }

    fn elected(&self, cell: &Arc<LeaseCell>) {
        let token = cell.token();
        self.leaderless_until_now();
        let data = self.memory().advertised.clone();
        let change = |status: &mut Status| {
            self.set_role(status, Role::Leader);
            status.term = Some(Arc::clone(cell));
            status.trouble = None;
            status.leader =
                Some(LeaderInfo { owner: self.owner.to_string(), data, fencing_token: Some(token), acquired_at: None });
        };
        self.turn(change, |epoch| Transition::Elected { epoch, fencing_token: token });
        self.telemetry.send(Event::Elected { name: self.name(), owner: Arc::clone(&self.owner), token });
    }

    /// A forced end demotes at once; a voluntary one when its release is over.
    fn ended(&self, cell: &Arc<LeaseCell>, reason: EndReason) {
        let change = |status: &mut Status| {
            status.last_end = Some(reason);
            if reason.is_forced() {
                self.set_role(status, Role::Follower);
                status.leader = None;
            }
        };
        self.turn(change, |epoch| Transition::Demoted { epoch, reason });
        {
            let mut memory = self.memory();
            memory.ended_at = Some(self.clock.now());
            memory.leaderless_since.get_or_insert(self.clock.now());
        }
        self.telemetry.send(Event::Ended { name: self.name(), reason, tenure: cell.held_for() });
    }

    fn released(&self, outcome: ReleaseOutcome) {
        let change = |status: &mut Status| {
            if status.role != Role::Stopped {
                self.set_role(status, Role::Follower);
            }
            status.last_release = Some(outcome);
            status.leader = None;
            status.term = None;
        };
        self.turn(change, |epoch| Transition::Released { epoch, outcome });
        let ended = self.memory().ended_at.take();
        let drain = ended.map_or(Duration::ZERO, |at| self.clock.now().since(at));
        self.telemetry.send(Event::Released { name: self.name(), outcome, drain });
        self.telemetry.send(Event::Follower { name: self.name() });
    }

    fn leaderless_until_now(&self) {
        let since = self.memory().leaderless_since.take();
        if let Some(since) = since {
            let time = self.clock.now().since(since);
            self.telemetry.send(Event::Leaderless { name: self.name(), time });
        }
    }

    fn observed(&self, found: &Found, noted: Noted) {
        let leader = match found {
            Found::Record(record) if !record.is_released() => Some(LeaderInfo {
                owner: record.owner().to_owned(),
                data: record.data().map(<[u8]>::to_vec),
                fencing_token: record.fencing_token(),
                acquired_at: record.acquired_at().map(str::to_owned),
            }),
            Found::Record(_) | Found::Absent | Found::Malformed(_) => None,
        };
        if let Noted::TokenRegressed { floor, found } = noted {
            self.telemetry.send(Event::TokenRegressed { name: self.name(), floor, found });
        }
        let (changed, role) = {
            let status = self.status.borrow();
            (status.leader != leader || status.role == Role::Unknown, status.role)
        };
        // While this process leads, what its own writes show is no news.
        if !changed || !matches!(role, Role::Unknown | Role::Follower) {
            return;
        }
        if leader.is_some() {
            self.leaderless_until_now();
        } else {
            let mut memory = self.memory();
            memory.leaderless_since.get_or_insert(self.clock.now());
        }
        let told = leader.as_ref().map(|leader| leader.owner.clone());
        let change = |status: &mut Status| {
            self.set_role(status, Role::Follower);
            status.leader.clone_from(&leader);
        };
        self.turn(change, |epoch| Transition::LeaderChanged { epoch, leader: leader.clone() });
        self.telemetry.send(Event::LeaderChanged { name: self.name(), leader: told });
    }

    fn contact(&self) {
        let now = self.clock.now();
        // An answer is no news by itself: nobody is woken unless it ends a trouble.
        let recovered = self.status.send_if_modified(|status| {
            status.contact = Some(now);
            status.trouble.take_if(|trouble| !is_obstacle(trouble)).is_some()
        });
        if recovered {
            self.telemetry.send(Event::Recovered { name: self.name() });
        }
    }

    pub(super) fn failed(&self, error: &Error, renewal: bool) {
        let (kind, message) = (error.kind(), error.to_string());
        let mut first = false;
        self.status.send_if_modified(|status| {
            first = status.trouble.as_ref().is_none_or(|trouble| trouble.kind != kind);
            status.trouble = Some(Trouble { kind, message: message.clone() });
            first
        });
        self.telemetry.send(Event::Failed { name: self.name(), kind, message, renewal, first });
    }
}

/// Troubles of the record rather than of the store: an answer alone does not end them.
fn is_obstacle(trouble: &Trouble) -> bool {
    use crate::error::ErrorKind;
    matches!(trouble.kind, ErrorKind::MalformedRecord | ErrorKind::NewerFormat | ErrorKind::NoFencing)
}

impl Watcher for Board {
    fn note(&self, note: Note<'_>) {
        match note {
            Note::Contact => self.contact(),
            Note::Observed { found, noted } => self.observed(found, noted),
            Note::Obstacle(error) => match error {
                Some(error) => self.failed(error, false),
                None => {
                    self.status.send_if_modified(|status| status.trouble.take_if(|t| is_obstacle(t)).is_some());
                }
            },
            Note::Failed { error, renewal } => self.failed(error, renewal),
            Note::ForcedRead => self.telemetry.send(Event::ForcedRead { name: self.name() }),
            Note::Ambiguous { resolved } => self.telemetry.send(Event::Ambiguous { name: self.name(), resolved }),
            Note::Claimed { outcome } => self.telemetry.send(Event::Claimed { name: self.name(), outcome }),
            Note::Acquired { cell } => self.elected(cell),
            Note::Renewed { took, margin } => {
                self.telemetry.send(Event::Renewed { name: self.name(), took, margin });
            }
            Note::Ended { cell, reason } => self.ended(cell, reason),
            Note::Released { outcome } => self.released(outcome),
        }
    }
}
