//! Observers: they follow elections and never campaign.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::sync::{broadcast, watch};

use super::board::{Board, GroupSender};
use super::{seen_in, transitions};
use crate::error::{Error, ErrorKind};
use crate::lock::{Candidacy, LockClient, Patience, Pending, Request, Watcher};
use crate::status::{LeaderInfo, Status, StopReason, Transition};
use crate::store::Key;

/// How many transitions of all elections a slow reader may lag behind.
const BACKLOG: usize = 4_096;

/// Follows any number of elections with `GetItem` alone: status, leader and its address, transitions. It never writes, and
/// needs no permission to. Cheap to clone; it ends with its last clone.
///
/// A leader's death shows when its lease is over by this process' own clock: a lease after its last heartbeat was seen, as for
/// a candidate.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use dynamo_elector::{Elector, Embedded, LockClient};
/// use dynamo_elector::Observer;
///
/// # let engine = Embedded::in_memory()?;
/// # let locks = LockClient::embedded(&engine, "locks").build().await?;
/// # let elector = Elector::builder(&locks, "nightly-billing").advertise("http://10.0.0.7:8080").build()?;
/// # let leadership = elector.campaign().await?;
/// let observer = Observer::builder(&locks).election("nightly-billing").start()?;
/// let leader = observer.until_leader("nightly-billing").await?;
/// assert_eq!(leader.address(), Some("http://10.0.0.7:8080"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Observer {
    inner: Arc<ObserverInner>,
}

struct ObserverInner {
    elections: BTreeMap<Arc<str>, Followed>,
    transitions: GroupSender,
    _locks: LockClient,
}

struct Followed {
    board: Arc<Board>,
    /// Dropped, the keeper follows it no longer.
    _pending: Pending,
}

/// Builds an [`Observer`]; see [`Observer::builder`].
///
/// | setting | default | why |
/// | --- | --- | --- |
/// | elections | none | at least one is needed |
/// | poll | [`Timing::poll`](crate::Timing::poll) of the client | half a read unit each, per election |
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is started"]
pub struct ObserverBuilder {
    locks: LockClient,
    elections: Vec<Key>,
    poll: Option<Duration>,
}

impl Observer {
    /// Starts the settings of an observer.
    pub fn builder(locks: &LockClient) -> ObserverBuilder {
        ObserverBuilder { locks: locks.clone(), elections: Vec::new(), poll: None }
    }

    /// The names of the elections it follows.
    pub fn elections(&self) -> impl Iterator<Item = &str> {
        self.inner.elections.keys().map(AsRef::as_ref)
    }

    /// What is known of one of them, as a watch channel; its role is `Follower` once the record was seen. `None`: not followed here.
    pub fn status(&self, election: &str) -> Option<watch::Receiver<Status>> {
        self.inner.elections.get(election).map(|followed| followed.board.status())
    }

    /// Every transition of every election from now on, each with the name of its election; of one election in order. A
    /// reader that lags far behind finds [`Transition::Missed`], without a name since it may be anybody's.
    pub fn transitions(&self) -> impl Stream<Item = (Option<Arc<str>>, Transition)> + Send + Unpin + 'static + use<> {
        transitions::of_all(self.inner.transitions.subscribe())
    }

    /// Waits until somebody is seen to lead.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for an election that is not followed here, [`ErrorKind::Closed`] once the lock client was shut down.
    ///
    /// # Cancel safety
    ///
    /// Waits only.
    pub async fn until_leader(&self, election: &str) -> Result<LeaderInfo, Error> {
        let status = self.status(election).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                format!("this observer does not follow {election}: name it when building"),
            )
        })?;
        seen_in(status, |status| status.leader.clone()).await.map_err(|_| ended())
    }
}

impl ObserverBuilder {
    /// Follows this election, too.
    pub fn election(mut self, name: impl Into<Key>) -> Self {
        self.elections.push(name.into());
        self
    }

    /// Follows all of these, too: hundreds of them are fine.
    pub fn elections<K: Into<Key>>(mut self, names: impl IntoIterator<Item = K>) -> Self {
        self.elections.extend(names.into_iter().map(Into::into));
        self
    }

    /// How often each record is read. Slower is cheaper, and later.
    pub fn poll_every(mut self, period: Duration) -> Self {
        self.poll = Some(period);
        self
    }

    /// Begins to follow.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for names that can't be keys, no name or one twice, and for a period below 10 ms or above
    /// an hour, [`ErrorKind::KeeperFailed`].
    pub fn start(self) -> Result<Observer, Error> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidInput, message);
        if let Some(poll) = self.poll.filter(|poll| !(MIN_POLL..=MAX_POLL).contains(poll)) {
            return Err(invalid(format!(
                "records can't be read every {poll:?}: choose between {MIN_POLL:?} and {MAX_POLL:?}"
            )));
        }
        if self.elections.is_empty() {
            return Err(invalid("an observer without elections sees nothing: name one".into()));
        }
        let transitions = broadcast::Sender::new(BACKLOG);
        let mut elections = BTreeMap::new();
        for key in self.elections {
            let name: Arc<str> = key.to_string().into();
            let key = self.locks.key(key)?;
            let group = transitions.clone();
            let board = Arc::new(Board::observing(&self.locks, Arc::clone(&name), group));
            board.campaigning();
            let request = Request {
                candidacy: Candidacy::Never,
                refresh: self.poll,
                watcher: Arc::clone(&board) as Arc<dyn Watcher>,
                ..Request::new(key, Patience::Election)
            };
            let followed = Followed { board, _pending: self.locks.send(request)? };
            if elections.insert(Arc::clone(&name), followed).is_some() {
                return Err(invalid(format!("election {name} is named twice: name each one once")));
            }
        }
        Ok(Observer { inner: Arc::new(ObserverInner { elections, transitions, _locks: self.locks }) })
    }
}

const MIN_POLL: Duration = Duration::from_millis(10);
const MAX_POLL: Duration = Duration::from_secs(3_600);

impl Drop for ObserverInner {
    fn drop(&mut self) {
        for followed in self.elections.values() {
            followed.board.stopped(StopReason::ShutDown);
        }
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Closed, "this observer has ended, or its lock client was shut down: build new ones")
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("elections", &self.inner.elections.len()).finish_non_exhaustive()
    }
}
