//! The right to act, while it lasts.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::fence::Fence;
use super::term::TermControl;
use crate::ending::{EndReason, ReleaseOutcome};
use crate::error::{Error, ErrorKind};
use crate::lock::{Lock, Pin, current_runtime};

/// One unbroken leadership of this process. Unique: whoever has it leads.
///
/// # Guarantee
///
/// While [`is_valid`](Self::is_valid) says `true`, no other process's leadership of the same election
/// is valid, under the assumptions in the crate's documentation: each clock runs within
/// [`Timing::max_drift`](crate::Timing::max_drift) of true time and doesn't stop, and only this protocol
/// writes the record. It does not cover a pause between a check and its effect, an effect in flight,
/// or a hypervisor pause: effects that carry the [fencing token](Self::fencing_token), checked by the
/// resource, are safe even then.
///
/// # Note: drop behaviour
///
/// Dropping it cancels the token and asks for the release in the background: never blocks, never panics,
/// also outside a runtime. [`resign`](Self::resign) does the same and tells the outcome.
#[must_use = "dropping a leadership ends it"]
#[derive(Debug)]
pub struct Leadership {
    lock: Option<Lock>,
    control: TermControl,
    board: Arc<Board>,
    scope: Scope,
    /// Whoever still has the leadership may be making its last writes: the release waits, within its bound.
    _pin: Pin,
}

/// What it means when the leadership is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// It is given up.
    Own,
    /// Under `run`: work must stop, and the end of the work ends the term, so that its reason is the work's.
    Work,
    /// Under a service: nothing, the term goes on.
    Term,
}

impl Leadership {
    pub(super) fn new(lock: Lock, control: TermControl, board: &Arc<Board>, scope: Scope) -> Self {
        let pin = Pin::new(control.cell());
        control.set_leadership_exists(true);
        Self { lock: Some(lock), control, board: Arc::clone(board), scope, _pin: pin }
    }

    /// The number of this term: larger than that of every term before it. Send it with every effect.
    pub fn fencing_token(&self) -> u64 {
        self.control.cell().token()
    }

    /// Makes writes carry this term's number, so that those of a deposed leader are refused.
    pub fn fence(&self) -> Fence {
        self.control.fence()
    }

    /// Whether this process may act: one clock read, no lock, no I/O, and no timer has to have fired.
    ///
    /// A voluntary end leaves it `true` while work makes its last writes: that an end has been announced is told by
    /// [`cancelled`](Self::cancelled) and [`ensure`](Self::ensure).
    pub fn is_valid(&self) -> bool {
        self.control.cell().is_valid()
    }

    /// How long it stays valid if no further heartbeat comes through.
    pub fn remaining(&self) -> Duration {
        self.control.cell().remaining()
    }

    /// Checks that it stays valid for at least `duration`, whatever happens to the network.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotHeld`] if it does not, or if it is ending.
    pub fn ensure(&self, duration: Duration) -> Result<(), Error> {
        ensure(&self.control, duration)
    }

