//! Work under a term: polled to its end or to its bound, and how the term ends after it.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;

use super::{Elector, TermControl, WorkResult};
use crate::ending::EndReason;
use crate::error::{BoxError, Error, ErrorKind};
use crate::lock::{Pin, Stuck};
use crate::status::StopReason;

/// How often a drain looks whether leadership was meanwhile lost by force, which shortens its bound.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Ends the term when the work ends, or when its future is dropped in the middle of it.
pub(super) struct TermGuard {
    term: TermControl,
    pub(super) reason: EndReason,
}

impl TermGuard {
    pub(super) fn new(term: &TermControl) -> Self {
        Self { term: term.clone(), reason: EndReason::Resigned }
    }
}

impl Drop for TermGuard {
    fn drop(&mut self) {
        self.term.resign(self.reason);
    }
}

/// How work ended.
pub(super) enum Ended {
    Ok,
    Failed(BoxError),
    /// It says that it stopped because leadership ended.
    Stopped,
    /// It did not stop within its bound and was dropped.
    Dropped,
}

impl Ended {
    /// Why the term ends, if nothing else has ended it before.
    pub(super) fn reason(&self) -> EndReason {
        match self {
            Self::Ok => EndReason::WorkEnded,
            Self::Failed(_) => EndReason::WorkFailed,
            Self::Stopped | Self::Dropped => EndReason::Resigned,
        }
    }
}

impl Elector {
    /// Polls the work inline, to its end or to its bound.
    pub(super) async fn drive(&self, term: &TermControl, work: impl Future<Output = WorkResult>) -> Ended {
        // I5: no release while this pin exists; it is dropped after the work.
        let _pin = Pin::new(term.cell());
        let mut work = Box::pin(AssertUnwindSafe(work).catch_unwind());
        let ended = tokio::select! { biased;
            result = &mut work => match result {
                Ok(Ok(())) => Ended::Ok,
                Ok(Err(error)) if is_over(term) && is_the_end(&*error) => Ended::Stopped,
                Ok(Err(error)) => Ended::Failed(error),
                Err(panic) => Ended::Failed(panicked(&*panic).into()),
            },
            () = self.bound(term) => Ended::Dropped,
            // In the very task that polls the work: work that blocks it is silent.
            never = self.inner.board.beacon().beat() => match never {},
        };
        dropped_panics(work).map_or(ended, |why| Ended::Failed(why.into()))
    }

    /// R7: voluntary, the drain timeout from the token on; forced, the hard deadline. Where the process ends instead, the
    /// keeper sees to it: nothing is dropped here.
    async fn bound(&self, term: &TermControl) {
        let cell = term.cell();
        cell.cancelled().cancelled().await;
        // The user may have dropped the leadership while the work goes on: that is a resignation.
        if cell.reason().is_none() {
            term.resign(EndReason::Resigned);
        }
        if self.inner.settings.stuck == Stuck::EndProcess {
            std::future::pending::<()>().await;
        }
        let clock = cell.clock();
        let drained = clock.now().after(self.inner.settings.drain_timeout);
        loop {
            let forced = cell.reason().is_some_and(EndReason::is_forced) || !cell.is_valid();
            let until = if forced { cell.hard_deadline() } else { drained };
            let now = clock.now();
            if now >= until {
                return;
            }
            clock.sleep_until(until.min(now.after(LOOK_AGAIN))).await;
        }
    }

    /// Takes down what became of the work, which is called `callback`, and whether this elector is to stop for it: as
    /// what, and with which result.
    pub(super) fn settle(&self, ended: Ended, callback: &'static str) -> Option<(StopReason, Result<(), Error>)> {
        let settings = &self.inner.settings;
        match ended {
            Ended::Ok => {
                self.seat().failures = 0;
                settings.stop_after_success.then_some((StopReason::WorkEnded, Ok(())))
            }
            Ended::Stopped | Ended::Dropped => {
                self.seat().failures = 0;
                None
            }
            Ended::Failed(why) => {
                self.inner.board.callback_failed(callback, why.to_string());
                let mut seat = self.seat();
                seat.failures = seat.failures.saturating_add(1);
                let error = Error::new(ErrorKind::WorkFailed, format!("the work failed: {why}")).with_source(why);
                settings.stop_after_failure.then_some((StopReason::WorkFailed, Err(error)))
            }
        }
    }

    /// What `run` and `start` end with once no further term can be won.
    pub(super) fn no_more_terms(&self, error: Error) -> Result<(), Error> {
        if error.kind() != ErrorKind::Closed {
            return Err(error);
        }
        self.inner.board.stopped(StopReason::ShutDown);
        Ok(())
    }
}

/// Whether leadership has ended, other than by the work itself: that its handle is gone, which fires the token, says nothing.
fn is_over(term: &TermControl) -> bool {
    term.cell().reason().is_some() || !term.cell().is_valid()
}

/// Whether work says no more than what it was told: that it does not lead any longer. So it does when it hands on
/// what a guard or `ensure` returned.
fn is_the_end(mut error: &(dyn std::error::Error + 'static)) -> bool {
    loop {
        if error.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::NotHeld) {
            return true;
        }
        match error.source() {
            Some(source) => error = source,
            None => return false,
        }
    }
}

/// Drops a future of the user's, whose destructors may panic like anything else; what they said, if they do.
pub(super) fn dropped_panics<T>(future: T) -> Option<String> {
    let dropped = std::panic::catch_unwind(AssertUnwindSafe(|| drop(future)));
    dropped.err().map(|panic| format!("it panicked while it was dropped: {}", panic_text(&*panic)))
}

/// That something of the user's panicked, and what it said.
pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> String {
    format!("it panicked: {}", panic_text(panic))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
