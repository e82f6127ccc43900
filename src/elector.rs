//! The elector: campaigns for one well-known key, for as long as the service lives.

mod background;
mod board;
mod builder;
mod campaign;
mod drive;
mod fence;
#[cfg(test)]
mod fuzz;
mod group;
mod health;
mod leadership;
mod observer;
mod run;
mod service;
mod signals;
mod term;
mod transitions;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use background::Running;
use board::Board;
pub use builder::ElectorBuilder;
pub use fence::{Fence, FenceCondition, FencedWrite};
pub use group::Elections;
pub use health::Health;
pub use leadership::{Leadership, LeadershipView};
pub use observer::{Observer, ObserverBuilder};
use service::LeaderCallback;
pub use service::{Service, TermEnded, WorkResult};
pub use signals::termination;
use term::TermControl;

use crate::ending::{EndReason, ReleaseOutcome};
use crate::error::{Error, ErrorKind};
use crate::lock::{LockClient, Stuck};
use crate::status::{LeaderInfo, Role, Status, StopReason, Transition};
use crate::store::Key;

/// A candidate in one election. Cheap to clone; all clones are the same candidate.
///
/// It is used in one of four ways, one at a time: [`run`](Self::run) makes leadership the scope of a future,
/// [`campaign`](Self::campaign) hands out the [`Leadership`] itself, [`start`](Self::start) calls a [`Service`] back in the
/// background, and [`ElectorBuilder::start`] does the same with closures, or with none.
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
    paused: watch::Sender<bool>,
    /// Whether a background task serves this elector.
    serving: watch::Sender<bool>,
    listener: Mutex<Listener>,
    closing: CancellationToken,
    /// Also fires when the last handle is gone. (A leadership may outlive its elector.)
    gone: CancellationToken,
}

#[derive(Debug, Clone)]
struct Settings {
    drain_timeout: Duration,
    /// `None`: as the timing says.
    notice: Option<Duration>,
    first_miss_ends: bool,
    advertised: Option<Vec<u8>>,
    campaign_delay: Duration,
    max_tenure: Option<Duration>,
    silent_after: Option<Duration>,
    stuck: Stuck,
    stop_after_success: bool,
    stop_after_failure: bool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What waits beside this elector, such as for signals, ends with it.
        self.gone.cancel();
    }
}

/// Who uses this candidate: at most one campaign, and one leadership, at a time.
#[derive(Debug, Default)]
struct Seat {
    busy: bool,
    /// Fires when nothing of the latest campaign, and of its term, is left.
    campaign: Option<CancellationToken>,
    /// Terms in a row whose work failed.
    failures: u32,
}

/// The callback for changes of the leader, until its task is started; then the task.
enum Listener {
    None,
    Waiting(LeaderCallback),
    Task(JoinHandle<()>),
}

impl Elector {
    /// Starts the settings of a candidate in the election `name`: the key of its record.
    pub fn builder(locks: &LockClient, name: impl Into<Key>) -> ElectorBuilder {
        ElectorBuilder::new(locks.clone(), name.into(), None)
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.inner.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the election, as a watch channel: the latest value, and a wake-up for each change.
    ///
    /// The value demotes itself at the deadline, from the same thread and clock as the token, whatever the network does;
    /// [`Status::is_leader`] also reads the clock where it is asked.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.inner.board.status()
    }

