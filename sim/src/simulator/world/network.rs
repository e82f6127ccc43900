//! The network and the store at its end: loss, delay, repetition.

use super::*;

impl World {
    pub(super) fn send(&mut self, index: usize, sent: SentAt, request: Request) {
        self.flights += 1;
        let flight = self.flights;
        self.say(index, || format!("sends {request:?}"));
        let node = &mut self.nodes[index];
        node.requests += 1;
        node.flight = Some(Flight { id: flight, sent, request: request.clone() });
        let (clock, timing) = (node.clock, node.timing);
        let retry = clock.true_time(sent.0.after(timing.attempt_timeout()));
        let timeout = clock.true_time(sent.0.after(timing.operation_timeout()));
        self.attempt(index, flight, request);
        self.schedule(retry, index, Event::Retry { flight });
        self.schedule(timeout, index, Event::Timeout { flight });
    }

    pub(super) fn retry(&mut self, index: usize, flight: u64) {
        if let Some(open) = self.nodes[index].flight.clone().filter(|open| open.id == flight) {
            self.attempt(index, flight, open.request);
        }
    }

    pub(super) fn attempt(&mut self, index: usize, flight: u64, request: Request) {
        let lose = self.scenario.lose_request;
        if self.nodes[index].cut_until > self.now || self.happens(lose) {
            return;
        }
        let duplicate = self.scenario.duplicate;
        if self.happens(duplicate) {
            let at = self.now + self.network_delay() + self.network_delay();
            self.schedule(at, index, Event::Arrive { flight, request: request.clone(), answered: false });
        }
        let at = self.now + self.network_delay();
        self.schedule(at, index, Event::Arrive { flight, request, answered: true });
    }

    pub(super) fn arrive(&mut self, index: usize, life: u32, flight: u64, request: &Request, answered: bool) {
        let answer = match request {
            Request::Read(consistency) => {
                let stale = self.scenario.stale;
                let back = if self.happens(stale) { self.rng.usize(0..=HISTORY) } else { 0 };
                Answer::Read(self.store.read(*consistency, back))
            }
            Request::Write(write) => {
                let Some(reply) = self.apply(index, write) else { return };
                if !answered && matches!(reply, Reply::Refused(_)) {
                    self.seldom.duplicates_refused += 1;
                }
                Answer::Write(reply)
            }
        };
        let lose = self.scenario.lose_reply;
        let cut = self.nodes[index].cut_until > self.now;
        if answered && self.nodes[index].life == life && !cut && !self.happens(lose) {
            let at = self.now + self.network_delay();
            self.schedule(at, index, Event::Answer { flight, answer });
        }
    }

    /// Applies a write and checks, where it installs somebody new, that nobody else may still act.
    pub(super) fn apply(&mut self, index: usize, write: &Write) -> Option<Reply> {
        let before = self.store.author;
        let reply = match self.store.write(write) {
            Ok(reply) => reply,
            Err(what) => {
                self.fail(what);
                return None;
            }
        };
        let author = self.store.author_of(&write.version);
        self.say(index, || format!("store: {:?} {:?}: {reply:?}", write.kind, write.version));
        if reply == Reply::Applied && matches!(write.kind, WriteKind::Claim { .. }) && before != author {
            self.check_takeover(author);
        }
        Some(reply)
    }
}
