//! What the lock layer does with the machines, in its order of calls; as in the simulator.

use super::bounds::Start;
use super::state::{Activity, Answer, Cell, Event, Flight, Request, Rule, Tenure, author, version};
use super::world::{Slip, Step};
use crate::lock_layer::{CLAIM_TRIES, is_winding_down, own_write, terms_of};
use crate::protocol::{
    Absence, Candidate, Consistency, Holder, Loss, Moment, Next, Noted, Phase, ReceivedAt, Release, Reply, Restraint,
    Seen, SentAt, Step as Do, Version, WriteKind,
};

/// Random delays are left out: where they could matter the order of steps stands for them.
const SPREAD: f64 = 0.0;

impl Step<'_> {
    /// A node hears the answer it waits for, or gives it up.
    pub(super) fn answer(&mut self, index: usize, answer: Option<Answer>) {
        let now = self.local(index);
        let node = self.node(index);
        let Some(flight) = node.flight.take() else { return };
        match (&mut node.activity, flight.request, answer) {
            (Activity::Following(candidate), Request::Read(consistency), Some(Answer::Read(seen))) => {
                node.observation.observe(seen, flight.sent, ReceivedAt(now), consistency);
                candidate.answered(&node.observation, flight.sent, now);
            }
            (Activity::Following(candidate), ..) => candidate.failed(true, now, SPREAD),
            (Activity::Tenure(tenure), Request::Write(write), Some(Answer::Write(Reply::Applied))) => {
                if let Some(own) = own_write(&write, tenure.holder.token()) {
                    node.observation.observe(own, flight.sent, ReceivedAt(now), Consistency::Strong);
                }
                tenure.holder.on_reply(&Reply::Applied, now, SPREAD);
            }
            (Activity::Tenure(tenure), Request::Write(_), Some(Answer::Write(Reply::Refused(seen)))) => {
                let noted = node.observation.observe(seen.clone(), flight.sent, ReceivedAt(now), Consistency::Strong);
                tenure.holder.on_reply(&Reply::Refused(seen.clone()), now, SPREAD);
                self.judge(index, &seen, noted, true);
            }
            (Activity::Tenure(tenure), Request::Write(_), _) => {
                tenure.holder.on_reply(&Reply::Unknown, now, SPREAD);
                if tenure.holder.phase() == Phase::Claiming {
                    tenure.candidate.failed(true, now, SPREAD);
                    if tenure.holder.misses() >= CLAIM_TRIES {
                        tenure.holder.work_ended(now);
                    }
                }
            }
            (Activity::Tenure(tenure), Request::Read(_), Some(Answer::Read(seen))) => {
                let noted = node.observation.observe(seen.clone(), flight.sent, ReceivedAt(now), Consistency::Strong);
                tenure.holder.on_read(Some(&seen), now, SPREAD);
                self.judge(index, &seen, noted, false);
            }
            (Activity::Tenure(tenure), Request::Read(_), _) => tenure.holder.on_read(None, now, SPREAD),
        }
        self.after_each_step(index);
    }

    /// R3 and R4, from outside: what the evidence says decides what it may have led to.
    fn judge(&mut self, index: usize, seen: &Seen, noted: Noted, refused: bool) {
        let now = self.local(index);
        let Some(tenure) = self.node(index).tenure_mut() else { return };
        let phase = tenure.holder.phase();
        if phase == Phase::Refused {
            tenure.candidate.refused(noted, now);
        }
        let Seen::Record(found) = seen else { return };
        let (by, write) = author(&found.version);
        if by != tenure.acquisition || found.released {
            return;
        }
        let back = tenure.writes.saturating_sub(write);
        if matches!(phase, Phase::Lost(Loss::TakenOver) | Phase::Refused | Phase::Ended(Release::AlreadyGone)) {
            self.fail(Rule::OwnEvidence);
        } else if refused && (1..=2).contains(&back) {
            self.fail(Rule::OwnWrites);
        } else {
            self.note(Event::Settled);
        }
    }

    /// A node acts on its clock: sends what is due, ends what is over.
    pub(super) fn wake(&mut self, index: usize) {
        loop {
            self.after_each_step(index);
            let now = self.local(index);
            let claims_left = self.claims_left();
            let node = self.node(index);
            match &mut node.activity {
                Activity::Following(_) if node.flight.is_some() => return,
                Activity::Following(candidate) => match candidate.next(&node.observation, now) {
                    Next::Wait(_) => return,
                    Next::Read(consistency) => return self.send(index, now, Request::Read(consistency)),
                    Next::Claim { .. } if !claims_left => return,
                    Next::Claim { base, token } => self.claim(index, base, token, now),
                },
                Activity::Tenure(tenure) => {
                    let phase = tenure.holder.phase();
                    if let Phase::Ended(_) | Phase::Refused = phase {
                        self.term_over(index);
                        continue;
                    }
                    match tenure.holder.poll(now) {
                        Do::Send => self.write(index, now),
                        Do::Read => {
                            tenure.holder.begin_read();
                            self.send(index, now, Request::Read(Consistency::Strong));
                        }
                        Do::Wait(_) | Do::Idle if tenure.holder.phase() != phase => {}
                        Do::Wait(_) | Do::Idle => return,
                    }
                }
            }
        }
    }

    fn send(&mut self, index: usize, now: Moment, request: Request) {
        self.node(index).flight = Some(Flight { sent: SentAt(now), request, answer: None });
    }

    pub(super) fn claim(&mut self, index: usize, base: Option<Version>, token: u64, now: Moment) {
        self.state.claims += 1;
        let acquisition = self.state.claims;
        let long = acquisition == 1 && self.model.bounds.start == Start::HeldLong;
        let terms = terms_of(if long { self.model.long } else { self.model.timing });
        let holder = Holder::claim(base, token, terms, now);
        let node = self.node(index);
        let Activity::Following(candidate) = &node.activity else { return };
        let candidate = candidate.clone();
        node.activity = Activity::Tenure(Box::new(Tenure { holder, acquisition, candidate, cell: None, writes: 0 }));
    }

    fn write(&mut self, index: usize, now: Moment) {
        let Some(tenure) = self.node(index).tenure_mut() else { return };
        tenure.writes += 1;
        let write = tenure.holder.begin(SentAt(now), version(tenure.acquisition, tenure.writes));
        let runs = tenure.cell.as_ref().is_some_and(|cell| cell.working || !cell.token_fired);
        let released_under_work = write.kind == WriteKind::Release && runs;
        // R1: what it promises less is published before it leaves.
        let held_until = tenure.holder.held_until();
        if let Some(cell) = &mut tenure.cell {
            cell.valid_until = held_until.filter(|_| !cell.was_over);
        }
        if released_under_work {
            self.fail(Rule::ReleaseUnderWork);
        }
        self.send(index, now, Request::Write(write));
    }

    fn term_over(&mut self, index: usize) {
        let again = Restraint { not_before: self.local(index).after(self.model.timing.poll()), ..Restraint::default() };
        let fresh = self.candidate().restrained(again);
        self.abandon_flight(index);
        let node = self.node(index);
        let Activity::Tenure(tenure) = &node.activity else { return };
        // An acquisition that was never handed out goes on with its campaign; a term starts another.
        let next = if tenure.cell.is_some() { fresh } else { tenure.candidate.clone() };
        node.activity = Activity::Following(next);
    }

    /// A request that nobody waits for any more may still arrive.
    pub(super) fn abandon_flight(&mut self, index: usize) {
        if let Some(Flight { request: Request::Write(write), answer: None, .. }) = self.node(index).flight.take() {
            self.state.late.push(write);
        }
    }

    pub(super) fn candidate(&self) -> Candidate {
        let timing = &self.model.timing;
        Candidate::new(timing.poll(), timing.lease(), Absence::WaitsOutLease, false)
    }

    /// The holding task's turn, in its order: deadline first, then work, then what follows from both.
    pub(super) fn after_each_step(&mut self, index: usize) {
        let now = self.local(index);
        let released_under_work = self.model.slips(Slip::ReleaseUnderWork);
        let Some(tenure) = self.node(index).tenure_mut() else { return };
        tenure.holder.expire(now);
        let phase = tenure.holder.phase();
        if phase == Phase::Holding && tenure.cell.is_none() {
            self.hand_out(index);
        }
        let Some(tenure) = self.node(index).tenure_mut() else { return };
        let (held_until, hard) = (tenure.holder.held_until(), tenure.holder.hard_deadline());
        let Some(cell) = &mut tenure.cell else { return };
        let over = cell.was_over || cell.valid_until.is_none_or(|until| now >= until);
        if over && held_until.is_some() {
            return self.fail(Rule::Revival);
        }
        cell.valid_until = held_until;
        let mut lost = None;
        if let Phase::Lost(loss) = phase
            && !cell.was_over
        {
            lost = Some(loss);
            cell.was_over = true;
            cell.token_fired = true;
            cell.drain_until = Some(hard.unwrap_or(now));
        }
        if is_winding_down(phase) {
            let overdue = cell.drain_until.is_some_and(|until| now >= until);
            if !cell.working || released_under_work {
                cell.valid_until = None;
                cell.was_over = true;
                tenure.holder.work_ended(now);
            } else if overdue {
                // What work does from here on is its user's fault: no release, the lease runs out.
                cell.valid_until = None;
                cell.was_over = true;
                cell.working = false;
                tenure.holder.abandon();
            }
        }
        match lost {
            None => {}
            Some(Loss::Deadline) => self.note(Event::LostByDeadline),
            // Only operators can do that, and there are none here.
            Some(_) => self.fail(Rule::Exclusion),
        }
    }

    fn hand_out(&mut self, index: usize) {
        let Some(tenure) = self.node(index).tenure_mut() else { return };
        let token = tenure.holder.token();
        tenure.cell = Some(Cell {
            valid_until: tenure.holder.held_until(),
            token_fired: false,
            working: true,
            drain_until: None,
            was_over: false,
        });
        self.note(Event::HandedOut);
        if self.state.last_token.is_some_and(|last| token <= last) {
            self.fail(Rule::Tokens);
        }
        self.state.last_token = Some(token);
    }

    /// R7, voluntary: the token fires now, renewals go on, work gets its time.
    pub(super) fn resign(&mut self, index: usize) {
        let drain_until = self.local(index).after(self.model.drain());
        let Some(tenure) = self.node(index).tenure_mut() else { return };
        let Some(cell) = &mut tenure.cell else { return };
        tenure.holder.resign();
        cell.token_fired = true;
        cell.drain_until = Some(drain_until);
    }

    /// Work that was told to stop has stopped.
    pub(super) fn end_work(&mut self, index: usize) {
        if let Some(cell) = self.node(index).tenure_mut().and_then(|tenure| tenure.cell.as_mut()) {
            cell.working = false;
        }
        self.after_each_step(index);
    }

    /// From here on every write promises the usual lease, with a heartbeat now.
    pub(super) fn shorten(&mut self, index: usize) {
        let (now, terms) = (self.local(index), terms_of(self.model.timing));
        let Some(tenure) = self.node(index).tenure_mut() else { return };
        tenure.holder.set_terms(terms);
        tenure.holder.beat_now(now);
    }
}
