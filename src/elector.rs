//! The elector: campaigns for one well-known key, for as long as the service lives.

mod board;
mod builder;
mod leadership;
mod run;
mod term;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use board::Board;
pub use builder::ElectorBuilder;
pub use leadership::{Leadership, LeadershipView};
use term::TermControl;

use crate::ending::EndReason;
use crate::error::{Error, ErrorKind};
use crate::lock::{Lock, LockClient, Patience, Request, Watcher};
use crate::status::{Status, Transition};
use crate::store::{DataChange, Key};

/// A candidate in one election. Cheap to clone; all clones are the same candidate.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use dynamo_elector::{Elector, Embedded, LockClient};
///
/// let engine = Embedded::in_memory()?;
/// let locks = LockClient::embedded(&engine, "locks").build().await?;
/// let elector = Elector::builder(&locks, "nightly-billing").advertise("http://10.0.0.7:8080").build()?;
///
/// let leadership = elector.campaign().await?;
/// assert!(leadership.is_valid());
/// assert_eq!(leadership.fencing_token(), 1);
/// leadership.resign().await;
/// elector.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Elector {
    inner: Arc<Inner>,
}

struct Inner {
    locks: LockClient,
    key: Key,
    settings: Settings,
    board: Arc<Board>,
    seat: Mutex<Seat>,
    closing: CancellationToken,
}

#[derive(Debug, Clone)]
struct Settings {
    drain_timeout: Duration,
    first_miss_ends: bool,
    advertised: Option<Vec<u8>>,
}

/// Who uses this candidate: at most one campaign, and one leadership, at a time.
#[derive(Debug, Default)]
struct Seat {
    busy: bool,
    term: Option<TermControl>,
}

/// Frees the seat when a campaign ends, in whatever way.
struct Turn<'a>(&'a Elector);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.seat().busy = false;
    }
}

impl Elector {
    /// Starts the settings of a candidate in the election `name`: the key of its record.
    pub fn builder(locks: &LockClient, name: impl Into<Key>) -> ElectorBuilder {
        ElectorBuilder::new(locks.clone(), name.into())
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.inner.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Campaigns until this process leads. Store errors are shown in the [status](Self::status) and
    /// retried; they never end it. Waits first until the work of an earlier term has ended.
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
        let (lock, control) = self.win().await?;
        Ok(Leadership::new(lock, control, false))
    }

    fn take_turn(&self) -> Result<Turn<'_>, Error> {
        let mut seat = self.seat();
        if seat.busy || seat.term.as_ref().is_some_and(TermControl::leadership_exists) {
            return Err(Error::new(
                ErrorKind::Busy,
                "this elector already campaigns or leads: drop or resign the leadership first, or build another elector",
            ));
        }
        seat.busy = true;
        Ok(Turn(self))
    }

    /// Wins a term. Called by whoever has the turn.
    async fn win(&self) -> Result<(Lock, TermControl), Error> {
        let inner = &self.inner;
        let closed = || Error::new(ErrorKind::Closed, "the elector was shut down: build a new one");
        // R7: no new campaign while old work still runs.
        let earlier = self.seat().term.take();
        if let Some(earlier) = earlier {
            earlier.cell().outcome().await;
        }
        if inner.closing.is_cancelled() {
            return Err(closed());
        }
        inner.board.campaigning();
        let request = Request {
            // Always set or removed, so that no leader inherits the address of a dead one.
            data: inner.settings.advertised.clone().map_or(DataChange::Clear, DataChange::Set),
            first_miss_ends: inner.settings.first_miss_ends,
            drain: inner.settings.drain_timeout,
            watcher: Arc::clone(&inner.board) as Arc<dyn Watcher>,
            ..Request::new(inner.key.clone(), Patience::Election)
        };
        let won = tokio::select! { biased;
            () = inner.closing.cancelled() => Err(closed()),
            won = inner.locks.request(request) => won,
        };
        match won {
            Ok(Some(lock)) => {
                let control = TermControl::new(&lock, Arc::clone(&inner.board));
                self.seat().term = Some(control.clone());
                Ok((lock, control))
            }
            Ok(None) => Err(Error::new(ErrorKind::KeeperFailed, "the keeper gave no answer: build a new lock client")),
            Err(error) => {
                inner.board.idle();
                Err(error)
            }
        }
    }

    /// What is known of the election, as a watch channel: the latest value, and a wake-up for each change.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.inner.board.status()
    }

    /// Every transition from now on, in order. A reader that lags far behind finds [`Transition::Missed`].
    pub fn transitions(&self) -> impl Stream<Item = Transition> + Send + Unpin + 'static {
        let receiver = self.inner.board.transitions();
        let stopped = matches!(self.inner.board.status().borrow().role, crate::status::Role::Stopped);
        Box::pin(futures::stream::unfold((receiver, stopped), |(mut receiver, stopped)| async move {
            if stopped {
                return None;
            }
            match receiver.recv().await {
                Ok(transition) => {
                    let last = matches!(transition, Transition::Stopped { .. });
                    Some((transition, (receiver, last)))
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    Some((Transition::Missed(missed), (receiver, false)))
                }
                Err(broadcast::error::RecvError::Closed) => None,
            }
        }))
    }

    /// The name of the election.
    pub fn name(&self) -> &str {
        self.inner.key.partition()
    }

    /// Leaves for good: cancels the token, lets work drain, releases, waits for the outcome, and shows
    /// `Stopped` as the last status. May be called again, and by several tasks.
    ///
    /// # Cancel safety
    ///
    /// Once polled, it goes on without its future; only the last status is then left out.
    pub async fn shutdown(&self) {
        self.inner.closing.cancel();
        let term = self.seat().term.clone();
        if let Some(term) = term {
            term.resign(EndReason::ShutDown);
            term.cell().outcome().await;
        }
        self.inner.board.stopped();
    }
}

impl std::fmt::Debug for Elector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elector").field("name", &self.name()).finish_non_exhaustive()
    }
}
