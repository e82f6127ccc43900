//! `run`: leadership as the scope of a future.

use super::drive::TermGuard;
use super::leadership::{Leadership, Scope};
use super::{Elector, WorkResult};
use crate::error::Error;

impl Elector {
    /// Campaigns and leads for as long as the service lives: whenever this process is elected, `work`
    /// runs; when leadership ends, its token fires, and the release is written only after `work` has
    /// returned or was dropped at its bound.
    ///
    /// | `work` ends with | then, by default | or |
    /// | --- | --- | --- |
    /// | `Ok` | steps down, lets others go first until each has looked, campaigns again: a service is never done | [`stop_after_success`](crate::ElectorBuilder::stop_after_success) |
    /// | `Err`, or a panic | the same, counted as `work_failed`, with a pause that doubles each time: another replica may fare better | [`stop_after_failure`](crate::ElectorBuilder::stop_after_failure) |
    /// | an `Err` of [`NotHeld`](crate::ErrorKind::NotHeld) after its token has fired, also as a source: what a guard returned, handed on with `?` | the same as `Ok`: it stopped, as it was told | |
    /// | nothing, at its bound | it is dropped, the same as `Ok` | [`end_process_when_stuck`](crate::ElectorBuilder::end_process_when_stuck) |
    ///
    /// The bound is the [drain timeout](crate::ElectorBuilder::drain_timeout) after a voluntary end, during which the lease is
    /// still renewed, and [`Timing::hard_limit`](crate::Timing::hard_limit) after a forced one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) if this elector is already in use, [`ErrorKind::KeeperFailed`](crate::ErrorKind::KeeperFailed),
    /// and [`ErrorKind::WorkFailed`](crate::ErrorKind::WorkFailed), with the work's error as its source, where it is to stop then.
    /// Store errors never end it. `Ok` after a [`shutdown`](Self::shutdown), or when it is to stop after success.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `work` and gives leadership up in the background.
    pub async fn run<F>(&self, mut work: F) -> Result<(), Error>
    where
        F: AsyncFnMut(Leadership) -> WorkResult,
    {
        let _turn = self.take_turn()?;
        loop {
            let (lock, term) = match self.win().await {
                Ok(won) => won,
                Err(error) => return self.no_more_terms(error),
            };
            let mut guard = TermGuard::new(&term);
            let leadership = Leadership::new(lock, term.clone(), &self.inner.board, Scope::Work);
            let ended = self.drive(&term, async { work(leadership).await }).await;
            guard.reason = ended.reason();
            let stop = self.settle(ended, "run");
            drop(guard);
            // The outcome is known before anything new begins (R7).
            term.cell().outcome().await;
            if let Some((reason, result)) = stop {
                self.stop(reason);
                return result;
            }
        }
    }
}
