//! Winning a term: one at a time, after the one before is over, and politely.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::leadership::{Leadership, Scope};
use super::{Elector, TermControl, stopped};
use crate::ending::EndReason;
use crate::error::{Error, ErrorKind};
use crate::lock::{Candidacy, Limits, Lock, Patience, Request, Silence, Watcher};
use crate::protocol::{MOST_PAUSE, Moment, Restraint, all_look_within};
use crate::status::StopReason;
use crate::store::DataChange;

/// The longest pause after work that failed again and again, in polls.
const MAX_FAILURE_PAUSE: u32 = 64;

/// The longest notice by default. Followers look as often at least.
const MOST_NOTICE: Duration = MOST_PAUSE;

/// Frees the seat when a campaign ends, in whatever way.
pub(super) struct Turn(pub(super) Elector);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.seat().busy = false;
        self.0.inner.board.idle();
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
        Ok(Leadership::new(lock, term, &self.inner.board, Scope::Own))
    }

    /// The beacon of a leadership that is in the user's hands beats beside it, on the user's runtime.
    fn beat_until_over(&self, term: &TermControl) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (beacon, cell) = (Arc::clone(self.inner.board.beacon()), Arc::clone(term.cell()));
        // Where silence ends the term it counts from here on, also if the runtime never gets to the task below.
        let first = self.inner.settings.silent_after.map(|_| beacon.beat());
        runtime.spawn(async move {
            tokio::select! { biased;
                _ = cell.outcome() => {}
                never = first.unwrap_or_else(|| beacon.beat()) => match never {}
            }
        });
    }

    pub(super) fn take_turn(&self) -> Result<Turn, Error> {
        let mut seat = self.seat();
        if seat.busy || self.inner.board.term().is_some_and(|term| term.leadership_exists()) {
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
            // R7: no new campaign while old work still runs, or anything else of an earlier one is left.
            self.last_campaign_over().await;
            let lock = self.campaign_once().await?;
            let term = self.inner.board.term().ok_or_else(keeper_gave_no_answer)?;
            if !*self.inner.paused.borrow() {
                return Ok((lock, term));
            }
            // Paused while the claim was on its way.
            term.resign(EndReason::Paused);
        }
    }

    /// Until nothing of the latest campaign is left: no claim under way, no lease, no release.
    pub(super) async fn last_campaign_over(&self) {
        let over = self.seat().campaign.clone();
        if let Some(over) = over {
            over.cancelled().await;
        }
    }

    async fn campaign_once(&self) -> Result<Lock, Error> {
        let inner = &self.inner;
        let over = CancellationToken::new();
        let request = Request { _over: Some(over.clone().drop_guard()), ..self.request() };
        // In this order: a shutdown that does not see this campaign is seen by it.
        self.seat().campaign = Some(over);
        if inner.closing.is_cancelled() {
            return Err(stopped(StopReason::ShutDown));
        }
        inner.board.campaigning();
        let won = tokio::select! { biased;
            () = inner.closing.cancelled() => Err(stopped(StopReason::ShutDown)),
            won = inner.locks.request(request) => won,
            never = inner.board.beacon().beat() => match never {},
        };
        if won.is_err() {
            // A claim that was on its way is taken back before anything is said to be over.
            self.last_campaign_over().await;
        }
        match won {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(self.over(keeper_gave_no_answer())),
            Err(error) => Err(self.over(error)),
        }
    }

    /// No further campaign can succeed: the status says so, unless [`Elector::shutdown`] is about to.
    fn over(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::KeeperFailed => self.stop(StopReason::KeeperFailed),
            ErrorKind::Closed if !self.inner.closing.is_cancelled() => self.stop(StopReason::ShutDown),
            _ => {}
        }
        error
    }

    fn request(&self) -> Request {
        let inner = &self.inner;
        let settings = &inner.settings;
        let silence = settings.silent_after.map(|after| Silence { beacon: Arc::clone(inner.board.beacon()), after });
        Request {
            // Always set or removed, so that no leader inherits the address of a dead one.
            data: settings.advertised.clone().map_or(DataChange::Clear, DataChange::Set),
            first_miss_ends: settings.first_miss_ends,
            drain: settings.drain_timeout,
            notice: settings.notice.unwrap_or_else(|| MOST_NOTICE.min(inner.locks.timing().heartbeat() * 2)),
            candidacy: Candidacy::Pausable(inner.paused.subscribe()),
            restraint: self.restraint(),
            given_up: inner.closing.clone(),
            limits: Limits { max_tenure: settings.max_tenure, silence },
            stuck: settings.stuck,
            watcher: Arc::clone(&inner.board) as Arc<dyn Watcher>,
            ..Request::new(inner.key.clone(), Patience::Election)
        }
    }

    /// Others go first after a term that was given up: until each of them has looked, and for up to as long again, longer after work
    /// that failed again and again, and after a hand-over until one of them has come.
    fn restraint(&self) -> Restraint {
        let delay = self.inner.settings.campaign_delay;
        let ended = self.inner.board.term().and_then(|term| Some((term.cell().finished_at()?, term.cell().reason()?)));
        let Some((at, reason)) = ended.filter(|(_, reason)| !reason.is_forced()) else {
            return Restraint { delay, ..Restraint::default() };
        };
        let timing = self.inner.locks.timing();
        let doubled = 1_u32.checked_shl(self.seat().failures).unwrap_or(MAX_FAILURE_PAUSE);
        let factor = doubled.min(MAX_FAILURE_PAUSE);
        // Whoever was told that it comes looks more often.
        let least = if reason.can_wait() { timing.poll() } else { all_look_within(timing.poll(), timing.heartbeat()) };
        let pause = least.max(timing.poll() * factor).mul_f64(1.0 + self.inner.locks.context().entropy.spread());
        let handed_over = reason == EndReason::HandedOver;
        let courteous_until = if handed_over { at.after(timing.lease()) } else { Moment::default() };
        Restraint { not_before: at.after(pause), delay, courteous_until }
    }
}

fn keeper_gave_no_answer() -> Error {
    Error::new(ErrorKind::KeeperFailed, "the keeper gave no answer: build a new lock client")
}
