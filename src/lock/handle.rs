//! What users hold of a lock, and what they can ask of it.

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::pin::Pin as StdPin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::cell::LeaseCell;
use super::fencing::{Fencing, no_tokens, obstacle};
use super::keeper::Keeper;
use crate::ending::{EndReason, ReleaseOutcome};
use crate::error::{Error, ErrorKind};
use crate::store::{DataChange, DurationText, Key, check_data};
use crate::timing::Timing;

/// What a handle asks of the task that looks after its lock.
pub(crate) enum Control {
    /// The token fires, work drains, then the lock is released.
    Resign(EndReason),
    /// The same, and the release changes the record as asked. Boxed, as the next: a queue has room for 32 of the largest of these
    /// from the start, for each lock.
    Release { data: Box<DataChange>, delete: bool },
    /// A heartbeat now.
    Beat(Box<Beat>),
}

/// A heartbeat off the schedule.
#[derive(Default)]
pub(crate) struct Beat {
    /// Goes on being set until a heartbeat that carries it has come through.
    pub(crate) data: Option<DataChange>,
    /// The timing from here on.
    pub(crate) timing: Option<Timing>,
    /// Told when it has come through, or not.
    pub(crate) done: Option<oneshot::Sender<Result<(), Error>>>,
}

/// What the record holds besides the lock, as far as the holder knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    pub(crate) data: Option<Vec<u8>>,
    pub(crate) attributes: BTreeMap<String, AttributeValue>,
    /// The text of the record: who the lock is shared with.
    pub(crate) text: Option<DurationText>,
}

/// What all handles of one acquisition share. When the last one goes, the lock is released.
pub(crate) struct Shared {
    pub(super) key: Key,
    pub(super) cell: Arc<LeaseCell>,
    pub(super) control: mpsc::UnboundedSender<Control>,
    pub(super) content: Arc<Mutex<Content>>,
    pub(super) fencing: Fencing,
    /// Whether the record that was taken over vouches for the token.
    pub(super) vouched: bool,
    pub(super) timing: Timing,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("key", &self.key).field("cell", &self.cell).finish_non_exhaustive()
    }
}

/// A held lock. Exactly this acquisition: a handle of an earlier one can't touch it.
///
/// # Note: drop behaviour
///
/// Dropping it releases the lock in the background, as a best effort: never blocks, never panics, also
/// outside a runtime. Await [`release`](Self::release) to know the outcome.
#[must_use = "dropping a lock releases it"]
pub struct Lock {
    shared: Arc<Shared>,
    /// Held: while a lock exists so does the keeper that renews it.
    _keeper: Option<Arc<Keeper>>,
}

