//! Drives one [`Holder`]: sends what it wants sent, hands it the answers. Decides nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::context::{Context, Note, Watcher};
use super::handle::Content;
use crate::clock::Clock;
use crate::ending::ReleaseOutcome;
use crate::error::{Error, ErrorKind};
use crate::protocol::{
    Consistency, Holder, Moment, Noted, Phase, ReceivedAt, Release, Reply, Seen, SentAt, Sighting, Step, Version,
    Write, WriteKind, Writer,
};
use crate::store::{DataChange, Fill, Found, Key, LockRecord, TokenChange, Written};
use crate::timing::Timing;

enum Answer {
    /// With what it was to do with the record's data.
    Write(Box<Write>, DataChange, Result<Written, Error>),
    Read(Result<Found, Error>),
}

/// One acquisition on its way from claim to release. Handed on in a box: each future on the way would keep room for it.
pub(super) struct Tenure {
    context: Arc<Context>,
    key: Key,
    holder: Holder,
    /// Whether the record that is taken over vouches for the token.
    vouched: bool,
    fill: Fill,
    watcher: Arc<dyn Watcher>,
    content: Arc<Mutex<Content>>,
    /// The one request in flight (R11), and when it was sent.
    flight: Option<(SentAt, BoxFuture<'static, Answer>)>,
    /// What the last answer meant, until somebody takes it.
    pub(super) last_error: Option<Error>,
    pub(super) last_noted: Noted,
    pub(super) last_renewal: Option<Result<(), Error>>,
}

/// What a shutdown could not release, and its place in the report.
pub(super) struct Unsettled {
    pub(super) place: usize,
    pub(super) tenure: Box<Tenure>,
}

impl Unsettled {
    /// Tries again, and reports what became of it.
    pub(super) async fn release_again(mut self) -> Option<Self> {
        let now = self.tenure.clock().now();
        self.tenure.holder().release_again(now);
        let outcome = loop {
            match outcome_of(self.tenure.phase()) {
                Some(outcome) => break outcome,
                None => self.tenure.turn().await,
            }
        };
        self.tenure.context.amend(self.place, outcome);
        (outcome == ReleaseOutcome::Unknown).then_some(self)
    }
}

impl Tenure {
    pub(super) fn new(
        context: Arc<Context>,
        key: Key,
        holder: Holder,
        vouched: bool,
        fill: Fill,
        watcher: Arc<dyn Watcher>,
    ) -> Self {
        Self {
            context,
            key,
            holder,
            vouched,
            fill,
            watcher,
            content: Arc::default(),
            flight: None,
            last_error: None,
            last_noted: Noted::Changed,
            last_renewal: None,
        }
    }

    pub(super) fn is_vouched_for(&self) -> bool {
        self.vouched
    }

    pub(super) fn acquired_at(&self) -> &str {
        &self.fill.acquired_at
    }

    pub(super) fn phase(&self) -> Phase {
        self.holder.phase()
    }

