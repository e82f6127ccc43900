//! `run`: leadership as the scope of a future.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures::FutureExt;

use super::leadership::Leadership;
use super::{Elector, TermControl};
use crate::ending::EndReason;
use crate::error::{BoxError, Error, ErrorKind};
use crate::lock::Pin;

/// How often a drain looks whether leadership was meanwhile lost by force, which shortens its bound.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The longest pause after work that failed again and again, in polls.
const MAX_FAILURE_PAUSE: u32 = 64;

/// Ends the term when the work ends, or when `run`'s own future is dropped in the middle of it.
struct Scope {
    term: TermControl,
    reason: EndReason,
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.term.resign(self.reason);
    }
}

enum Ended {
    Ok,
    Failed(String),
    /// It did not stop within its bound and was dropped.
    Dropped,
}

impl Elector {
    /// Campaigns and leads for as long as the service lives: whenever this process is elected, `work`
    /// runs; when leadership ends, its token fires, and the release is written only after `work` has
    /// returned or was dropped at its bound.
    ///
    /// After `work` returns `Ok` this process steps down and pauses for one to two poll periods, so
    /// that others get a turn. An error or a panic does the same, is counted and shown in the status, and
    /// lengthens the pause. Returns `Ok` after [`shutdown`](Self::shutdown).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] if this elector is already in use, [`ErrorKind::KeeperFailed`]. Store errors
    /// never end it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `work` and gives leadership up in the background.
    pub async fn run<F>(&self, mut work: F) -> Result<(), Error>
    where
        F: AsyncFnMut(Leadership) -> Result<(), BoxError>,
    {
        let _turn = self.take_turn()?;
        let mut failures = 0;
        loop {
            let (lock, term) = match self.win().await {
                Ok(won) => won,
                Err(error) if error.kind() == ErrorKind::Closed => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut scope = Scope { term: term.clone(), reason: EndReason::Resigned };
            let leadership = Leadership::new(lock, term.clone(), true);
            let ended = self.drive(&term, work(leadership)).await;
            (scope.reason, failures) = match &ended {
                Ended::Ok => (EndReason::WorkEnded, 0),
                Ended::Failed(_) => (EndReason::WorkFailed, failures + 1),
                Ended::Dropped => (EndReason::Resigned, 0),
            };
            if let Ended::Failed(why) = ended {
                tracing::warn!(name = self.name(), %why, "the work failed; stepping down");
            }
            drop(scope);
            // The outcome is known before anything new begins (R7).
            term.cell().outcome().await;
            self.pause(failures).await;
        }
    }

    /// Polls the work inline, to its end or to its bound.
    async fn drive(&self, term: &TermControl, work: impl Future<Output = Result<(), BoxError>>) -> Ended {
        // I5: no release while this pin exists; it is dropped after the work.
        let _pin = Pin::new(term.cell());
        let work = pin!(AssertUnwindSafe(work).catch_unwind());
        tokio::select! { biased;
            result = work => match result {
                Ok(Ok(())) => Ended::Ok,
                Ok(Err(error)) => Ended::Failed(error.to_string()),
                Err(panic) => Ended::Failed(format!("it panicked: {}", panic_text(&*panic))),
            },
            () = self.bound(term) => Ended::Dropped,
        }
    }

    /// R7: voluntary, the drain timeout from the token on; forced, the hard deadline.
    async fn bound(&self, term: &TermControl) {
        let cell = term.cell();
        cell.cancelled().cancelled().await;
        // The user may have dropped the leadership while the work goes on: that is a resignation.
        if cell.reason().is_none() {
            term.resign(EndReason::Resigned);
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

    async fn pause(&self, failures: u32) {
        let poll = self.inner.locks.timing().poll();
        let spread = 1.0 + self.inner.locks.context().entropy.spread();
        let factor = f64::from(1_u32.checked_shl(failures).unwrap_or(MAX_FAILURE_PAUSE).min(MAX_FAILURE_PAUSE));
        tokio::select! { biased;
            () = self.inner.closing.cancelled() => {}
            () = tokio::time::sleep(poll.mul_f64(spread * factor)) => {}
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