    /// Fires when work must stop: the deadline has come, leadership was lost, or it is being given up.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.control.cell().cancelled().clone().cancelled_owned()
    }

    /// The token behind [`cancelled`](Self::cancelled), as a child: cancelling it ends nothing but your sub-task.
    pub fn child_token(&self) -> CancellationToken {
        self.control.cell().cancelled().child_token()
    }

    /// Whether the last heartbeat did not come through.
    pub fn is_at_risk(&self) -> bool {
        self.control.cell().is_at_risk()
    }

    /// Waits until a heartbeat is missed, or the end.
    ///
    /// # Cancel safety
    ///
    /// Waits only.
    pub async fn at_risk(&self) {
        self.control.cell().at_risk().await;
    }

    /// Runs `work` until it ends or leadership does, whichever is first. Work is dropped when the token fires.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotHeld`] when leadership ended first.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `work`.
    pub async fn guard<F: Future>(&self, work: F) -> Result<F::Output, Error> {
        guard(&self.control, work).await
    }

    /// Runs work that blocks on tokio's threads for such work, and waits until it ends or leadership does, whichever is
    /// first. A blocked thread can't be dropped: after the end of leadership the work goes on, so it must ask its view
    /// ([`ensure`](LeadershipView::ensure)) before each step that has an effect, and return. A loop on
    /// [`is_valid`](LeadershipView::is_valid) alone never hears of a voluntary end, which leaves it `true` for last writes. The release waits for it, within the bound; what must stop at the bound whatever it does needs
    /// [`end_process_when_stuck`](crate::ElectorBuilder::end_process_when_stuck).
    ///
    /// On a thread pool of your own, hand each job a [`view`](Self::view) and let it ask the same way.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotHeld`] when leadership ended first, or had before; [`ErrorKind::InvalidInput`] outside of a tokio runtime.
    ///
    /// # Panics
    ///
    /// If `work` does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the thread.
    pub async fn guard_blocking<T, F>(&self, work: F) -> Result<T, Error>
    where
        F: FnOnce(LeadershipView) -> T + Send + 'static,
        T: Send + 'static,
    {
        self.view().guard_blocking(work).await
    }

    /// How long this process has led.
    pub fn held_for(&self) -> Duration {
        self.control.cell().held_for()
    }

    /// Why it ended, once it has.
    pub fn end_reason(&self) -> Option<EndReason> {
        self.control.cell().reason()
    }

    /// A view for a sub-task. The release waits, within its bound, until the last view is gone.
    pub fn view(&self) -> LeadershipView {
        LeadershipView::new(self.control.clone())
    }

    /// Changes what followers read as the leader's data, with a heartbeat that is sent now.
    pub fn proclaim(&self, data: impl Into<Vec<u8>>) {
        if let Some(lock) = &self.lock {
            let data = data.into();
            self.board.proclaim(data.clone());
            lock.set_data(Some(data));
        }
    }

    /// Gives leadership up: the token fires, views drain, the record is released. Waits for the outcome.
    ///
    /// # Cancel safety
    ///
    /// The release goes on without its future.
    ///
    /// # Deadlocks
    ///
    /// The work of [`Elector::run`](crate::Elector::run) or of a [`Service`](crate::Service) that awaits this waits for itself, since the
    /// release waits for the work: it is dropped when its drain timeout is over. Return instead, or await it in a task of its own.
    pub async fn resign(self) -> ReleaseOutcome {
        self.give_up(EndReason::Resigned).await
    }

    /// In favour of another candidate, and [announced](crate::ElectorBuilder::hand_over_notice): until the token fires views stay valid and
    /// work goes on; then as with [`resign`](Self::resign). This process stays out until it has seen another lead, for a
    /// lease at most.
    ///
    /// # Cancel safety
    ///
    /// The release goes on without its future.
    ///
    /// # Deadlocks
    ///
    /// As [`resign`](Self::resign).
    pub async fn hand_over(self) -> ReleaseOutcome {
        self.give_up(EndReason::HandedOver).await
    }

    async fn give_up(mut self, reason: EndReason) -> ReleaseOutcome {
        let cell = Arc::clone(self.control.cell());
        let lock = self.lock.take();
        if let Some(lock) = &lock {
            lock.resign(reason);
            self.control.set_leadership_exists(false);
        }
        // Lets go of the pin: from here on only views hold the release back.
        drop(self);
        cell.outcome().await
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else { return };
        if self.scope != Scope::Term {
            // The token fires at once, whatever the keeper is doing.
            self.control.cell().cancelled().cancel();
        }
        match self.scope {
            Scope::Own => lock.resign(EndReason::Resigned),
            Scope::Work | Scope::Term => self.control.keep(lock),
        }
        self.control.set_leadership_exists(false);
    }
}

/// A read-only view of a [`Leadership`] for sub-tasks. Clone it freely; while one exists the release waits.
#[derive(Debug, Clone)]
pub struct LeadershipView {
    control: TermControl,
    _pin: Pin,
}

impl LeadershipView {
    pub(super) fn new(control: TermControl) -> Self {
        let pin = Pin::new(control.cell());
        Self { control, _pin: pin }
    }

    /// See [`Leadership::fencing_token`].
    pub fn fencing_token(&self) -> u64 {
        self.control.cell().token()
    }

    /// See [`Leadership::fence`].
    pub fn fence(&self) -> Fence {
        self.control.fence()
    }

    /// See [`Leadership::is_valid`].
    pub fn is_valid(&self) -> bool {
        self.control.cell().is_valid()
    }

    /// See [`Leadership::remaining`].
    pub fn remaining(&self) -> Duration {
        self.control.cell().remaining()
    }

    /// See [`Leadership::ensure`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotHeld`] if it does not last that long.
    pub fn ensure(&self, duration: Duration) -> Result<(), Error> {
        ensure(&self.control, duration)
    }

    /// See [`Leadership::cancelled`].
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.control.cell().cancelled().clone().cancelled_owned()
    }

    /// See [`Leadership::guard`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotHeld`] when leadership ended first.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `work`.
    pub async fn guard<F: Future>(&self, work: F) -> Result<F::Output, Error> {
        guard(&self.control, work).await
    }

    /// See [`Leadership::guard_blocking`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotHeld`] when leadership ended first, or had before; [`ErrorKind::InvalidInput`] outside of a tokio runtime.
    ///
    /// # Panics
    ///
    /// If `work` does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the thread.
    pub async fn guard_blocking<T, F>(&self, work: F) -> Result<T, Error>
    where
        F: FnOnce(Self) -> T + Send + 'static,
        T: Send + 'static,
    {
        self.ensure(Duration::ZERO)?;
        let runtime = current_runtime("blocking work runs on a tokio runtime's threads: call it inside of one")?;
        let view = self.clone();
        let done = runtime.spawn_blocking(move || work(view));
        match self.guard(done).await? {
            Ok(output) => Ok(output),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(ended(&self.control)),
            },
        }
    }
}

fn ended(control: &TermControl) -> Error {
    let reason = control.cell().reason().map_or("its time is over", EndReason::as_str);
    Error::new(ErrorKind::NotHeld, format!("leadership has ended or is ending ({reason}): stop acting on it"))
}

fn ensure(control: &TermControl, duration: Duration) -> Result<(), Error> {
    if control.cell().lasts(duration) { Ok(()) } else { Err(ended(control)) }
}

async fn guard<F: Future>(control: &TermControl, work: F) -> Result<F::Output, Error> {
    control.cell().guard(work).await.ok_or_else(|| ended(control))
}
