//! The network and the store at its end: loss, delay, repetition.

use super::*;

/// Attempts of one operation, as the store sets the SDK up.
const ATTEMPTS: u32 = 4;

impl World {
    fn network_delay(&mut self) -> u64 {
        let slow = self.scenario.slow;
        if self.happens(slow) {
            self.tally.counts.slowed += 1;
            self.rng.u64(0..nanos(self.scenario.max_delay))
        } else {
            self.rng.u64(1_000_000..15_000_000)
        }
    }

    pub(super) fn delayed(&mut self) -> u64 {
        self.now + self.network_delay()
    }

    pub(super) fn send(&mut self, index: usize, sent: SentAt, request: Request) {
        self.flights += 1;
        let flight = self.flights;
        self.say(index, || format!("sends {request:?}"));
        let counts = &mut self.tally.counts;
        match &request {
            Request::Read(_) => counts.reads += 1,
            Request::Write(write) => match write.kind {
                WriteKind::Claim { .. } => counts.claims += 1,
                WriteKind::Renew => counts.renewals += 1,
                WriteKind::Release => counts.releases += 1,
            },
        }
        self.count_request();
        let node = &mut self.nodes[index];
        node.requests += 1;
        node.timers.retry = self.now + node.attempt_timeout;
        node.timers.timeout = self.now + node.operation_timeout;
        node.flight = Some(Flight { id: flight, sent, request: request.clone(), attempts: 1, paid: 0, pauses: false });
        self.attempt(index, flight, request);
    }

    fn count_request(&mut self) {
        if let Some(rates) = &mut self.rates {
            let second = usize::try_from(self.now / 1_000_000_000).unwrap_or(usize::MAX);
            if rates.len() <= second {
                rates.resize(second + 1, 0);
            }
            rates[second] += 1;
        }
    }

    /// The latest attempt of an operation was answered; an earlier one was given up.
    pub(super) fn attempt_answered(&mut self, index: usize, flight: u64, answer: Option<Answer>) {
        let node = &mut self.nodes[index];
        let Some(open) = node.flight.as_ref().filter(|open| open.id == flight) else { return };
        if answer.is_none() {
            return self.attempt_failed(index, ERROR_COST);
        }
        node.retry_tokens = (node.retry_tokens + open.paid.max(1)).min(RETRY_TOKENS);
        self.answer(index, answer);
    }

    /// The SDK tries again after a pause, if it has an attempt left and its bucket pays for it; or the operation has failed.
    pub(super) fn attempt_failed(&mut self, index: usize, cost: u32) {
        let spread = self.rng.f64();
        self.flights += 1;
        let node = &mut self.nodes[index];
        let Some(open) = node.flight.as_mut().filter(|open| open.attempts < ATTEMPTS && node.retry_tokens >= cost)
        else {
            return self.answer(index, None);
        };
        node.retry_tokens -= cost;
        let pause = Duration::from_nanos((node.attempt_timeout / 10) << (open.attempts - 1)).mul_f64(spread);
        (open.id, open.paid, open.pauses) = (self.flights, cost, true);
        open.attempts += 1;
        node.timers.retry = self.now + nanos(pause).min(node.attempt_timeout / 2);
    }

    /// The SDK's own next attempt of the same request.
    pub(super) fn attempt_again(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let Some(open) = &mut node.flight else { return };
        open.pauses = false;
        node.timers.retry = self.now + node.attempt_timeout;
        let (flight, request) = (open.id, open.request.clone());
        self.tally.counts.retries += 1;
        self.count_request();
        self.attempt(index, flight, request);
    }

    fn attempt(&mut self, node: usize, flight: u64, request: Request) {
        let lose = self.scenario.lose_request;
        let is_cut = self.nodes[node].requests_cut_until > self.now;
        if is_cut || self.happens(lose) {
            self.tally.counts.requests_lost += u64::from(!is_cut);
            return;
        }
        let life = self.nodes[node].life;
        let (duplicate, old) = (self.scenario.duplicate, self.scenario.old_duplicate);
        if self.happens(duplicate) {
            self.tally.counts.duplicated += 1;
            let mut at = self.delayed() + self.network_delay();
            if self.happens(old) {
                // Long after everything that its sender knew of, but not after the end of all faults: it is one.
                self.tally.counts.old_duplicates += 1;
                let late = at + self.rng.u64(0..8 * nanos(self.nodes[node].timing.lease()));
                at = late.min(self.quiet.max(at));
            }
            let request = request.clone();
            self.queue.push(at, Event::Arrive { node, life, flight, answered: false, request });
        }
        let at = self.delayed();
        self.queue.push(at, Event::Arrive { node, life, flight, answered: true, request });
    }

