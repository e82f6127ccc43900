//! The board: turns what the keeper notes into status, transitions and telemetry, in that order.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use super::TermControl;
use crate::clock::Clock;
use crate::ending::{EndReason, ReleaseOutcome};
use crate::error::Error;
use crate::lock::{Acquired, Beacon, LeaseCell, LockClient, Note, Watcher};
use crate::protocol::{Moment, Noted};
use crate::status::{LeaderInfo, Role, Status, StopReason, Transition, Trouble};
use crate::store::Found;
use crate::telemetry::{Event, Name, Telemetry};

/// How many transitions a slow reader may lag behind before some are marked as missed.
const BACKLOG: usize = 256;

/// Where the transitions of all members of a group go, each with its election's name.
pub(super) type GroupSender = broadcast::Sender<(Name, Transition)>;

pub(super) struct Board {
    name: Name,
    owner: Arc<str>,
    clock: Clock,
    telemetry: Telemetry,
    observes: bool,
    status: watch::Sender<Status>,
    /// Made when somebody first listens: an estate of thousands need not pay for what nobody reads.
    transitions: OnceLock<broadcast::Sender<Transition>>,
    /// Where the transitions of all elections of a group go.
    group: Option<GroupSender>,
    beacon: Arc<Beacon>,
    /// What only the board needs to remember.
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// What this process advertises when it leads.
    advertised: Option<Vec<u8>>,
    /// The latest term, also when it is over.
    term: Option<TermControl>,
    leaderless_since: Option<Moment>,
    ended_at: Option<Moment>,
    /// While a callback is still to be called, the release is not told; `Some(Some(…))`: it is over.
    deferred: Option<Option<ReleaseOutcome>>,
}

/// Tells of the release when it is dropped, if it is over, and from then on at once.
pub(super) struct Deferred<'a>(&'a Board);

impl Drop for Deferred<'_> {
    fn drop(&mut self) {
        let deferred = self.0.memory().deferred.take();
        if let Some(Some(outcome)) = deferred {
            self.0.released(outcome);
        }
    }
}

impl Board {
    /// Of a candidate.
    pub(super) fn new(locks: &LockClient, name: Name, group: Option<GroupSender>) -> Self {
        let board = Self::blank(locks, name, group, false);
        board.telemetry.send(Event::Registered { name: board.name() });
        board
    }

    /// Of an observer, which has no part in the election and so none in its metrics.
    pub(super) fn observing(locks: &LockClient, name: Name, group: GroupSender) -> Self {
        Self::blank(locks, name, Some(group), true)
    }

    fn blank(locks: &LockClient, name: Name, group: Option<GroupSender>, observes: bool) -> Self {
        let context = locks.context();
        let clock = context.clock;
        Self {
            name,
            owner: locks.owner().into(),
            clock,
            telemetry: context.telemetry.clone(),
            observes,
            status: watch::Sender::new(Status::new(clock)),
            transitions: OnceLock::new(),
            group,
            beacon: Arc::new(Beacon::new(clock)),
            memory: Mutex::default(),
        }
    }

    pub(super) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    pub(super) fn transitions(&self) -> broadcast::Receiver<Transition> {
        self.transitions.get_or_init(|| broadcast::Sender::new(BACKLOG)).subscribe()
    }

    pub(super) fn term(&self) -> Option<TermControl> {
        self.memory().term.clone()
    }

