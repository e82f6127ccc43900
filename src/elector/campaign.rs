//! Winning a term: one at a time, after the one before is over, and politely.

use std::sync::Arc;
use std::time::Duration;

use super::leadership::{Leadership, Scope};
use super::{Elector, TermControl, stopped};
use crate::ending::EndReason;
use crate::error::{Error, ErrorKind};
use crate::lock::{Candidacy, Limits, Lock, Patience, Request, Silence, Watcher};
use crate::protocol::Restraint;
use crate::status::StopReason;
use crate::store::DataChange;

/// The longest pause after work that failed again and again, in polls.
const MAX_FAILURE_PAUSE: u32 = 64;

/// Frees the seat when a campaign ends, in whatever way.
pub(super) struct Turn(pub(super) Elector);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.seat().busy = false;
    }
}

impl Elector {
    /// Campaigns until this process leads. Store errors are shown in the [status](Self::status) and
    /// retried; they never end it. Waits first until the work of an earlier term has ended; after one that was given up, others
    /// have one to two poll periods to go first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] while another campaign runs or a [`Leadership`] of this elector exists,
    /// [`ErrorKind::Closed`] after a shutdown, [`ErrorKind::KeeperFailed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the campaign; a claim under way is taken back.
    pub async fn campaign(&self) -> Result<Leadership, Error> {
        let _turn = self.take_turn()?;
        let (lock, term) = self.win().await?;
        self.beat_until_over(&term);
        Ok(Leadership::new(lock, term, Scope::Own))
    }

    /// The beacon of a leadership that is in the user's hands beats beside it, on the user's runtime.
    fn beat_until_over(&self, term: &TermControl) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (beacon, cell) = (Arc::clone(self.inner.board.beacon()), Arc::clone(term.cell()));
        runtime.spawn(async move {
            tokio::select! { biased;
                _ = cell.outcome() => {}
                never = beacon.beat() => match never {}
            }
        });
    }

    pub(super) fn take_turn(&self) -> Result<Turn, Error> {
        let mut seat = self.seat();
        if seat.busy || seat.term.as_ref().is_some_and(TermControl::leadership_exists) {
            return Err(Error::new(
                ErrorKind::Busy,
                "this elector already campaigns or leads: drop or resign the leadership first, or build another elector",
            ));
        }
        seat.busy = true;
        Ok(Turn(self.clone()))
    }

    /// Wins a term. Called by whoever has the turn.
    pub(super) async fn win(&self) -> Result<(Lock, TermControl), Error> {
        self.start_listener();
        loop {
            // R7: no new campaign while old work still runs.
            let earlier = self.term();
            if let Some(earlier) = &earlier {
                earlier.cell().outcome().await;
            }
            let (lock, term) = self.campaign_once(self.restraint(earlier.as_ref())).await?;
            if self.inner.closing.is_cancelled() {
                // Shut down while the answer was on its way: whoever did that saw no term to end.
                term.resign(EndReason::ShutDown);
                term.leadership_dropped();
                drop(lock);
                term.cell().outcome().await;
                return Err(stopped(StopReason::ShutDown));
            }
            if !*self.inner.paused.borrow() {
                return Ok((lock, term));
            }
            // Paused while the claim was on its way.
            term.resign(EndReason::Paused);
            term.leadership_dropped();
        }
    }

    async fn campaign_once(&self, restraint: Restraint) -> Result<(Lock, TermControl), Error> {
        let inner = &self.inner;
        if inner.closing.is_cancelled() {
            return Err(stopped(StopReason::ShutDown));
        }
        inner.board.campaigning();
        let won = tokio::select! { biased;
            () = inner.closing.cancelled() => Err(stopped(StopReason::ShutDown)),
            won = inner.locks.request(self.request(restraint)) => won,
            never = inner.board.beacon().beat() => match never {},
        };
        match won {
            Ok(Some(lock)) => {
                let term = TermControl::new(&lock, Arc::clone(&inner.board));
                self.seat().term = Some(term.clone());
                Ok((lock, term))
            }
            Ok(None) => Err(self.over(keeper_gave_no_answer())),
            Err(error) => Err(self.over(error)),
        }
    }

    /// No further campaign can succeed: the status says so, unless [`Elector::shutdown`] is about to.
    fn over(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::KeeperFailed => self.stop(StopReason::KeeperFailed),
            ErrorKind::Closed if !self.inner.closing.is_cancelled() => self.stop(StopReason::ShutDown),
            _ => self.inner.board.idle(),
        }
        error
    }

    fn request(&self, restraint: Restraint) -> Request {
        let inner = &self.inner;
        let settings = &inner.settings;
        let silence = settings.silent_after.map(|after| Silence { beacon: Arc::clone(inner.board.beacon()), after });
        Request {
            // Always set or removed, so that no leader inherits the address of a dead one.
            data: settings.advertised.clone().map_or(DataChange::Clear, DataChange::Set),
            first_miss_ends: settings.first_miss_ends,
            drain: settings.drain_timeout,
            candidacy: Candidacy::Pausable(inner.paused.subscribe()),
            restraint,
            limits: Limits { max_tenure: settings.max_tenure, silence },
            stuck: settings.stuck,
            watcher: Arc::clone(&inner.board) as Arc<dyn Watcher>,
            ..Request::new(inner.key.clone(), Patience::Election)
        }
    }

    /// Others go first after a term that was given up: for one to two polls, longer after work that failed again and again, and
    /// after a hand-over until one of them has come.
    fn restraint(&self, earlier: Option<&TermControl>) -> Restraint {
        let delay = self.inner.settings.campaign_delay;
        let ended = earlier.and_then(|term| Some((term.cell().finished_at()?, term.cell().reason()?)));
        let Some((at, reason)) = ended.filter(|(_, reason)| !reason.is_forced()) else {
            return Restraint { delay, ..Restraint::default() };
        };
        let timing = self.inner.locks.timing();
        let factor = match self.seat().failures {
            0 => 1,
            failures => 1_u32.checked_shl(failures).unwrap_or(MAX_FAILURE_PAUSE).min(MAX_FAILURE_PAUSE),
        };
        let pause = timing.poll().mul_f64((1.0 + self.inner.locks.context().entropy.spread()) * f64::from(factor));
        let courtesy = if reason == EndReason::HandedOver { timing.lease() } else { Duration::ZERO };
        Restraint { not_before: at.after(pause), delay, courtesy }
    }
}

fn keeper_gave_no_answer() -> Error {
    Error::new(ErrorKind::KeeperFailed, "the keeper gave no answer: build a new lock client")
}
