//! Holding: renew, notice the end, drain, release. One task a lock, each on its own schedule.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::cell::LeaseCell;
use super::context::{Acquired, Context, Note, Watcher};
use super::fencing::Fencing;
use super::handle::{Beat, Control, Lock, Shared, not_held};
use super::limits;
use super::request::{Answer, Patience, Request, Stuck};
use super::tenure::{Tenure, Unsettled, outcome_of};
use crate::ending::{EndReason, ReleaseOutcome};
use crate::error::Error;
use crate::protocol::{Loss, Moment, Phase};
use crate::store::Key;

/// Ends the lease if its task ends in any way but the orderly one: by a panic, or with its runtime.
struct Guard {
    context: Arc<Context>,
    key: Key,
    cell: Arc<LeaseCell>,
    watcher: Arc<dyn Watcher>,
    orderly: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.context.held.remove(&self.key, &self.cell);
        if !self.orderly {
            // R10: nobody renews any more, so nobody may believe any more.
            let (reason, outcome) = (EndReason::KeeperFailed, ReleaseOutcome::Unknown);
            let first = self.cell.reason().is_none();
            self.cell.end(reason);
            if first {
                self.watcher.note(Note::Ended { cell: &self.cell, reason });
            }
            self.watcher.note(Note::Released { outcome });
            self.cell.finish(outcome);
        }
    }
}

struct Hold<'a> {
    tenure: Box<Tenure>,
    request: &'a Request,
    cell: Arc<LeaseCell>,
    /// An end that has been announced: when, and why.
    leaving: Option<(Moment, EndReason)>,
    /// Set when the end has begun: until when work may go on.
    drain_until: Option<Moment>,
    lost: bool,
    /// Whoever held it has let go: no handle can be acting on it any more. (Leaderships are counted by pins alone.)
    let_go: bool,
    /// Ends that the holder's settings ask for.
    limits: limits::Watch<'a>,
    /// Work did not stop at its bound, and the process ends when this has passed.
    condemned: bool,
    /// A heartbeat off the schedule was asked for and has not been sent yet.
    beat_wanted: bool,
    /// Who asked for it.
    asking: Vec<Asking>,
    /// Who waits for the answer to the one that is on its way.
    waiting: Vec<Asking>,
}

type Asking = oneshot::Sender<Result<(), Error>>;

/// Hands the lock out and looks after it until its release is over. Gives back what a shutdown could not release.
pub(super) async fn hold(
    mut tenure: Box<Tenure>,
    request: &Request,
    answer: oneshot::Sender<Answer>,
) -> Option<Unsettled> {
    let holder = tenure.holder();
    let (until, token) = (holder.held_until()?, holder.token());
    let cell = Arc::new(LeaseCell::new(tenure.clock(), token, until));
    cell.publish(Some(until), tenure.holder().hard_deadline());
    let context = Arc::clone(tenure.context());
    let mut guard = Guard {
        context: Arc::clone(&context),
        key: request.key.clone(),
        cell: Arc::clone(&cell),
        watcher: Arc::clone(tenure.watcher()),
        orderly: false,
    };
    let (control, mut controls) = mpsc::unbounded_channel();
    tell_acquired(&tenure, &request.key, &cell, &control);
    let shared = Arc::new(shared(&tenure, &request.key, &cell, control));
    // A leadership is unique; any other lock may be acquired once more by the same client.
    let again = if request.patience == Patience::Election { Weak::new() } else { Arc::downgrade(&shared) };
    context.held.add(&request.key, &cell, again);
    // If nobody wants it any more the lock is dropped right here, which asks for its release.
    drop(answer.send(Ok(Some(Lock::new(shared)))));

    let closing = context.closing.clone();
    let mut hold = Hold {
        tenure,
        request,
        cell: Arc::clone(&cell),
        leaving: None,
        drain_until: None,
        lost: false,
        let_go: request.patience == Patience::Election,
        limits: limits::Watch::new(&request.limits, cell.since()),
        condemned: false,
        beat_wanted: false,
        asking: Vec::new(),
        waiting: Vec::new(),
    };
    let mut handles_gone = false;
    while outcome_of(hold.tenure.phase()).is_none() {
        // Nobody needs to say so twice.
        let ending = hold.drain_until.is_some() || hold.leaving.is_some();
        let drained = sleep_until(&cell, hold.drain_until);
        let limited = sleep_until(&cell, hold.limits.due(hold.now()));
        let leaves = sleep_until(&cell, hold.leaving.map(|(at, _)| at));
        tokio::select! { biased;
            control = controls.recv(), if !handles_gone => {
                handles_gone = control.is_none();
                hold.control(control);
            }
            () = closing.cancelled(), if !ending => hold.leave(EndReason::ShutDown),
            () = request.given_up.cancelled(), if !ending => hold.leave(EndReason::ShutDown),
            () = leaves => {}
            () = cell.unpinned() => {}
            () = drained, if hold.winding_down() => {}
            () = limited, if !ending => hold.check_limits(),
            () = hold.tenure.turn() => {}
        }
        hold.after_each_step();
    }
    let outcome = outcome_of(hold.tenure.phase()).unwrap_or(ReleaseOutcome::Unknown);
    answer_all(hold.asking.drain(..).chain(hold.waiting.drain(..)), &Err(not_held()));
    guard.orderly = true;
    // Whoever waits for the outcome finds the status up to date.
    hold.tenure.watcher().note(Note::Released { outcome });
    cell.finish(outcome);
    let place = context.report(&request.key, outcome)?;
    (outcome == ReleaseOutcome::Unknown).then_some(Unsettled { place, tenure: hold.tenure })
}

