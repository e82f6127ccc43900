//! The board: what is known of an election, as status and transitions. `notes.rs` says what the keeper's notes mean for it.

mod notes;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{broadcast, watch};

use notes::set_leader;

use super::TermControl;
use crate::clock::Clock;
use crate::ending::ReleaseOutcome;
use crate::lock::{Beacon, LockClient};
use crate::protocol::Moment;
use crate::status::{Role, Status, StopReason, Transition};
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
    /// What this process advertises when a term of it begins.
    advertised: Option<Vec<u8>>,
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
    /// Whether a campaign goes on, so that the leader is known.
    follows: bool,
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
    pub(super) fn new(locks: &LockClient, name: Name, advertised: Option<Vec<u8>>, group: Option<GroupSender>) -> Self {
        let mut board = Self::blank(locks, name, group, false);
        board.advertised = advertised;
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
            advertised: None,
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

    /// What the leader, which is this process, shows from now on.
    pub(super) fn proclaim(&self, data: Vec<u8>) {
        self.status.send_if_modified(|status| match (status.role, &mut status.leader) {
            (Role::Leader, Some(leader)) => leader.data.replace(data.clone()) != Some(data),
            _ => false,
        });
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
        self.memory().follows = true;
        self.status.send_if_modified(|status| {
            let joins = status.role == Role::Idle;
            if joins {
                self.set_role(status, Role::Unknown);
            }
            joins
        });
    }

    /// Nobody campaigns any more: what was known of the leader is not kept up to date.
    pub(super) fn idle(&self) {
        self.memory().follows = false;
        self.status.send_if_modified(|status| {
            let leaves = matches!(status.role, Role::Unknown | Role::Follower);
            if leaves {
                self.set_role(status, Role::Idle);
                set_leader(status, None, self.clock.now());
            }
            leaves
        });
    }

    /// The first reason stands.
    pub(super) fn stopped(&self, reason: StopReason) {
        let change = |status: &mut Status| {
            self.set_role(status, Role::Stopped(reason));
            set_leader(status, None, self.clock.now());
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
