//! The lock layer: conditional verbs on one record a key, renewed by one keeper.

mod builder;
mod campaign;
mod cell;
mod context;
mod entropy;
mod hold;
mod keeper;
mod request;
mod tenure;

use std::future::{Future, IntoFuture};
use std::pin::Pin as StdPin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use builder::LockClientBuilder;
pub(crate) use cell::{LeaseCell, Pin};
pub(crate) use context::{Context, Note, Unwatched, Watcher};
pub(crate) use keeper::Keeper;
pub(crate) use request::{Patience, Request};

use crate::ending::{EndReason, ReleaseOutcome};
use crate::error::{Error, ErrorKind};
use crate::store::{DataChange, LockKey, LockRecord};
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
/// lock.release().await;
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
    /// When awaited: [`ErrorKind::InvalidInput`] for a key that can't work, [`ErrorKind::WaitOver`] when the
    /// time to wait is over (or what kept DynamoDB from answering, if that was the cause), and at once what
    /// only a human can mend: [`ErrorKind::AccessDenied`], [`ErrorKind::TableMissing`],
    /// [`ErrorKind::MalformedRecord`], [`ErrorKind::NewerFormat`]. [`ErrorKind::Closed`] after a shutdown.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any point gives up: a claim under way is taken back, and what was
    /// observed so far stays with the client.
    pub fn acquire(&self, key: impl Into<String>) -> Acquire {
        Acquire { locks: self.clone(), key: key.into(), sort: None, wait: None, data: DataChange::Keep }
    }

    /// Takes the lock on `key` if it is free now. Takes a dead holder's lock over once it has been
    /// observed for as long as its lease, by this or earlier calls.
    ///
    /// # Errors
    ///
    /// Whatever kept it from finding out; [`ErrorKind::MalformedRecord`] and [`ErrorKind::NewerFormat`]
    /// for records that are never taken over.
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire(&self, key: impl Into<String>) -> Result<Option<Lock>, Error> {
        let key = self.key(key.into(), None)?;
        self.request(self.lock_request(key, Patience::Try, DataChange::Keep)).await
    }

    /// Starts the settings of a client on the embedded engine, with `table` created if it is missing:
    /// for one machine, and for tests.
    #[cfg(feature = "embedded")]
    pub fn embedded(engine: &crate::Embedded, table: impl Into<String>) -> LockClientBuilder {
        LockClientBuilder::embedded(engine.client().config().clone(), table.into()).create_table()
    }

    /// Reads a record without touching it, strongly consistent. `None` where there is none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MalformedRecord`] if it is no lock record, else what kept it from being read.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the read.
    pub async fn get(&self, key: impl Into<String>) -> Result<Option<LockRecord>, Error> {
        let key = self.key(key.into(), None)?;
        let (answer, found) = oneshot::channel();
        self.keeper.send(keeper::Command::Get(key, answer))?;
        found.await.unwrap_or_else(|_| Err(keeper::gone()))
    }

    /// Ends all locks and campaigns of this client and its clones, releases what is held, and tells
    /// what became of each lock. Bounded by the drain times and the lease. May be called again.
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

    pub(crate) fn key(&self, partition: String, sort: Option<String>) -> Result<LockKey, Error> {
        self.context().store.key(partition, sort)
    }

    fn lock_request(&self, key: LockKey, patience: Patience, data: DataChange) -> Request {
        Request { key, patience, data, first_miss_ends: false, drain: Duration::ZERO, watcher: Arc::new(Unwatched) }
    }

    pub(crate) async fn request(&self, request: Request) -> Result<Option<Lock>, Error> {
        let (answer, lock) = oneshot::channel();
        self.keeper.send(keeper::Command::Acquire(Box::new(request), answer))?;
        let lock = lock.await.unwrap_or_else(|_| Err(keeper::gone()))?;
        // The lock keeps the keeper alive.
        Ok(lock.map(|lock| Lock { _keeper: Some(Arc::clone(&self.keeper)), ..lock }))
    }
}

/// A pending [`LockClient::acquire`]; await it.
#[derive(Debug)]
#[must_use = "an acquisition does nothing until it is awaited"]
pub struct Acquire {
    locks: LockClient,
    key: String,
    sort: Option<String>,
    wait: Option<Duration>,
    data: DataChange,
}

impl Acquire {
    /// Gives up with [`ErrorKind::WaitOver`] after this long. Default: waits for ever.
    pub fn wait_up_to(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// The sort key, for tables that have one.
    pub fn sort_key(mut self, value: impl Into<String>) -> Self {
        self.sort = Some(value.into());
        self
    }

    /// Stores this with the lock. Default: whatever data the record has is kept.
    pub fn data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = DataChange::Set(data.into());
        self
    }
}