    /// Every transition from now on, in order. A reader that lags far behind finds [`Transition::Missed`]. Ends after
    /// [`Transition::Stopped`].
    pub fn transitions(&self) -> impl Stream<Item = Transition> + Send + Unpin + 'static + use<> {
        // In this order: whoever subscribes too late for the last transition finds that it has stopped.
        let transitions = self.inner.board.transitions();
        let stopped = matches!(self.status().borrow().role, Role::Stopped(_));
        transitions::of_one(transitions, stopped)
    }

    /// The name of the election.
    pub fn name(&self) -> &str {
        self.inner.key.partition()
    }

    /// Waits until this process leads; `Err` with the reason if the elector stops before.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] once the elector has stopped.
    ///
    /// # Cancel safety
    ///
    /// Waits only.
    pub async fn until_leading(&self) -> Result<(), Error> {
        self.until(|status| status.is_leader().then_some(())).await
    }

    /// Waits until somebody is seen to lead, this process or another: where to forward what only the leader does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] once the elector has stopped.
    ///
    /// # Cancel safety
    ///
    /// Waits only.
    pub async fn until_leader(&self) -> Result<LeaderInfo, Error> {
        self.until(|status| status.leader.clone()).await
    }

    /// Waits until this elector has stopped, and tells why.
    ///
    /// # Cancel safety
    ///
    /// Waits only.
    pub async fn until_stopped(&self) -> StopReason {
        seen_in(self.status(), |status| status.role.stop_reason()).await.unwrap_or_else(|reason| reason)
    }

    async fn until<T>(&self, seen: impl Fn(&Status) -> Option<T>) -> Result<T, Error> {
        seen_in(self.status(), seen).await.map_err(stopped)
    }

    /// A view of the current leadership of this process, for request handlers: `None` while it does not lead, or must stop.
    /// While the view exists the release waits, within its bound.
    pub fn leadership(&self) -> Option<LeadershipView> {
        let term = self.inner.board.term()?;
        // Counted in before it is looked at, so that no release comes between.
        let view = LeadershipView::new(term);
        view.ensure(Duration::ZERO).is_ok().then_some(view)
    }

    /// Gives leadership up in favour of another candidate, whatever this elector is used for: it is [announced](ElectorBuilder::hand_over_notice)
    /// while work goes on, the token fires, work drains, the record is released. This process stays out until it has seen another lead, for a lease at most. `None` if it does not lead.
    ///
    /// Called from the work itself, it waits for that very work, until its bound: spawn it there.
    ///
    /// # Cancel safety
    ///
    /// Once polled, it goes on without its future.
    pub async fn hand_over(&self) -> Option<ReleaseOutcome> {
        self.end_term(EndReason::HandedOver).await
    }

    /// Takes no part until [`resume`](Self::resume): gives leadership up politely and claims nothing, but goes on following,
    /// so the status shows who leads. For deploys and drills. A paused elector is still [ready](Self::health).
    ///
    /// Waits for the release, as [`hand_over`](Self::hand_over) does.
    ///
    /// # Cancel safety
    ///
    /// Once polled, it goes on without its future.
    pub async fn pause(&self) {
        self.set_paused(true);
        self.end_term(EndReason::Paused).await;
    }

    /// Takes part again.
    pub fn resume(&self) {
        self.set_paused(false);
    }

    fn set_paused(&self, paused: bool) {
        // The board first: whoever sees it paused finds no later claim.
        self.inner.board.paused(paused);
        self.inner.paused.send_replace(paused);
    }

    async fn end_term(&self, reason: EndReason) -> Option<ReleaseOutcome> {
        let term = self.inner.board.term()?;
        if term.cell().is_finished() {
            return None;
        }
        term.resign(reason);
        Some(term.cell().outcome().await)
    }

    /// Leaves for good: [announces](ElectorBuilder::hand_over_notice) it while work goes on, cancels the token, lets work drain, releases, waits for the outcome and for the callbacks, and shows
    /// `Stopped` as the last status. Nothing of this elector runs afterwards. May be called again, and by several tasks.
    ///
    /// Takes until followers have read of it, at most the notice, until the work has stopped, at most its [drain timeout](ElectorBuilder::drain_timeout), until the release is confirmed,
    /// at most a lease, and until the callbacks have returned, at most a drain timeout each (unless one blocks its thread). Under [`run`](Self::run)
    /// the work stops only while `run` is polled: don't await this instead of it, but beside it.
    ///
    /// # Cancel safety
    ///
    /// Once polled, it goes on without its future; only the last status is then left out.
    pub async fn shutdown(&self) {
        // The keeper learns of it too: a claim under way is taken back, a term ends, whether or not anybody polls the work.
        self.inner.closing.cancel();
        self.last_campaign_over().await;
        // The sender lives as long as `self`: this can't fail.
        let _ = self.inner.serving.subscribe().wait_for(|serving| !serving).await;
        self.inner.board.stopped(StopReason::ShutDown);
        self.end_listener().await;
    }

    /// Stops for good, by itself.
    fn stop(&self, reason: StopReason) {
        self.inner.closing.cancel();
        self.inner.board.stopped(reason);
    }
}

/// Waits until this is seen; `Err` once there is nothing more to see.
async fn seen_in<T>(mut status: watch::Receiver<Status>, seen: impl Fn(&Status) -> Option<T>) -> Result<T, StopReason> {
    loop {
        {
            let now = status.borrow_and_update();
            if let Some(found) = seen(&now) {
                return Ok(found);
            }
            if let Role::Stopped(reason) = now.role {
                return Err(reason);
            }
        }
        if status.changed().await.is_err() {
            return Err(StopReason::ShutDown);
        }
    }
}

fn stopped(reason: StopReason) -> Error {
    let why = match reason {
        StopReason::ShutDown => "it was shut down",
        StopReason::WorkEnded => "its work has ended",
        StopReason::WorkFailed => "its work failed",
        StopReason::KeeperFailed => "its keeper failed; build a new lock client",
    };
    Error::new(ErrorKind::Closed, format!("this elector has stopped: {why}"))
}

impl std::fmt::Debug for Elector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elector").field("name", &self.name()).finish_non_exhaustive()
    }
}
