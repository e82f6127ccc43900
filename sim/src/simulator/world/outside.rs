//! Those the machines know nothing of: the work of a leader, the resource it acts on, a foreign client.

use super::*;

impl World {
    /// Checks, then sends an effect that carries its token and may take its time.
    pub(super) fn work(&mut self, index: usize, acquisition: Acquisition) {
        let valid = self.nodes[index].is_valid(self.now);
        let life = self.nodes[index].life;
        let Some(tenure) = self.nodes[index].tenure() else { return };
        if tenure.acquisition != acquisition || !tenure.cell.as_ref().is_some_and(|cell| cell.working) {
            return;
        }
        let token = tenure.holder.token();
        if valid {
            let at = if self.happens(0.05) { self.now + self.rng.u64(0..20_000_000_000) } else { self.delayed() };
            self.tally.counts.effects += 1;
            self.queue.push(at, Event::Effect { acquisition, token });
        }
        let next = self.now + self.rng.u64(500_000_000..4_000_000_000);
        self.queue.push(next, Event::Work { node: index, life, acquisition });
    }

    /// I4: the resource accepts nothing lower than what it has seen.
    pub(super) fn effect(&mut self, acquisition: Acquisition, token: u64) {
        if !self.scenario.has_tokens() {
            return;
        }
        match self.resource {
            // Acquisitions are numbered in the order in which they began, and where records stay they are applied in it.
            Some((highest, other)) if token < highest && acquisition > other => {
                self.fail(format!("I4: {acquisition} is refused with token {token}, {other} before it had {highest}"));
            }
            Some((highest, _)) if token < highest => self.tally.counts.fenced_off += 1,
            Some((highest, other)) if token == highest && other != acquisition => {
                self.fail(format!("I4: acquisitions {other} and {acquisition} both act with token {token}"));
            }
            _ => self.resource = Some((token, acquisition)),
        }
    }

    pub(super) fn foreign_is_valid(&self) -> bool {
        self.foreign.as_ref().is_some_and(|foreign| foreign.is_valid(foreign.clock.local(self.now)))
    }

    pub(super) fn foreign_acts(&mut self) {
        let quiet = self.is_quiet();
        let resign = self.rng.u8(0..20) == 0;
        let Some(foreign) = &mut self.foreign else { return };
        let now = foreign.clock.local(self.now);
        let op = foreign.act(now, resign || quiet);
        let mut period = nanos(foreign.period());
        let at = self.delayed();
        let lose = self.scenario.lose_request;
        if !self.happens(lose) {
            self.queue.push(at, Event::ForeignArrives(Box::new(op)));
        }
        if self.happens(0.02) {
            // It freezes for longer than its lease.
            period += period * 8;
        }
        if !quiet {
            self.queue.push(self.now + period, Event::ForeignActs);
        }
    }

    pub(super) fn foreign_arrives(&mut self, op: ForeignOp) {
        let Some(foreign) = &self.foreign else { return };
        let heard = match &op {
            ForeignOp::Read => Err(self.store.read(Consistency::Strong, 0)),
            ForeignOp::Release(version) => {
                self.store.foreign_release(version);
                return;
            }
            ForeignOp::Delete(version) => {
                match self.store.foreign_delete(version) {
                    Ok(deleted) => self.tally.counts.foreign_deletions += u64::from(deleted),
                    Err(what) => self.fail(what),
                }
                return;
            }
            ForeignOp::Put { base, version, .. } => {
                let before = self.store.author;
                match self.store.foreign_put(base.as_ref(), version.clone(), foreign.lease) {
                    Ok(applied) => {
                        if applied && before.is_some() {
                            self.check_takeover(None);
                        }
                        Ok(applied)
                    }
                    Err(what) => return self.fail(what),
                }
            }
        };
        self.say(OUTSIDE, || format!("foreign {op:?}: {heard:?}"));
        let at = self.delayed();
        self.queue.push(at, Event::ForeignHears(Box::new((op, heard))));
    }

    pub(super) fn foreign_hears(&mut self, op: ForeignOp, heard: Result<bool, Seen>) {
        let quiet = self.is_quiet();
        let Some(foreign) = &mut self.foreign else { return };
        let now = foreign.clock.local(self.now);
        match (op, heard) {
            (ForeignOp::Put { base, version, sent }, Ok(applied)) => {
                let first = foreign.held.as_ref().map(|(version, _)| version) != base.as_ref();
                foreign.put_answered(applied, version, sent);
                self.tally.counts.foreign_terms += u64::from(applied && first);
            }
            (_, Err(seen)) if !quiet && foreign.held.is_none() => {
                if let Some(put) = foreign.saw(&seen, now) {
                    let at = self.delayed();
                    self.queue.push(at, Event::ForeignArrives(Box::new(put)));
                }
            }
            _ => {}
        }
    }
}