impl IntoFuture for Acquire {
    type Output = Result<Lock, Error>;
    type IntoFuture = StdPin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let key = self.locks.key(self.key, self.sort)?;
            let now = self.locks.context().clock.now();
            let patience = self.wait.map_or(Patience::Unlimited, |wait| Patience::Until(now.after(wait)));
            let request = self.locks.lock_request(key, patience, self.data);
            let lock = self.locks.request(request).await?;
            lock.ok_or_else(|| Error::new(ErrorKind::WaitOver, "the lock is held by somebody else"))
        })
    }
}

/// What a handle asks of the task that looks after its lock.
pub(crate) enum Control {
    /// The token fires, work drains, then the lock is released.
    Resign(EndReason),
    /// The data that every further heartbeat sets; `None` removes it.
    Data(Option<Vec<u8>>),
    /// A heartbeat now.
    Beat(oneshot::Sender<Result<(), Error>>),
}

/// What the keeper hands out.
pub(crate) struct Held {
    key: String,
    cell: Arc<LeaseCell>,
    control: mpsc::UnboundedSender<Control>,
    fencing: bool,
}

/// A held lock. Exactly this acquisition: a handle of an earlier one can't touch it.
///
/// # Note: drop behaviour
///
/// Dropping it releases the lock in the background, as a best effort: never blocks, never panics, also
/// outside a runtime. Await [`release`](Self::release) to know the outcome.
#[must_use = "dropping a lock releases it"]
pub struct Lock {
    key: String,
    cell: Arc<LeaseCell>,
    control: mpsc::UnboundedSender<Control>,
    fencing: bool,
    /// Held, not used: while a lock exists so does the keeper that renews it.
    _keeper: Option<Arc<Keeper>>,
}

impl Lock {
    pub(crate) fn new(held: Held) -> Self {
        Self { key: held.key, cell: held.cell, control: held.control, fencing: held.fencing, _keeper: None }
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether this process may still act: one clock read, no lock, no I/O, no timer involved.
    pub fn is_valid(&self) -> bool {
        self.cell.is_valid()
    }

    /// How long it stays valid if no further heartbeat comes through.
    pub fn remaining(&self) -> Duration {
        self.cell.remaining()
    }

    /// The fencing token; `None` where records are deleted on release, since it could not keep rising.
    pub fn fencing_token(&self) -> Option<u64> {
        self.fencing.then(|| self.cell.token())
    }

    /// Fires when the lock has ended: its deadline has passed, it was taken over, or it is being released.
    pub fn lost(&self) -> &CancellationToken {
        self.cell.cancelled()
    }

    /// Whether the last heartbeat did not come through.
    pub fn is_at_risk(&self) -> bool {
        self.cell.is_at_risk()
    }

    /// Waits until a heartbeat is missed, or the end.
    ///
    /// # Cancel safety
    ///
    /// Waits only; nothing is lost.
    pub async fn at_risk(&self) {
        self.cell.at_risk().await;
    }

    /// Why it ended, once it has.
    pub fn end_reason(&self) -> Option<EndReason> {
        self.cell.reason()
    }

    /// A heartbeat now, besides the scheduled ones.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotHeld`] if the lock has ended; otherwise what kept the heartbeat from coming
    /// through. The lock may still be valid then, and further heartbeats are on their way.
    ///
    /// # Cancel safety
    ///
    /// The heartbeat goes on without its future.
    pub async fn heartbeat(&self) -> Result<(), Error> {
        let (done, result) = oneshot::channel();
        let gone = || Error::new(ErrorKind::NotHeld, "the lock is not held any more: acquire it again");
        self.control.send(Control::Beat(done)).map_err(|_| gone())?;
        result.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Releases the lock and waits for the outcome, until the lease is over at the longest.
    ///
    /// # Cancel safety
    ///
    /// The release goes on without its future.
    pub async fn release(self) -> ReleaseOutcome {
        self.resign(EndReason::Resigned);
        self.cell.outcome().await
    }

    pub(crate) fn resign(&self, reason: EndReason) {
        // The task has ended if nobody listens: nothing is left to release.
        let _ = self.control.send(Control::Resign(reason));
    }

    pub(crate) fn set_data(&self, data: Option<Vec<u8>>) {
        let _ = self.control.send(Control::Data(data));
    }

    /// For those who may end the lock but must not keep it alive.
    pub(crate) fn weak_control(&self) -> mpsc::WeakUnboundedSender<Control> {
        self.control.downgrade()
    }

    pub(crate) fn cell(&self) -> &Arc<LeaseCell> {
        &self.cell
    }
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock").field("key", &self.key).field("cell", &self.cell).finish_non_exhaustive()
    }
}

/// What [`LockClient::shutdown`] did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Each lock that was held when the shutdown began, and what became of its release.
    pub locks: Vec<(String, ReleaseOutcome)>,
}
