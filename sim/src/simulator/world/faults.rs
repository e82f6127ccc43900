//! What goes wrong.

use super::*;

/// A crashed process that is back so soon meets its own lease.
const FAST: u64 = 1_000_000_000;

impl World {
    pub(super) fn next_fault(&mut self, fault: Fault) {
        let Some((_, mean)) = self.scenario.every.iter().find(|(kind, _)| *kind == fault).copied() else { return };
        let at = self.now + self.rng.u64(0..2 * nanos(mean));
        if at < self.quiet {
            self.queue.push(at, Event::Fault(fault));
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.next_fault(fault);
        // Mostly the leader: faults of followers are dull.
        let leader = (0..self.nodes.len()).find(|index| self.nodes[*index].cell().is_some());
        let any = self.rng.usize(0..self.nodes.len());
        let index = if self.rng.bool() { leader.unwrap_or(any) } else { any };
        let lease = nanos(self.nodes[index].timing.lease());
        let until = (self.now + self.rng.u64(1..lease * 3 / 2)).min(self.quiet);
        self.say(index, || format!("{fault:?} until {until}"));
        let counts = &mut self.tally.counts;
        let node = &mut self.nodes[index];
        match fault {
            Fault::Cut => {
                counts.cuts += 1;
                (node.requests_cut_until, node.replies_cut_until) = (until, until);
            }
            Fault::CutRequests => {
                counts.half_cuts += 1;
                node.requests_cut_until = until;
            }
            Fault::CutReplies => {
                counts.half_cuts += 1;
                node.replies_cut_until = until;
            }
            Fault::Outage => {
                counts.outages += 1;
                self.outage = self.now..(self.now + self.rng.u64(1..lease * 3)).min(self.quiet);
            }
            Fault::Pause => {
                counts.pauses += 1;
                self.pause(index, until);
            }
            Fault::Suspend if on(Mutant::ClockStopsInSuspend) => {
                node.clock.stop(self.now, until);
                node.stand_still(self.now, until);
                self.pause(index, until);
            }
            Fault::Suspend => {
                counts.suspends += 1;
                node.stand_still(self.now, until);
                if !on(Mutant::NoComparison) {
                    node.timers.compare = until + self.rng.u64(0..COMPARE_EVERY);
                }
                self.pause(index, until);
            }
            Fault::StopClock => {
                counts.clock_stops += 1;
                node.clock.stop(self.now, until);
                node.stand_still(self.now, until);
                let stopped_at = node.clock.local(until);
                node.last_term = None;
                if let Some(tenure) = node.tenure() {
                    tenure.stopped = Some(stopped_at);
                }
                self.pause(index, until);
            }
            Fault::Crash => self.crash(index, until),
            Fault::Resign | Fault::Extend => {
                let now = self.local(index);
                if self.nodes[index].paused_until <= self.now {
                    if fault == Fault::Resign {
                        self.let_go(index, now)
                    } else {
                        self.extend(index, now)
                    }
                    self.drive(index);
                }
            }
            Fault::DeleteRecord | Fault::RestoreRecord | Fault::ForgeRecord => self.operate(fault),
        }
    }

    fn pause(&mut self, index: usize, until: u64) {
        let node = &mut self.nodes[index];
        self.tally.counts.thaws_past_deadline += u64::from(node.is_valid(self.now) && !node.is_valid(until));
        node.paused_until = node.paused_until.max(until);
    }

    fn crash(&mut self, index: usize, until: u64) {
        self.tally.counts.crashes += 1;
        let until = if self.rng.u8(0..3) == 0 { self.now + self.rng.u64(0..FAST) } else { until };
        // A machine that stands still starts nothing.
        let until = until.max(self.nodes[index].clock.runs_from());
        self.tally.counts.fast_restarts += u64::from(until < self.now + FAST);
        if let Some(timing) = self.scenario.rollout.filter(|_| self.rng.bool()) {
            let usual = self.scenario.settings[index].timing;
            let node = &mut self.nodes[index];
            node.set_timing(if node.timing == usual { timing } else { usual });
            self.tally.counts.rollouts += 1;
        }
        let node = &mut self.nodes[index];
        node.life += 1;
        node.flight = None;
        node.timers = Timers::NONE;
        node.activity = Activity::Down;
        node.last_term = None;
        // Memory is lost, the clock of the machine runs on.
        node.observation = Observation::default();
        node.paused_until = 0;
        let life = node.life;
        self.queue.push(until, Event::Restart { node: index, life });
    }

    /// Somebody writes the record who must not (A6).
    fn operate(&mut self, fault: Fault) {
        let done = match fault {
            Fault::DeleteRecord => {
                self.tally.counts.deletions += 1;
                self.store.erase()
            }
            Fault::RestoreRecord => {
                self.tally.counts.restores += 1;
                let back = self.rng.usize(0..HISTORY);
                self.store.restore(back)
            }
            _ => {
                self.tally.counts.forgeries += 1;
                self.forge()
            }
        };
        if let Err(what) = done {
            self.fail(what);
        }
    }

    fn forge(&mut self) -> Result<(), String> {
        if self.rng.bool() {
            // Whoever broke it mends it, before the quiet end at the latest.
            self.store.malformed = self.store.record.is_some() && self.rng.bool();
            self.mend_later();
            if self.store.malformed {
                return Ok(());
            }
        }
        self.versions += 1;
        let writer = *self.rng.choice(&[Writer::Ours, Writer::Foreign, Writer::Newer]).unwrap_or(&Writer::Ours);
        if writer == Writer::Newer {
            self.mend_later();
        }
        let lease = self.nodes[0].timing.lease();
        let plan = self.forged_plan();
        self.store.forge(Sighting {
            version: Version::new(format!("forged-{}", self.versions)),
            lease: if self.rng.bool() { Duration::from_secs(1) } else { lease },
            released: self.rng.bool(),
            writer,
            token: self.rng.bool().then(|| self.rng.u64(0..100)),
            plan,
        })
    }

    /// Any plan, or none: it may send followers to look at any time, and no more.
    fn forged_plan(&mut self) -> Plan {
        let mut any =
            || self.rng.bool().then(|| Duration::from_millis(self.rng.u64(0..100_000) / self.rng.u64(1..1_000)));
        Plan { heartbeat: any(), ending: any() }
    }

    fn mend_later(&mut self) {
        let at = (self.now + self.rng.u64(0..60_000_000_000)).min(self.quiet);
        self.queue.push(at, Event::Mend);
    }

    /// What can't be read, or is of a newer format, is put right: it is marked released.
    pub(super) fn mend(&mut self) {
        let newer = self.store.record.as_ref().is_some_and(|record| record.writer == Writer::Newer);
        if !self.store.malformed && !newer {
            return;
        }
        self.tally.counts.mended += 1;
        self.versions += 1;
        let token = self.store.record.as_ref().and_then(|record| record.token);
        let version = Version::new(format!("mended-{}", self.versions));
        let lease = self.nodes[0].timing.lease();
        let mended = Sighting { version, lease, released: true, writer: Writer::Ours, token, plan: Plan::default() };
        if let Err(what) = self.store.forge(mended) {
            self.fail(what);
        }
    }
}
