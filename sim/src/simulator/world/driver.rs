//! What the lock layer does with the machines, in its order of calls.

use super::*;

impl World {
    pub(super) fn answer(&mut self, index: usize, flight: u64, answer: Option<Answer>) {
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
                    let own = match write.kind {
                        WriteKind::Renew => None,
                        WriteKind::Release if self.scenario.deletes => Some(Seen::Absent),
                        kind => Some(Seen::Record(Sighting {
                            version: write.version.clone(),
                            lease: write.lease,
                            released: kind == WriteKind::Release,
                            writer: Writer::Ours,
                            token: Some(tenure.holder.token()),
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

    pub(super) fn drive(&mut self, index: usize) {
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

    pub(super) fn claim(&mut self, index: usize, base: Option<Version>, token: u64, now: Moment) {
        self.acquisitions += 1;
        self.seldom.takeovers_after_expiry += u64::from(
            self.store.record.as_ref().is_some_and(|record| Some(&record.version) == base.as_ref() && !record.released),
        );
        let node = &mut self.nodes[index];
        let holder = Holder::claim(base, token, terms_of(node.timing), now);
        let following = std::mem::replace(&mut node.activity, Activity::Down);
        let Activity::Following(candidate) = following else { return };
        node.activity = Activity::Tenure(Box::new(Tenure {
            holder,
            acquisition: self.acquisitions,
            candidate,
            cell: None,
            attempted: Vec::new(),
            extended: false,
        }));
    }

    pub(super) fn write(&mut self, index: usize, now: Moment) {
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

    pub(super) fn term_over(&mut self, index: usize, phase: Phase) {
        let fresh = self.candidate_again(index);
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
    pub(super) fn after_each_step(&mut self, index: usize) {
        let now = self.local(index);
        let Some(tenure) = self.nodes[index].tenure() else { return };
        tenure.holder.expire(now);
        let phase = tenure.holder.phase();
        if phase == Phase::Holding && tenure.cell.is_none() {
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
        if let Phase::Lost(loss) = phase
            && !cell.was_over
        {
            if loss != Loss::Deadline {
                // Only operators can do that, and there are none here.
                return self.fail(format!("I1: node {index} lost its lease before its deadline: {loss:?}"));
            }
            let hard = hard.unwrap_or(now);
            cell.was_over = true;
            cell.token_fired = true;
            cell.drain_until = Some(hard);
            // Work notices and winds down before its hard limit, unless it is stubborn.
            let left = hard.since(now).mul_f64(drain);
            cell.work_ends = Some(if stubborn { Moment::from_nanos(u64::MAX) } else { now.after(left) });
            self.seldom.lost_by_deadline += 1;
            self.seldom.stubborn_work += u64::from(stubborn);
        }
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

    pub(super) fn handed_out(&mut self, index: usize, now: Moment) {
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
        self.nodes[index].led += 1;
        self.say(index, || format!("leads with token {token}"));
        if self.scenario.has_tokens() && token <= self.last_token {
            self.fail(format!("I2: token {token} after {}", self.last_token));
        }
        self.last_token = token;
        let at = self.nodes[index].clock.true_time(now);
        self.schedule(at, index, Event::Work { acquisition });
    }

    pub(super) fn resign(&mut self, index: usize, now: Moment) {
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

    /// Changes what every write of a held lease promises, with a heartbeat now.
    pub(super) fn extend(&mut self, index: usize, now: Moment) {
        let times = self.rng.u32(1..=EXTENSION);
        let timing = self.nodes[index].timing;
        let Ok(changed) = timing.with_lease(timing.lease() * times) else { return };
        let Some(tenure) = self.nodes[index].tenure().filter(|tenure| tenure.holder.phase() == Phase::Holding) else {
            return;
        };
        tenure.extended = true;
        tenure.holder.set_terms(terms_of(changed));
        tenure.holder.beat_now(now);
        self.seldom.leases_extended += u64::from(times > 1);
        self.seldom.leases_shortened += u64::from(times == 1);
    }
}

fn is_winding_down(phase: Phase) -> bool {
    matches!(phase, Phase::Draining | Phase::Lost(_))
}