/// What all handles of one acquisition share.
fn shared(tenure: &Tenure, key: &Key, cell: &Arc<LeaseCell>, control: mpsc::UnboundedSender<Control>) -> Shared {
    let settings = &tenure.context().settings;
    Shared {
        key: key.clone(),
        cell: Arc::clone(cell),
        control,
        content: Arc::clone(tenure.content()),
        fencing: settings.fencing,
        vouched: tenure.is_vouched_for(),
        timing: settings.timing,
    }
}

fn tell_acquired(tenure: &Tenure, key: &Key, cell: &Arc<LeaseCell>, control: &mpsc::UnboundedSender<Control>) {
    let context = tenure.context();
    let fenced = context.settings.fencing == Fencing::FenceRecord;
    let fence_check = fenced.then(|| context.store.fence_check(key, cell.token()));
    let acquired = Acquired { cell, control: control.downgrade(), fence_check, acquired_at: tenure.acquired_at() };
    tenure.watcher().note(Note::Acquired(acquired));
}

async fn sleep_until(cell: &Arc<LeaseCell>, until: Option<Moment>) {
    match until {
        Some(until) => cell.clock().sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// How long the herald has to tell why the process ends: less than the shortest guard time, which is what is left
/// after the hard deadline.
const LAST_WORDS: Duration = Duration::from_millis(100);

fn answer_all(asking: impl Iterator<Item = Asking>, result: &Result<(), Error>) {
    for done in asking {
        let result = result.as_ref().copied().map_err(Error::retold);
        // Whoever asked may have gone meanwhile.
        let _ = done.send(result);
    }
}

impl Hold<'_> {
    fn now(&self) -> Moment {
        self.cell.clock().now()
    }

    /// Work has been told to stop and has not done so yet.
    fn winding_down(&self) -> bool {
        matches!(self.tenure.phase(), Phase::Draining | Phase::Lost(_))
    }

    /// Whether work may still run on it. A lock that has run out against its holder's will may be in use for as long as there
    /// is a handle: the holder has the guard time to notice, and is not to be overtaken by a release of ours (I5).
    fn may_be_in_use(&self) -> bool {
        let unnoticed = matches!(self.tenure.phase(), Phase::Lost(Loss::Deadline)) && !self.let_go;
        self.cell.is_pinned() || unnoticed
    }

    fn control(&mut self, control: Option<Control>) {
        self.let_go |= !matches!(control, Some(Control::Beat(_)));
        match control {
            // All handles are gone: as good as a release.
            None => self.leave(EndReason::Resigned),
            Some(Control::Resign(reason)) => self.leave(reason),
            Some(Control::Release { data, delete }) => {
                self.tenure.set_release(*data, delete);
                self.leave(EndReason::Resigned);
            }
            Some(Control::Beat(beat)) => {
                let Beat { data, timing, done } = *beat;
                if self.tenure.phase() != Phase::Holding {
                    return drop(done.map(|done| done.send(Err(not_held()))));
                }
                if let Some(data) = data {
                    self.tenure.set_data(data);
                }
                if let Some(timing) = timing {
                    self.tenure.set_timing(timing);
                }
                self.asking.extend(done);
                self.beat_wanted = true;
            }
        }
    }

    /// At most one request of a lock is in flight, so a beat that is asked for waits for its turn; one sent before
    /// it was asked for is no answer.
    fn beat_if_wanted(&mut self) {
        if let Some(result) = self.tenure.last_renewal.take() {
            answer_all(self.waiting.drain(..), &result);
        }
        if self.beat_wanted && !self.tenure.is_in_flight() {
            self.beat_wanted = false;
            self.waiting.append(&mut self.asking);
            let now = self.now();
            self.tenure.holder().beat_now(now);
        }
    }

    /// An end that can wait is announced first, while work goes on: others are there then when the record is released.
    fn leave(&mut self, reason: EndReason) {
        let waits = reason.can_wait();
        match self.leaving {
            Some(_) if waits => return,
            // Its holder has let go of it meanwhile: nobody is served by waiting.
            Some((_, first)) => return self.resign(first),
            None => {}
        }
        let (poll, now) = (self.tenure.context().settings.timing.poll(), self.now());
        let most = if waits { self.request.notice } else { Duration::ZERO };
        match self.tenure.holder().announce(now, poll, most) {
            Some(at) => {
                self.leaving = Some((at, reason));
                self.beat_wanted = true;
            }
            None => self.resign(reason),
        }
    }

    /// Goes when it has said that it would, or sooner, if no heartbeat comes through to tell of it.
    fn leave_if_due(&mut self, now: Moment, misses: u32) {
        if let Some((at, reason)) = self.leaving
            && (now >= at || misses > 0)
        {
            self.resign(reason);
        }
    }

    /// R7, voluntary: the token fires now, renewals go on, work gets its time.
    fn resign(&mut self, reason: EndReason) {
        if self.tenure.phase() == Phase::Holding {
            self.leaving = None;
            self.tenure.holder().resign();
            // A little more than work gets, so that what is dropped at its bound is still released.
            let grace = self.tenure.context().settings.timing.guard();
            self.drain_until = Some(self.now().after(self.request.drain.saturating_add(grace)));
            self.end(reason);
        }
    }

    fn check_limits(&mut self) {
        let now = self.now();
        if let Some(reason) = self.limits.check(now) {
            self.leave(reason);
        }
    }

    fn end(&self, reason: EndReason) {
        let first = self.cell.reason().is_none();
        self.cell.end(reason);
        // R10: only now may anything else learn of it. A drain that is cut short has been told of.
        if first {
            self.tenure.watcher().note(Note::Ended { cell: &self.cell, reason });
        }
    }

    /// Publishes what the machine has become, and moves it on when work has ended.
    fn after_each_step(&mut self) {
        let now = self.now();
        let (held_until, hard, misses) = {
            let holder = self.tenure.holder();
            // What woke this task may have been the deadline itself: it is acted upon before anything is awaited.
            holder.expire(now);
            (holder.held_until(), holder.hard_deadline(), holder.misses())
        };
        self.cell.publish(held_until, hard);
        if let Phase::Lost(loss) = self.tenure.phase()
            && !self.lost
        {
            self.lost = true;
            // Nothing is left that could wait for followers, and its timer would go off over and over.
            self.leaving = None;
            self.drain_until = Some(hard.unwrap_or(now));
            self.end(loss.into());
        }
        if self.tenure.phase() == Phase::Holding {
            self.cell.set_at_risk(misses > 0);
            if misses > 0 && self.request.first_miss_ends {
                self.resign(EndReason::FirstMiss);
            }
        }
        self.leave_if_due(now, misses);
        self.beat_if_wanted();
        if self.winding_down() {
            let now = self.now();
            if !self.may_be_in_use() {
                // I5: the token has fired, no work runs. From here on nothing of ours is valid (R8).
                self.cell.publish(None, None);
                self.tenure.holder().work_ended(now);
            } else if self.drain_until.is_some_and(|until| now >= until) {
                self.cell.publish(None, None);
                self.did_not_stop(now);
            }
        }
    }

    /// Work is past its bound, and still there.
    fn did_not_stop(&mut self, now: Moment) {
        match self.request.stuck {
            // No release: the lease runs out by itself.
            Stuck::LetExpire => self.tenure.holder().abandon(),
            Stuck::EndProcess if !self.condemned => {
                self.condemned = true;
                self.drain_until = Some(now.after(LAST_WORDS));
                self.tenure.watcher().note(Note::Stuck);
            }
            // The only hard way to stop what blocks a thread. No destructor and no exit handler may put it off.
            Stuck::EndProcess => std::process::abort(),
        }
    }
}