    pub(super) fn arrive(&mut self, node: usize, life: u32, flight: u64, request: &Request, answered: bool) {
        let throttle = self.scenario.throttle;
        let refuses = self.outage.contains(&self.now) || self.happens(throttle);
        let answer = if refuses {
            self.tally.counts.throttled += 1;
            None
        } else {
            Some(match request {
                Request::Read(consistency) => {
                    let stale = self.scenario.stale;
                    let back = if self.happens(stale) { self.rng.usize(0..=HISTORY) } else { 0 };
                    self.tally.counts.stale_answers += u64::from(back > 0 && *consistency == Consistency::Eventual);
                    Answer::Read(self.store.read(*consistency, back))
                }
                Request::Write(write) => {
                    let Some(reply) = self.apply(node, write) else { return };
                    if !answered && matches!(reply, Reply::Refused(_)) {
                        self.tally.counts.duplicates_refused += 1;
                    }
                    Answer::Write(reply)
                }
            })
        };
        if !answered || self.nodes[node].life != life || self.nodes[node].replies_cut_until > self.now {
            return;
        }
        let lose = self.scenario.lose_reply;
        if self.happens(lose) {
            self.tally.counts.replies_lost += 1;
            return;
        }
        let at = self.delayed();
        self.queue.push(at, Event::Answer { node, life, flight, answer });
    }

    /// Applies a write and checks, where it installs somebody new, that nobody else may still act.
    fn apply(&mut self, index: usize, write: &Write) -> Option<Reply> {
        let before = (self.store.author, self.store.record.as_ref().map(|record| (record.released, record.writer)));
        let reply = match self.store.write(write) {
            Ok(reply) => reply,
            Err(what) => {
                self.fail(what);
                return None;
            }
        };
        let author = self.store.author_of(&write.version);
        self.say(index, || format!("store: {:?} {:?}: {reply:?}", write.kind, write.version));
        if reply == Reply::Applied {
            self.store.stamp = self.local(index);
            self.written_at = self.now;
            match write.kind {
                WriteKind::Claim { token } if before.0 != author => self.taken(author, token, before),
                WriteKind::Claim { .. } | WriteKind::Renew | WriteKind::Release => {}
            }
        }
        Some(reply)
    }

    /// A claim was applied over somebody else's record, or over none.
    fn taken(
        &mut self,
        by: Option<Acquisition>,
        token: u64,
        (from, record): (Option<Acquisition>, Option<(bool, Writer)>),
    ) {
        self.check_takeover(by);
        self.check_token(token);
        let counts = &mut self.tally.counts;
        match record {
            Some((_, Writer::Newer)) => self.fail("R14: a record of a newer format was taken over".into()),
            Some((released, _)) => {
                counts.takeovers_after_release += u64::from(released);
                counts.takeovers_after_expiry += u64::from(!released);
                self.measure(from, released);
            }
            None => counts.creations += 1,
        }
    }

    /// How long after the end of the last term.
    fn measure(&mut self, from: Option<Acquisition>, released: bool) {
        // Where others write the record nothing is promised of what comes after what.
        let Some(from) = from.filter(|_| !self.scenario.has_operator()) else { return };
        let now = self.now;
        let Some(term) = self.nodes.iter().filter_map(|node| node.last_term).find(|term| term.acquisition == from)
        else {
            return;
        };
        let fired = term.fired.map(|fired| now.saturating_sub(fired));
        if released {
            self.tally.handover.note_all(fired);
            return;
        }
        let margin = now.saturating_sub(term.valid_until);
        self.tally.margin.note(margin);
        self.smallest = self.smallest.min(margin);
        self.tally.fired_margin.note_all(fired);
    }
}