impl Lock {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, _keeper: None }
    }

    pub(super) fn kept_by(self, keeper: &Arc<Keeper>) -> Self {
        Self { _keeper: Some(Arc::clone(keeper)), ..self }
    }

    /// The key.
    pub fn key(&self) -> &Key {
        &self.shared.key
    }

    /// Whether this process may still act: one clock read, no lock, no I/O, no timer involved.
    pub fn is_valid(&self) -> bool {
        self.shared.cell.is_valid()
    }

    /// How long it stays valid if no further heartbeat comes through.
    pub fn remaining(&self) -> Duration {
        self.shared.cell.remaining()
    }

    /// Checks that it stays valid for at least `duration`, whatever happens to the network.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotHeld`] if it does not, or if it is ending.
    pub fn ensure(&self, duration: Duration) -> Result<(), Error> {
        if self.shared.cell.lasts(duration) { Ok(()) } else { Err(not_held()) }
    }

    /// How long it has been held.
    pub fn held_for(&self) -> Duration {
        self.shared.cell.held_for()
    }

    /// The number of this acquisition: larger than that of every one before it. Send it with every effect.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoFencing`] where no number can keep rising: see [`Fencing`].
    pub fn fencing_token(&self) -> Result<u64, Error> {
        let text = self.content().text.unwrap_or(DurationText::Go);
        match obstacle(self.shared.fencing, text, self.shared.vouched) {
            Some(error) => Err(error),
            None => Ok(self.shared.cell.token()),
        }
    }

    /// What data the record has, as far as this holder knows: as it was acquired, and as heartbeats that came
    /// through have changed it.
    pub fn data(&self) -> Option<Vec<u8>> {
        self.content().data.clone()
    }

    /// The additional attributes that the record had when it was acquired.
    pub fn attributes(&self) -> BTreeMap<String, AttributeValue> {
        self.content().attributes.clone()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.shared.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fires when the lock has ended: its deadline has passed, it was taken over, or it is being released.
    pub fn lost(&self) -> &CancellationToken {
        self.shared.cell.cancelled()
    }

    /// Whether the last heartbeat did not come through.
    pub fn is_at_risk(&self) -> bool {
        self.shared.cell.is_at_risk()
    }

    /// Waits until a heartbeat is missed, or the end.
    ///
    /// # Cancel safety
    ///
    /// Waits only; nothing is lost.
    pub async fn at_risk(&self) {
        self.shared.cell.at_risk().await;
    }

    /// Why it ended, once it has.
    pub fn end_reason(&self) -> Option<EndReason> {
        self.shared.cell.reason()
    }

    /// Runs `work` until it ends or the lock does, whichever is first. Work is dropped when the token fires, and the
    /// release waits for that, 5 seconds at most.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotHeld`] when the lock ended first.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `work`.
    pub async fn guard<F: Future>(&self, work: F) -> Result<F::Output, Error> {
        self.shared.cell.guard(work).await.ok_or_else(not_held)
    }

    /// A heartbeat now, besides the scheduled ones; the only ones where heartbeats are
    /// [off](crate::LockClientBuilder::without_heartbeats).
    ///
    /// # Errors
    ///
    /// When awaited: [`ErrorKind::NotHeld`] if the lock has ended, [`ErrorKind::InvalidInput`] for data that does not fit,
    /// which is then given up; otherwise what kept the heartbeat from coming through. The lock may still be valid
    /// then; unless heartbeats are off, more are on their way, with the data that was asked for.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the heartbeat goes on without its future.
    pub fn heartbeat(&self) -> Heartbeat<'_> {
        Heartbeat { lock: self, data: None }
    }

    /// Changes the lease of this lock, from now on and until it ends: with a heartbeat now. A longer lease counts once
    /// that came through, a shorter one from its send.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for a lease that the heartbeat period and the clocks don't allow (nothing is changed
    /// then), else as [`heartbeat`](Self::heartbeat): further heartbeats carry the new lease all the same.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the heartbeat goes on without its future.
    pub async fn extend(&self, lease: Duration) -> Result<(), Error> {
        let timing = self.shared.timing.with_lease(lease).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, format!("the lease can't be {lease:?}: {error}")).with_source(error)
        })?;
        self.beat(Beat { timing: Some(timing), ..Beat::default() }).await
    }

    async fn beat(&self, beat: Beat) -> Result<(), Error> {
        let (done, result) = oneshot::channel();
        self.shared.control.send(Control::Beat(Box::new(Beat { done: Some(done), ..beat }))).map_err(|_| not_held())?;
        result.await.unwrap_or_else(|_| Err(not_held()))
    }

    /// Releases the lock and waits for the outcome, until the lease is over at the longest.
    ///
    /// # Errors
    ///
    /// When awaited: for settings of the release that can't work, [`ErrorKind::InvalidInput`] or [`ErrorKind::NoFencing`]. The
    /// lock is then released without them, as by a drop. Data that only the table can refuse, together with what else is in the
    /// record, is left out of the release.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is polled, it releases as a drop does. Once polled, the release goes on without its future.
    pub fn release(self) -> Release {
        Release { lock: self, data: DataChange::Keep, delete: false }
    }

    pub(crate) fn resign(&self, reason: EndReason) {
        // The task has ended if nobody listens: nothing is left to release.
        let _ = self.shared.control.send(Control::Resign(reason));
    }

    pub(crate) fn set_data(&self, data: Option<Vec<u8>>) {
        let data = Some(data.map_or(DataChange::Clear, DataChange::Set));
        let _ = self.shared.control.send(Control::Beat(Box::new(Beat { data, ..Beat::default() })));
    }

    pub(crate) fn cell(&self) -> &Arc<LeaseCell> {
        &self.shared.cell
    }
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock").field("key", &self.shared.key).field("cell", &self.shared.cell).finish_non_exhaustive()
    }
}

pub(super) fn not_held() -> Error {
    Error::new(ErrorKind::NotHeld, "the lock is not held any more: acquire it again")
}

type Boxed<'a, T> = StdPin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A pending [`Lock::heartbeat`]; await it.
#[derive(Debug)]
#[must_use = "a heartbeat does nothing until it is awaited"]
pub struct Heartbeat<'a> {
    lock: &'a Lock,
    data: Option<DataChange>,
}

impl Heartbeat<'_> {
    /// Replaces the record's data.
    pub fn replace_data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = Some(DataChange::Set(data.into()));
        self
    }

    /// Deletes the record's data.
    pub fn delete_data(mut self) -> Self {
        self.data = Some(DataChange::Clear);
        self
    }
}

impl<'a> IntoFuture for Heartbeat<'a> {
    type Output = Result<(), Error>;
    type IntoFuture = Boxed<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.data.as_ref().map_or(Ok(()), check_data)?;
            self.lock.beat(Beat { data: self.data, ..Beat::default() }).await
        })
    }
}

/// A pending [`Lock::release`]; await it.
#[derive(Debug)]
#[must_use = "await the release to know its outcome"]
pub struct Release {
    lock: Lock,
    data: DataChange,
    delete: bool,
}

impl Release {
    /// Leaves this data in the released record.
    pub fn data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = DataChange::Set(data.into());
        self
    }

    /// Takes the data out of the released record. Default: it stays.
    pub fn clear_data(mut self) -> Self {
        self.data = DataChange::Clear;
        self
    }

    /// Deletes the record instead of marking it released. Only with [`Fencing::Off`]: a deleted record forgets its token.
    pub fn delete(mut self) -> Self {
        self.delete = true;
        self
    }

    fn check(&self) -> Result<(), Error> {
        if self.delete && self.lock.shared.fencing != Fencing::Off {
            return Err(no_tokens(
                "a deleted record forgets its token; delete on release only with fencing(Fencing::Off)",
            ));
        }
        check_data(&self.data)
    }
}

impl IntoFuture for Release {
    type Output = Result<ReleaseOutcome, Error>;
    type IntoFuture = Boxed<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.check()?;
            let Self { lock, data, delete } = self;
            let Lock { shared, _keeper } = lock;
            // Exactly one of several handles that go at the same time is the last.
            let Some(shared) = Arc::into_inner(shared) else { return Ok(ReleaseOutcome::StillHeld) };
            let _ = shared.control.send(Control::Release { data: Box::new(data), delete });
            Ok(shared.cell.outcome().await)
        })
    }
}
