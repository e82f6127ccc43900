//! The lock layer: conditional verbs on one record a key, renewed by one keeper.

mod acquire;
mod beacon;
mod builder;
mod campaign;
mod cell;
mod context;
mod deadline;
mod entropy;
mod fencing;
mod handle;
mod held;
mod hold;
mod keeper;
mod limits;
mod monitor;
mod request;
mod runtime;
mod table;
mod tenure;
mod verbs;
mod watch;

/// The atomics of the deadline.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}

use std::sync::Arc;

use tokio::sync::oneshot;

pub use acquire::Acquire;
pub(crate) use beacon::{BEAT, Beacon};
pub use builder::LockClientBuilder;
pub(crate) use cell::{LeaseCell, Pin};
pub(crate) use context::{Acquired, Context, Note, Watcher};
pub use fencing::Fencing;
pub(crate) use handle::Control;
pub use handle::{Heartbeat, Lock, Release};
pub use held::HeldLock;
pub(crate) use keeper::Keeper;
pub(crate) use limits::{Limits, Silence};
pub(crate) use request::{Candidacy, Patience, Pending, Request, Stuck};
pub(crate) use runtime::current_runtime;
pub use table::LockTable;

use crate::ending::ReleaseOutcome;
use crate::error::{Error, ErrorKind};
use crate::protocol::Renewal;
use crate::store::Key;
use crate::timing::Timing;

/// A client of one lock table. Cheap to clone; all clones share one keeper thread, one connection
/// pool and everything observed so far.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use dynamo_elector::{Embedded, LockClient};
///
/// let engine = Embedded::in_memory()?;                    // at scale: LockClient::builder(&sdk_client, "locks")
/// let locks = LockClient::embedded(&engine, "locks").build().await?;
///
/// let lock = locks.acquire("nightly-report").await?;
/// assert!(lock.is_valid());
/// assert!(locks.try_acquire("nightly-report").await?.is_none(), "one holder at a time");
/// lock.release().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct LockClient {
    keeper: Arc<Keeper>,
}

impl LockClient {
    /// Starts the settings of a client on `table`, reached the way `client` is configured.
    ///
    /// The keeper builds an SDK client of its own from that configuration, with its own connections
    /// and credentials cache, so that code blocking your runtime can't stall a renewal.
    pub fn builder(client: &aws_sdk_dynamodb::Client, table: impl Into<String>) -> LockClientBuilder {
        LockClientBuilder::new(client.config().clone(), table.into())
    }

    /// Waits for the lock on `key`, for ever unless [told otherwise](Acquire::wait_up_to).
    ///
    /// # Errors
    ///
    /// When awaited: [`ErrorKind::InvalidInput`] for a key or settings that can't work, [`ErrorKind::WaitOver`] when the
    /// time to wait is over (or what kept DynamoDB from answering, if that was the cause), and at once what
    /// only a human can mend: [`ErrorKind::AccessDenied`], [`ErrorKind::TableMissing`],
    /// [`ErrorKind::MalformedRecord`], [`ErrorKind::NewerFormat`]. [`ErrorKind::Closed`] after a shutdown.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any point gives up: a claim under way is taken back, and what was
    /// observed so far stays with the client.
    pub fn acquire(&self, key: impl Into<Key>) -> Acquire {
        Acquire::new(self.clone(), key.into())
    }

    /// Takes the lock on `key` if it is free now. Takes a dead holder's lock over once it has been
    /// observed for as long as its lease, by this or earlier calls. With settings:
    /// [`acquire(key)`](Self::acquire) … [`try_now()`](Acquire::try_now).
    ///
    /// # Errors
    ///
    /// Whatever kept it from finding out; [`ErrorKind::MalformedRecord`] and [`ErrorKind::NewerFormat`]
    /// for records that are never taken over.
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire(&self, key: impl Into<Key>) -> Result<Option<Lock>, Error> {
        self.acquire(key).try_now().await
    }

    /// Starts the settings of a client on the embedded engine, with `table` created if it is missing:
    /// for one machine, and for tests.
    #[cfg(feature = "embedded")]
    pub fn embedded(engine: &crate::Embedded, table: impl Into<String>) -> LockClientBuilder {
        LockClientBuilder::embedded(engine.client().config().clone(), table.into()).create_table()
    }

    /// Ends all locks and campaigns of this client and its clones, releases what is held, all at once, and tells
    /// what became of each lock. A lock whose work winds down under [`Lock::guard`], and a leadership that drains, is renewed until
    /// its own release begins. Takes until the drain times and the leases are over, at most.
    ///
    /// May be called again: it then tries again what could not be released.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the shutdown goes on without its future; call it again for the report.
    pub async fn shutdown(&self) -> ShutdownReport {
        ShutdownReport { locks: self.keeper.shutdown().await }
    }

    /// Who this client is, in the record.
    pub fn owner(&self) -> &str {
        &self.keeper.context().settings.owner
    }

    /// The durations in use.
    pub fn timing(&self) -> Timing {
        self.keeper.context().settings.timing
    }

    /// Whether `DescribeTable` confirmed that this table can exclude (its keys fit, it is no MREC
    /// global table). `false`: the permission is missing, or DynamoDB did not answer at start.
    pub fn table_was_checked(&self) -> bool {
        self.keeper.table_was_checked()
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        self.keeper.context()
    }

    /// As if this client's machine had been suspended for so long: its clock has run on, its timers have not. For tests in
    /// [simulated](LockClientBuilder::simulated) time; in real time it does nothing.
    #[cfg(feature = "test-util")]
    pub fn suspend(&self, time: std::time::Duration) {
        self.context().clock.suspend(time);
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.keeper.is_alive()
    }

    pub(crate) fn renews(&self) -> bool {
        self.context().settings.renewal == Renewal::Scheduled
    }

    pub(crate) fn key(&self, key: Key) -> Result<Key, Error> {
        self.context().store.key(key)
    }

    /// Sends a request to the keeper. Dropping what is returned takes it back.
    pub(crate) fn send(&self, request: Request) -> Result<Pending, Error> {
        let (answer, pending) = oneshot::channel();
        self.keeper.send(keeper::Command::Acquire(Box::new(request), answer))?;
        Ok(pending)
    }

    pub(crate) async fn request(&self, request: Request) -> Result<Option<Lock>, Error> {
        let lock = self.send(request)?.await.unwrap_or_else(|_| Err(keeper::gone()))?;
        // The lock keeps the keeper alive.
        Ok(lock.map(|lock| lock.kept_by(&self.keeper)))
    }
}

/// Without randomness there are no versions, and nothing may be written.
fn no_entropy() -> Error {
    Error::new(ErrorKind::KeeperFailed, "the operating system gives no random bytes: versions can't be made")
}

/// What [`LockClient::shutdown`] did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Each lock that was held when the shutdown began, and what became of its release.
    pub locks: Vec<(Key, ReleaseOutcome)>,
}

impl ShutdownReport {
    /// The locks that others may have to wait for: no release was confirmed. Another shutdown tries them again, except
    /// where work did not end ([`ReleaseOutcome::Expired`]).
    pub fn unreleased(&self) -> impl Iterator<Item = &Key> {
        let open = |outcome: &ReleaseOutcome| matches!(outcome, ReleaseOutcome::Unknown | ReleaseOutcome::Expired);
        self.locks.iter().filter(move |(_, outcome)| open(outcome)).map(|(key, _)| key)
    }
}
