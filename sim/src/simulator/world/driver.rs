//! What the lock layer does with the machines, in its order of calls.

use std::rc::Rc;

use super::*;
use crate::protocol::{MOST_PAUSE, Terms};

/// What a holder gets of a timing, with the margins broken that are to be broken.
fn terms(timing: Timing) -> Terms {
    let mut terms = terms_of(timing);
    if on(Mutant::ValidityIsLease) {
        (terms.validity, terms.hard_limit) = (terms.lease, terms.lease);
    }
    if on(Mutant::NoDriftMargin) {
        terms.hard_limit = terms.lease.saturating_sub(timing.guard());
    }
    if on(Mutant::NoGuard) {
        terms.hard_limit += timing.guard();
    }
    if on(Mutant::BeatsTwice) {
        terms.heartbeat /= 2;
    }
    terms
}

impl World {
    /// What the SDK makes of an operation, in the end.
    pub(super) fn answer(&mut self, index: usize, answer: Option<Answer>) {
        let Some(open) = self.nodes[index].flight.take() else { return };
        (self.nodes[index].timers.retry, self.nodes[index].timers.timeout) = (NEVER, NEVER);
        let (now, spread) = (self.local(index), self.rng.f64());
        self.say(index, || format!("hears {answer:?}"));
        let node = &mut self.nodes[index];
        match &mut node.activity {
            Activity::Down => {}
            Activity::Following(candidate) => match answer {
                Some(Answer::Read(seen)) => {
                    let Request::Read(consistency) = open.request else { return };
                    let noted = node.observation.observe(seen, open.sent, ReceivedAt(now), consistency);
                    self.tally.counts.stale_reads += u64::from(noted == Noted::Stale);
                    let current = self.store.record.as_ref();
                    let is_news = noted == Noted::Changed
                        && current.is_some_and(|is| node.observation.known_since(&is.version).is_some());
                    self.tally.lag.note_all(is_news.then(|| self.now - self.written_at));
                    candidate.answered(&node.observation, open.sent, now);
                }
                Some(Answer::Write(_)) => {}
                None => candidate.failed(true, now, spread),
            },
            Activity::Tenure(tenure) => match (open.request, answer) {
                (Request::Write(write), Some(Answer::Write(Reply::Applied))) => {
                    let own = match write.kind {
                        WriteKind::Release if self.scenario.deletes => Some(Seen::Absent),
                        _ => own_write(&write, tenure.holder.token()),
                    };
                    if let Some(own) = own {
                        node.observation.observe(own, open.sent, ReceivedAt(now), Consistency::Strong);
                    }
                    tenure.holder.on_reply(&Reply::Applied, now, spread);
                    tenure.stopped.take_if(|stopped| open.sent.0 > *stopped);
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
                    if on(Mutant::FirstErrorIsLoss) && tenure.holder.phase() == Phase::Holding {
                        tenure.holder.resign();
                        tenure.holder.work_ended(now);
                        self.tally.counts.lost_otherwise += 1;
                    }
                    if tenure.holder.phase() == Phase::Claiming {
                        tenure.candidate.failed(true, now, spread);
                        if tenure.holder.misses() >= CLAIM_TRIES {
                            tenure.holder.work_ended(now);
                            self.tally.counts.claims_taken_back += 1;
                        }
                    }
                }
                (Request::Read(_), Some(Answer::Read(seen))) => {
                    let noted = node.observation.observe(seen.clone(), open.sent, ReceivedAt(now), Consistency::Strong);
                    tenure.holder.on_read(Some(&seen), now, spread);
                    if tenure.holder.phase() == Phase::Refused {
                        tenure.candidate.refused(noted, now);
                    }
                    self.tally.counts.settled_by_read += 1;
                }
                (Request::Read(_), _) => tenure.holder.on_read(None, now, spread),
            },
        }
    }