    pub(super) fn beacon(&self) -> &Arc<Beacon> {
        &self.beacon
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

    /// One change of the status, and the transition that tells of it. `false`, and nothing happens, once it has stopped.
    fn turn(&self, change: impl FnOnce(&mut Status), transition: impl FnOnce(u64) -> Transition) -> bool {
        self.status.send_if_modified(|status| {
            if matches!(status.role, Role::Stopped(_)) {
                return false;
            }
            change(status);
            status.epoch += 1;
            let transition = transition(status.epoch);
            // Sent where the status is locked, so that the stream has the order of the epochs. Nobody may be listening.
            if let Some(group) = &self.group {
                let _ = group.send((self.name(), transition.clone()));
            }
            if let Some(transitions) = self.transitions.get() {
                let _ = transitions.send(transition);
            }
            true
        })
    }

    fn set_role(&self, status: &mut Status, role: Role) {
        if status.role != role && !matches!(status.role, Role::Stopped(_)) {
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

    /// The first reason stands.
    pub(super) fn stopped(&self, reason: StopReason) {
        let change = |status: &mut Status| {
            self.set_role(status, Role::Stopped(reason));
            status.leader = None;
            (status.leader_since, status.leader_until) = (None, None);
        };
        let first = self.turn(change, |epoch| Transition::Stopped { epoch, reason });
        if first && !self.observes {
            self.telemetry.send(Event::Stopped { name: self.name() });
        }
    }

    pub(super) fn paused(&self, paused: bool) {
        let changed = self.status.send_if_modified(|status| {
            !matches!(status.role, Role::Stopped(_)) && std::mem::replace(&mut status.is_paused, paused) != paused
        });
        if changed {
            self.telemetry.send(Event::Paused { name: self.name(), paused });
        }
    }

    /// From here on the release of this term is told when what is returned is dropped: after the callbacks.
    pub(super) fn defer_release(&self) -> Deferred<'_> {
        self.memory().deferred = Some(None);
        Deferred(self)
    }

    fn release_is_over(&self, outcome: ReleaseOutcome) {
        {
            let mut memory = self.memory();
            if let Some(deferred) = &mut memory.deferred {
                *deferred = Some(outcome);
                return;
            }
        }
        self.released(outcome);
    }

    fn elected(&self, acquired: &Acquired<'_>) {
        let cell = acquired.cell;
        // Before anybody learns of it: whoever sees this process lead can look at the term, and end it.
        self.memory().term = Some(TermControl::new(acquired));
        let token = cell.token();
        self.leaderless_until_now();
        let data = self.memory().advertised.clone();
        let change = |status: &mut Status| {
            self.set_role(status, Role::Leader);
            status.term = Some(Arc::clone(cell));
            status.trouble = None;
            (status.leader_since, status.leader_until) = (Some(self.clock.now()), None);
            status.leader = Some(LeaderInfo {
                owner: self.owner.to_string(),
                data,
                fencing_token: Some(token),
                acquired_at: Some(acquired.acquired_at.to_owned()),
            });
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
                set_leader(status, None, self.clock.now());
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
            self.set_role(status, Role::Follower);
            status.last_release = Some(outcome);
            set_leader(status, None, self.clock.now());
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
        if let Some(since) = since.filter(|_| !self.observes) {
            let time = self.clock.now().since(since);
            self.telemetry.send(Event::Leaderless { name: self.name(), time });
        }
    }

    fn observed(&self, found: &Found, noted: Noted, held_until: Option<Moment>) {
        let held_until = held_until.filter(|until| *until > self.clock.now());
        let leader = match found {
            Found::Record(record) if held_until.is_some() => Some(LeaderInfo {
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
        // A heartbeat is no news by itself: nobody is woken.
        self.status.send_if_modified(|status| {
            status.leader_until = held_until.filter(|_| matches!(status.role, Role::Unknown | Role::Follower));
            false
        });
        self.leader_is(leader);
    }

    fn leader_is(&self, leader: Option<LeaderInfo>) {
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
            set_leader(status, leader.clone(), self.clock.now());
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

    /// A callback panicked or hung.
    pub(super) fn callback_failed(&self, callback: &'static str, why: String) {
        self.telemetry.send(Event::CallbackFailed { name: self.name(), callback, why });
    }

    /// The store answered or did not: as good a moment as any to look whether the work gives signs of life.
    fn look_at_beacon(&self) {
        if let Some(age) = self.beacon.age() {
            self.telemetry.send(Event::Beacon { name: self.name(), age });
        }
    }

    pub(super) fn failed(&self, error: &Error, renewal: bool) {
        let (kind, why) = (error.kind(), error.to_string());
        let mut first = false;
        self.status.send_if_modified(|status| {
            first = status.trouble.as_ref().is_none_or(|trouble| trouble.kind != kind);
            status.trouble = Some(Trouble { kind, message: why.clone() });
            first
        });
        self.telemetry.send(Event::Failed { name: self.name(), kind, why, renewal, first });
    }
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if !self.observes {
            self.telemetry.send(Event::Gone { name: self.name() });
        }
    }
}

/// Who leads, and since when it was seen.
fn set_leader(status: &mut Status, leader: Option<LeaderInfo>, now: Moment) {
    if leader.is_none() {
        (status.leader_since, status.leader_until) = (None, None);
    }
    let term = |leader: &LeaderInfo| (leader.owner.clone(), leader.fencing_token);
    if leader.is_some() && status.leader.as_ref().map(term) != leader.as_ref().map(term) {
        status.leader_since = Some(now);
    }
    status.leader = leader;
}

/// Troubles of the record rather than of the store: an answer alone does not end them.
fn is_obstacle(trouble: &Trouble) -> bool {
    use crate::error::ErrorKind;
    matches!(trouble.kind, ErrorKind::MalformedRecord | ErrorKind::NewerFormat | ErrorKind::NoFencing)
}

impl Watcher for Board {
    fn note(&self, note: Note<'_>) {
        if matches!(note, Note::Contact | Note::Failed { .. }) {
            self.look_at_beacon();
        }
        match note {
            Note::Contact => self.contact(),
            Note::Closed => self.stopped(StopReason::ShutDown),
            Note::Observed { found, noted, held_until } => self.observed(found, noted, held_until),
            Note::Expired => self.leader_is(None),
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
            Note::Acquired(acquired) => self.elected(&acquired),
            Note::Renewed { took, margin } => {
                self.telemetry.send(Event::Renewed { name: self.name(), took, margin });
            }
            Note::Ended { cell, reason } => self.ended(cell, reason),
            Note::Released { outcome } => self.release_is_over(outcome),
            Note::Stuck => self.telemetry.send(Event::Stuck { name: self.name() }),
        }
    }
}
