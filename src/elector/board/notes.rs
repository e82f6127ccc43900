//! What the keeper's notes mean: for the status, for transitions, for telemetry, in that order.

use std::sync::Arc;
use std::time::Duration;

use super::super::TermControl;
use super::Board;
use crate::ending::{EndReason, ReleaseOutcome};
use crate::error::Error;
use crate::lock::{Acquired, LeaseCell, Note, Watcher};
use crate::protocol::{Moment, Noted};
use crate::status::{LeaderInfo, Role, Status, StopReason, Transition, Trouble};
use crate::store::Found;
use crate::telemetry::Event;

impl Board {
    fn elected(&self, acquired: &Acquired<'_>) {
        let cell = acquired.cell;
        // Before anybody learns of it: whoever sees this process lead can look at the term, and end it.
        self.memory().term = Some(TermControl::new(acquired));
        let token = cell.token();
        self.leaderless_until_now();
        let data = self.advertised.clone();
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

    pub(super) fn released(&self, outcome: ReleaseOutcome) {
        let follows = self.memory().follows;
        let change = |status: &mut Status| {
            self.set_role(status, if follows { Role::Follower } else { Role::Idle });
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
    pub(in crate::elector) fn callback_failed(&self, callback: &'static str, why: String) {
        self.telemetry.send(Event::CallbackFailed { name: self.name(), callback, why });
    }

    /// The store answered or did not: as good a moment as any to look whether the work gives signs of life.
    fn look_at_beacon(&self) {
        if let Some(age) = self.beacon.age() {
            self.telemetry.send(Event::Beacon { name: self.name(), age });
        }
    }

    fn failed(&self, error: &Error, renewal: bool) {
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

/// Who leads, and since when it was seen.
pub(super) fn set_leader(status: &mut Status, leader: Option<LeaderInfo>, now: Moment) {
    if leader.is_none() {
        (status.leader_since, status.leader_until) = (None, None);
    }
    let same_term =
        |known: &LeaderInfo, new: &LeaderInfo| (&known.owner, known.fencing_token) == (&new.owner, new.fencing_token);
    if let Some(new) = &leader
        && !status.leader.as_ref().is_some_and(|known| same_term(known, new))
    {
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
