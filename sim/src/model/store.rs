//! The store: one record, linearizable conditional writes, reads that may show the past. And the network at its end.

use super::state::{Answer, Effect, Event, Request, Rule, State, author};
use super::world::{Slip, Step};
use crate::protocol::{Reply, Sighting, Version, Write, WriteKind};
use crate::record::{self, seen};

/// How far an eventually consistent read may go back.
const PAST: usize = 2;

impl Step<'_> {
    /// Whether the condition of a write holds.
    fn holds(&self, write: &Write) -> bool {
        let record = self.state.record.as_ref();
        if write.kind == WriteKind::Renew && self.model.slips(Slip::OwnerIsEnough) {
            let owned = |record: &Sighting| author(&record.version).0 == author(&write.version).0;
            return record.is_some_and(|record| owned(record) && !record.released);
        }
        record::holds(write, record)
    }

    /// The request of a node reaches the store, which answers. `back`: how many writes ago it was what a read shows.
    pub(super) fn deliver(&mut self, index: usize, back: usize) {
        let Some(flight) = &self.state.nodes[index].flight else { return };
        let answer = match &flight.request {
            Request::Read(_) => {
                let past = &self.state.past;
                let old = back.checked_sub(1).and_then(|back| past.iter().rev().nth(back));
                Answer::Read(seen(old.map_or(self.state.record.as_ref(), Option::as_ref)))
            }
            Request::Write(write) => Answer::Write(self.apply(&write.clone())),
        };
        if let Some(flight) = &mut self.node(index).flight {
            flight.answer = Some(answer);
        }
    }

    /// A write that nobody waits for reaches the store.
    pub(super) fn arrive_late(&mut self, position: usize) {
        let write = self.state.late.remove(position);
        let reply = self.apply(&write);
        self.note(if reply == Reply::Applied { Event::LateApplied } else { Event::LateRefused });
    }

    fn apply(&mut self, write: &Write) -> Reply {
        let record = self.state.record.as_ref();
        if !self.holds(write) {
            return Reply::Refused(seen(record));
        }
        let (by, _) = author(&write.version);
        let before = record.map(|record| (record.version.clone(), record.released, record.token));
        let next = record::after(write, record);
        if let Some((version, released, last)) = before {
            let base = write.names.first().filter(|_| !write.or_absent);
            if author(&version).0 != by {
                self.note(if released { Event::ClaimedAfterRelease } else { Event::TakenOver });
                if next.token <= last {
                    self.fail(Rule::Tokens);
                }
            } else if version != write.version && Some(&version) != base {
                self.note(Event::Adopted);
            }
        }
        if matches!(write.kind, WriteKind::Claim { .. }) {
            self.check_exclusion(by);
        }
        self.replace(next);
        Reply::Applied
    }

    fn replace(&mut self, next: Sighting) {
        let State { record, past, overwritten, left, .. } = &mut self.state;
        if record.as_ref().is_some_and(|record| record.version == next.version) {
            *record = Some(next);
            return;
        }
        let recurs = overwritten.contains(&next.version);
        let before = record.replace(next);
        overwritten.extend(before.iter().map(|before| before.version.clone()));
        if left.stale > 0 {
            if past.len() == PAST {
                past.remove(0);
            }
            past.push(before);
        }
        if recurs {
            self.fail(Rule::Recurrence);
        }
    }

    /// I4: the resource accepts nothing lower than what it has seen. What it has accepted came in the order of claims.
    pub(super) fn land(&mut self, position: usize) {
        let effect = self.state.effects.remove(position);
        let accepted = self.state.accepted;
        if effect.token < accepted.token {
            return self.note(Event::FencedOff);
        }
        if (effect.token == accepted.token && effect.by != accepted.by) || effect.by < accepted.by {
            self.fail(Rule::Fencing);
        }
        self.state.accepted = effect;
    }

    /// Forgets what can't change anything any more, and puts the rest in order: fewer states, none lost.
    pub(super) fn tidy(&mut self) {
        let (may_come, may_repeat) = (self.may_be_current(), self.state.left.duplicates > 0);
        let (absent, keeps) = (self.state.record.is_none(), self.model.slips(Slip::OwnerIsEnough));
        let (alive, dead): (Vec<Write>, Vec<Write>) =
            std::mem::take(&mut self.state.late).into_iter().partition(|write| {
                keeps || (write.or_absent && absent) || write.names.iter().any(|name| may_come.contains(name))
            });
        self.state.late = alive;
        if dead.iter().any(|write| !self.holds(write)) {
            // Whenever they arrive they are refused; here they just did.
            self.note(Event::LateRefused);
        }
        let State { late, effects, accepted, overwritten, nodes, left, past, .. } = &mut self.state;
        late.sort_by(|one, other| one.version.cmp(&other.version));
        let under_way = nodes.iter().filter_map(|node| node.write_under_way());
        let open: Vec<&Version> = under_way
            .filter(|(_, open)| *open || may_repeat)
            .map(|(write, _)| &write.version)
            .chain(late.iter().map(|write| &write.version))
            .collect();
        overwritten.retain(|version| open.contains(&version));
        overwritten.sort();
        if left.stale == 0 {
            past.clear();
        }
        effects.sort_unstable();
        let before = effects.len();
        effects.retain(|effect| effect.token >= accepted.token);
        if effects.len() < before {
            self.note(Event::FencedOff);
        }
    }

    /// All versions that the record has or may get from what is under way; other versions are fresh ones.
    fn may_be_current(&self) -> Vec<Version> {
        let State { record, late, nodes, left, .. } = &self.state;
        let under_way = nodes.iter().filter_map(|node| node.write_under_way());
        let open = under_way.filter(|(_, open)| *open || left.duplicates > 0).map(|(write, _)| write);
        let mut rest: Vec<&Write> = open.chain(late.iter()).collect();
        let mut versions: Vec<Version> = record.iter().map(|record| record.version.clone()).collect();
        loop {
            let before = rest.len();
            rest.retain(|write| {
                let applies =
                    (write.or_absent && record.is_none()) || write.names.iter().any(|name| versions.contains(name));
                if applies {
                    versions.push(write.version.clone());
                }
                !applies
            });
            if rest.len() == before {
                return versions;
            }
        }
    }

    pub(super) fn act(&mut self, index: usize) {
        let Some(tenure) = self.state.nodes[index].tenure() else { return };
        let first = self.model.slips(Slip::TokenOfAnEarlierTerm);
        let token = if first { 1 } else { tenure.holder.token() };
        let effect = Effect { token, by: tenure.acquisition };
        self.state.effects.push(effect);
    }
}