    pub(super) fn holder(&mut self) -> &mut Holder {
        &mut self.holder
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(super) fn watcher(&self) -> &Arc<dyn Watcher> {
        &self.watcher
    }

    pub(super) fn clock(&self) -> Clock {
        self.context.clock
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// What the record holds besides the lock, kept up to date for those who hold a handle.
    pub(super) fn content(&self) -> &Arc<Mutex<Content>> {
        &self.content
    }

    /// Every write from now on changes the data so, until one of them has come through.
    pub(super) fn set_data(&mut self, data: DataChange) {
        self.fill.data = data;
    }

    /// Every write from now on promises this (R1).
    pub(super) fn set_timing(&mut self, timing: Timing) {
        self.holder.set_terms(self.context.settings.terms(timing));
    }

    /// What the release does besides letting go.
    pub(super) fn set_release(&mut self, data: DataChange, delete: bool) {
        if data != DataChange::Keep {
            self.fill.data = data;
        }
        self.fill.delete_on_release |= delete;
    }

    /// The token that the fence record gave. Renewals write it into the lock's record too, for those who look there.
    pub(super) fn sealed(&mut self, token: u64) {
        if token != self.holder.token() {
            self.fill.sealed = Some(token);
        }
        self.holder.set_token(token);
    }

    /// Until an answer was taken in, the deadline or the next beat has come, or the clock jumped.
    ///
    /// Cancel safe: a request in flight stays in flight.
    pub(super) async fn turn(&mut self) {
        let before = self.phase();
        let until = loop {
            match self.holder.poll(self.context.clock.now()) {
                Step::Send => {
                    let before = (self.holder.held_until(), self.holder.hard_deadline());
                    if !self.send() {
                        break Some(self.context.clock.now().after(NO_ENTROPY_PAUSE));
                    }
                    if self.holder.held_until() < before.0 || self.holder.hard_deadline() < before.1 {
                        // R1: it promises less, so everybody must know of the new deadline before it leaves:
                        // it is polled for the first time in the next turn.
                        return;
                    }
                }
                Step::Read => self.read(),
                Step::Wait(until) => break Some(until),
                Step::Idle => break None,
            }
        };
        if self.phase() != before {
            // The clock has just ended it: that is acted upon before anything is awaited.
            return;
        }
        if self.flight.is_none() && until.is_none() {
            // Nothing to wait for but an input from outside.
            return std::future::pending().await;
        }
        let (clock, mut jumped) = (self.context.clock, self.context.jumped.subscribe());
        let sleep = async move {
            match until {
                Some(until) => clock.sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        // The deadline comes first: an answer that arrives together with it is too late (R8).
        let answer = tokio::select! { biased;
            () = sleep => None,
            _ = jumped.changed() => None,
            answer = in_flight(&mut self.flight) => Some(answer),
        };
        if let Some((sent, answer)) = answer {
            self.flight = None;
            self.take(sent, answer);
        }
    }

    /// `false` if the operating system gives no randomness to make a version from.
    fn send(&mut self) -> bool {
        let Some(version) = self.context.entropy.version() else { return false };
        // R1: the clock is read before the request leaves, and before anything is done to build it.
        let sent = SentAt(self.context.clock.now());
        let write = Box::new(self.holder.begin(sent, version));
        let held_until = self.place_until(write.kind);
        let (context, key, fill) = (Arc::clone(&self.context), self.key.clone(), self.fill.clone());
        let request = async move {
            let is_over = || held_until.is_some_and(|until| until <= context.clock.now());
            let result = match context.store.place(held_until).await {
                // R7: it waited for its place until the lease was over, which it can't save any more. Others' can be.
                Ok(_) if write.kind == WriteKind::Renew && is_over() => {
                    Err(Error::new(ErrorKind::Throttled, "the lease was over before its heartbeat could be sent"))
                }
                Ok(place) => context.store.write(place, &key, &write, &fill).await,
                Err(error) => Err(error),
            };
            Answer::Write(write, fill.data, result)
        };
        self.flight = Some((sent, request.boxed()));
        true
    }

    /// By when a write must be done, if it serves a lease that is held: what is let go of comes after all of them.
    fn place_until(&self, kind: WriteKind) -> Option<Moment> {
        match kind {
            WriteKind::Claim { .. } => None,
            WriteKind::Renew | WriteKind::Release => Some(self.holder.held_until().unwrap_or(Moment::NEVER)),
        }
    }

    fn read(&mut self) {
        self.watcher.note(Note::ForcedRead);
        let sent = SentAt(self.context.clock.now());
        self.holder.begin_read();
        let held_until = self.holder.held_until();
        let (context, key) = (Arc::clone(&self.context), self.key.clone());
        let request = async move { Answer::Read(context.store.read(&key, Consistency::Strong, held_until).await) };
        self.flight = Some((sent, request.boxed()));
    }

    fn take(&mut self, sent: SentAt, answer: Answer) {
        let now = self.context.clock.now();
        let spread = self.context.entropy.spread();
        match answer {
            Answer::Write(write, data, Ok(Written::Applied(record))) => {
                self.note_content(record.as_ref(), &data);
                self.note_own_write(&write, record.as_ref().map(Found::seen), sent, now);
                self.watcher.note(Note::Contact);
                // How close it was: what this reply itself adds would hide that.
                let margin = self.holder.held_until().map_or(Duration::ZERO, |until| until.since(now));
                self.holder.on_reply(&Reply::Applied, now, spread);
                if write.kind == WriteKind::Renew {
                    self.last_renewal = Some(Ok(()));
                    self.watcher.note(Note::Renewed { took: now.since(sent.0), margin });
                }
            }
            Answer::Write(_, _, Ok(Written::Refused(found))) => {
                self.last_noted =
                    self.context.observe(&self.key, &found, sent, now, Consistency::Strong, &*self.watcher);
                let before = self.holder.phase();
                self.holder.on_reply(&Reply::Refused(found.seen()), now, spread);
                let holds = matches!(self.holder.phase(), Phase::Holding | Phase::Draining);
                if holds && before == self.holder.phase() {
                    self.watcher.note(Note::Ambiguous { resolved: "applied" });
                }
            }
            Answer::Write(write, data, Err(error)) => {
                if error.kind() == ErrorKind::InvalidInput && self.fill.data == data {
                    // Data that the table refuses must not cost the lease, nor its release: every further write would
                    // be refused too.
                    self.fill.data = DataChange::Keep;
                }
                self.holder.on_reply(&Reply::Unknown, now, spread);
                self.note_failure(error, write.kind == WriteKind::Renew);
            }
            Answer::Read(Ok(found)) => {
                self.last_noted =
                    self.context.observe(&self.key, &found, sent, now, Consistency::Strong, &*self.watcher);
                self.holder.on_read(Some(&found.seen()), now, spread);
            }
            Answer::Read(Err(error)) => {
                self.holder.on_read(None, now, spread);
                // Without it there is no renewal: whoever asked for one hears of it.
                self.last_renewal = Some(Err(error.retold()));
                self.note_failure(error, false);
            }
        }
    }

    /// A write came through: what it was to do with the data is done, and need not be said again.
    fn note_content(&mut self, record: Option<&Found>, sent: &DataChange) {
        if let Some(Found::Record(record)) = record {
            self.note_record(record);
        } else if *sent != DataChange::Keep {
            let data = if let DataChange::Set(data) = sent { Some(data.clone()) } else { None };
            self.content.lock().unwrap_or_else(PoisonError::into_inner).data = data;
        }
        if self.fill.data == *sent {
            self.fill.data = DataChange::Keep;
        }
    }

    fn note_record(&mut self, record: &LockRecord) {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.data = record.data().map(<[u8]>::to_vec);
        content.attributes.clone_from(record.attributes());
        content.text = Some(record.duration_text());
    }

    fn note_failure(&mut self, error: Error, renewal: bool) {
        self.watcher.note(Note::Failed { error: &error, renewal });
        if renewal {
            self.last_renewal = Some(Err(error.retold()));
        }
        self.last_error = Some(error);
    }

    /// R12: what this client wrote is an observation like any other. Heartbeats are left out: they
    /// are only interesting to others.
    fn note_own_write(&self, write: &Write, shown: Option<Seen>, sent: SentAt, now: Moment) {
        let seen = match write.kind {
            WriteKind::Renew => return,
            WriteKind::Claim { token } => shown.unwrap_or_else(|| own(write, Some(token), false)),
            WriteKind::Release if self.fill.delete_on_release => Seen::Absent,
            WriteKind::Release => own(write, (self.fill.token == TokenChange::Set).then(|| self.holder.token()), true),
        };
        self.context.observe_seen(&self.key, seen, sent, ReceivedAt(now));
    }
}

/// Randomness is missing only for moments at boot; the lease may run out meanwhile, which is safe.
const NO_ENTROPY_PAUSE: Duration = Duration::from_millis(100);

fn own(write: &Write, token: Option<u64>, released: bool) -> Seen {
    let version: Version = write.version.clone();
    Seen::Record(Sighting { version, lease: write.lease, released, writer: Writer::Ours, token, plan: write.plan })
}

async fn in_flight(flight: &mut Option<(SentAt, BoxFuture<'static, Answer>)>) -> (SentAt, Answer) {
    match flight {
        Some((sent, request)) => (*sent, request.await),
        None => std::future::pending().await,
    }
}

/// The outcome that users see.
pub(super) fn outcome_of(phase: Phase) -> Option<ReleaseOutcome> {
    match phase {
        Phase::Ended(Release::Released) => Some(ReleaseOutcome::Released),
        Phase::Ended(Release::AlreadyGone) | Phase::Refused => Some(ReleaseOutcome::AlreadyGone),
        Phase::Ended(Release::Unknown) => Some(ReleaseOutcome::Unknown),
        Phase::Ended(Release::Expired) => Some(ReleaseOutcome::Expired),
        Phase::Claiming | Phase::Holding | Phase::Draining | Phase::Releasing | Phase::Lost(_) => None,
    }
}