    pub(super) fn drive(&mut self, index: usize) {
        loop {
            self.after_each_step(index);
            let now = self.local(index);
            if let Some(Next::Claim { base, token }) = self.by_wall_clock(index, now) {
                self.claim(index, base, token, now);
            }
            let node = &mut self.nodes[index];
            node.timers.wake = NEVER;
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
                    let lets_go = cell.and_then(|cell| cell.lets_go).filter(|_| phase == Phase::Holding);
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
                    if let Some(until) = [until, drain, work, lets_go].into_iter().flatten().min() {
                        self.wake_at(index, until);
                    }
                    return;
                }
            }
        }
    }

    pub(super) fn claim(&mut self, index: usize, base: Option<Version>, token: u64, now: Moment) {
        self.acquisitions += 1;
        let node = &mut self.nodes[index];
        let holder = Holder::claim(base, token, terms(node.timing), now);
        let following = std::mem::replace(&mut node.activity, Activity::Down);
        let Activity::Following(candidate) = following else { return };
        node.activity = Activity::Tenure(Box::new(Tenure {
            holder,
            acquisition: self.acquisitions,
            candidate,
            cell: None,
            attempted: Vec::new(),
            stopped: None,
        }));
    }

    /// R9, broken: what a follower would claim that trusts the holder's own time.
    fn by_wall_clock(&self, index: usize, now: Moment) -> Option<Next> {
        let node = &self.nodes[index];
        if !on(Mutant::WallClockExpiry) || !matches!(node.activity, Activity::Following(_)) {
            return None;
        }
        let record = self.store.record.as_ref()?;
        let known = node.observation.known_since(&record.version).is_some();
        let expired = now.since(self.store.stamp) > record.lease;
        let base = Some(record.version.clone());
        (known && expired).then(|| Next::Claim { base, token: node.observation.next_token() })
    }

    fn wake_at(&mut self, index: usize, moment: Moment) {
        // Timers are a little late, as they are.
        let late = self.rng.u64(0..2_000_000);
        let node = &mut self.nodes[index];
        node.timers.wake = node.clock.true_time(moment).max(self.now).saturating_add(late);
    }

    pub(super) fn write(&mut self, index: usize, now: Moment) {
        self.versions += 1;
        let version = Version::new(format!("v{}", self.versions));
        let Some(tenure) = self.nodes[index].tenure() else { return };
        let write = tenure.holder.begin(SentAt(now), version.clone());
        tenure.attempted.push(version.clone());
        let acquisition = tenure.acquisition;
        let runs = tenure.cell.as_ref().is_some_and(|cell| cell.working || !cell.token_fired);
        self.store.register(&version, acquisition, index);
        if write.kind == WriteKind::Release && runs {
            self.fail(format!("I5: node {index} releases while its work runs"));
        }
        self.send(index, SentAt(now), Request::Write(Rc::new(write)));
    }

    pub(super) fn term_over(&mut self, index: usize, phase: Phase) {
        let fresh = self.candidate_again(index);
        let node = &mut self.nodes[index];
        let following = std::mem::replace(&mut node.activity, Activity::Down);
        let Activity::Tenure(tenure) = following else { return };
        node.flight = None;
        node.timers = Timers { compare: node.timers.compare, ..Timers::NONE };
        // An acquisition that was never handed out goes on with its campaign; a term starts another.
        let held = tenure.cell.is_some();
        node.activity = Activity::Following(if held { fresh } else { tenure.candidate });
        if held {
            self.tally.counts.released += u64::from(phase == Phase::Ended(Release::Released));
            self.tally.counts.release_unknown += u64::from(phase == Phase::Ended(Release::Unknown));
        }
        self.say(index, || format!("acquisition {} is over: {phase:?}", tenure.acquisition));
    }

    /// The holding task's turn, in its order: deadline first, then work, then what follows from both.
    pub(super) fn after_each_step(&mut self, index: usize) {
        let clock = self.nodes[index].clock;
        let Some(tenure) = self.nodes[index].tenure() else { return };
        let now = clock.local(self.now);
        tenure.holder.expire(now);
        if tenure.holder.phase() == Phase::Holding && tenure.cell.is_none() {
            self.handed_out(index);
        }
        if self.nodes[index].cell().and_then(|cell| cell.lets_go).is_some_and(|at| now >= at) {
            self.resign(index, now);
        }
        let (drain, stubborn) = (self.rng.f64(), self.scenario.stubborn);
        let stubborn = self.happens(stubborn);
        let forged = !self.is_sheltered();
        let Some(tenure) = self.nodes[index].tenure() else { return };
        let (phase, acquisition) = (tenure.holder.phase(), tenure.acquisition);
        let (held_until, hard) = (tenure.holder.held_until(), tenure.holder.hard_deadline());
        let Some(cell) = &mut tenure.cell else { return };
        if cell.was_over && held_until.is_some() {
            return self.fail(format!("R8: node {index} holds again what was over"));
        }
        let before = cell.valid_until;
        let (mut told, mut early) = (None, None);
        cell.valid_until = held_until;
        if let Phase::Lost(loss) = phase
            && !cell.was_over
        {
            // Only operators can do that, or a clock that stood still.
            early = Some(loss).filter(|_| loss != Loss::Deadline && tenure.stopped.is_none() && !forged);
            let hard = hard.unwrap_or(now);
            cell.was_over = true;
            cell.token_fired = true;
            cell.drain_until = Some(hard);
            // Work notices and winds down before its hard limit, unless it is stubborn.
            let left = hard.since(now).mul_f64(drain);
            cell.work_ends = Some(if stubborn { Moment::NEVER } else { now.after(left) });
            told = before
                .filter(|_| tenure.stopped.is_none() && loss == Loss::Deadline)
                .map(|until| clock.true_time(until));
            let counts = &mut self.tally.counts;
            counts.lost_by_deadline += u64::from(loss == Loss::Deadline);
            counts.lost_otherwise += u64::from(loss != Loss::Deadline);
            counts.stubborn_work += u64::from(stubborn);
        }
        if let Some(loss) = early {
            self.fail(format!("I1: node {index} lost its lease before its deadline: {loss:?}"));
        }
        self.wind_down(index, now);
        if let Some(valid_until) = told {
            self.check_told(index, valid_until);
        }
        self.note_end(index, acquisition, before);
    }

    /// Moves on when work has ended, or is past its bound.
    fn wind_down(&mut self, index: usize, now: Moment) {
        let Some(tenure) = self.nodes[index].tenure() else { return };
        let phase = tenure.holder.phase();
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

    /// When a term ended, for the measure of what comes after it.
    fn note_end(&mut self, index: usize, acquisition: Acquisition, before: Option<Moment>) {
        let (now, node) = (self.now, &mut self.nodes[index]);
        let clock = node.clock;
        let Some(cell) = node.cell() else { return };
        let (until, fired) = (cell.valid_until, cell.token_fired);
        let Some(last) = node.last_term.as_mut().filter(|last| last.acquisition == acquisition) else { return };
        if until != before {
            last.valid_until = until.map_or(last.valid_until.min(now), |until| clock.true_time(until));
        }
        if fired {
            last.fired.get_or_insert(now);
        }
    }

    pub(super) fn handed_out(&mut self, index: usize) {
        let Some(tenure) = self.nodes[index].tenure() else { return };
        let (token, acquisition) = (tenure.holder.token(), tenure.acquisition);
        tenure.cell = Some(Cell {
            valid_until: tenure.holder.held_until(),
            token_fired: false,
            working: true,
            work_ends: None,
            drain_until: None,
            lets_go: None,
            was_over: false,
        });
        self.tally.counts.terms += 1;
        let node = &mut self.nodes[index];
        node.led += 1;
        let valid_until = node.cell().and_then(|cell| cell.valid_until).map(|until| node.clock.true_time(until));
        let stopped = node.held().is_some_and(|tenure| tenure.stopped.is_some());
        let valid_until = valid_until.filter(|_| !stopped);
        node.last_term = valid_until.map(|valid_until| LastTerm { acquisition, valid_until, fired: None });
        let life = node.life;
        self.say(index, || format!("leads with token {token}"));
        self.queue.push(self.now, Event::Work { node: index, life, acquisition });
    }

    /// A planned end: mostly followers are told of it first.
    pub(super) fn let_go(&mut self, index: usize, now: Moment) {
        let announces = self.scenario.phase_locked && self.rng.u8(0..4) > 0;
        let timing = self.nodes[index].timing;
        let most = if announces { MOST_PAUSE.min(timing.heartbeat() * 2) } else { Duration::ZERO };
        let Some(tenure) = self.nodes[index].tenure() else { return };
        let Some(cell) = tenure.cell.as_mut().filter(|cell| cell.lets_go.is_none()) else { return };
        cell.lets_go = tenure.holder.announce(now, timing.poll(), most);
        match cell.lets_go {
            Some(_) => {
                tenure.holder.beat_now(now);
                self.tally.counts.announced += 1;
            }
            None => self.resign(index, now),
        }
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
        if on(Mutant::ReleaseBeforeWorkEnds) {
            tenure.holder.work_ended(now);
        }
        self.tally.counts.resigns += 1;
    }

    /// Changes what every write of a held lease promises, with a heartbeat now.
    pub(super) fn extend(&mut self, index: usize, now: Moment) {
        let times = self.rng.u32(1..=EXTENSION);
        let timing = self.nodes[index].timing;
        let Ok(changed) = timing.with_lease(timing.lease() * times) else { return };
        let Some(tenure) = self.nodes[index].tenure().filter(|tenure| tenure.holder.phase() == Phase::Holding) else {
            return;
        };
        tenure.holder.set_terms(terms(changed));
        tenure.holder.beat_now(now);
        self.tally.counts.leases_extended += u64::from(times > 1);
        self.tally.counts.leases_shortened += u64::from(times == 1);
    }
}
