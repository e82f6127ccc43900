//! The acquisition that users build up and await.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;

use super::LockClient;
use super::handle::Lock;
use super::monitor::{Callback, Monitor};
use super::request::{Creation, Patience, Reentry, Request};
use super::watch::LockWatch;
use crate::error::{Error, ErrorKind};
use crate::store::{DataChange, Key};

/// A pending [`LockClient::acquire`]; await it.
#[must_use = "an acquisition does nothing until it is awaited"]
pub struct Acquire {
    locks: LockClient,
    wait: Option<Duration>,
    request: Request,
    callback: Option<Callback>,
    safe_time: Option<Duration>,
}

impl Acquire {
    pub(super) fn new(locks: LockClient, key: Key) -> Self {
        let request = Request::new(key, Patience::Unlimited);
        Self { locks, wait: None, request, callback: None, safe_time: None }
    }

    /// Gives up with [`ErrorKind::WaitOver`] after this long; zero is one look without waiting. Default: waits for ever.
    pub fn wait_up_to(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// How often the record is read while waiting. Default: [`Timing::poll`](crate::Timing::poll). The
    /// take-over of an expired lock has a timer of its own and does not wait for the next read.
    pub fn refresh_every(mut self, period: Duration) -> Self {
        self.request.refresh = Some(period);
        self
    }

    /// Stores this with the lock. Default: whatever data the record has is kept.
    pub fn data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.request.data = DataChange::Set(data.into());
        self
    }

    /// Deletes whatever data the record has.
    pub fn clear_data(mut self) -> Self {
        self.request.data = DataChange::Clear;
        self
    }

    /// Sets an additional attribute of the record. Whatever others it has are kept, and this one too, by
    /// everybody after this holder.
    pub fn attribute(mut self, name: impl Into<String>, value: AttributeValue) -> Self {
        let name = name.into();
        self.request.attributes.retain(|(other, _)| *other != name);
        self.request.attributes.push((name, value));
        self
    }

    /// Hands out the same lock once more if this client holds it already, data and attributes unchanged. It is released when
    /// its last handle is. Without this setting a client waits for itself.
    pub fn reentrant(mut self) -> Self {
        self.request.reentry = Reentry::Allowed;
        self
    }

    /// Creates no record: [`ErrorKind::NoRecord`] if there is none, or if it vanishes meanwhile.
    pub fn only_if_exists(mut self) -> Self {
        self.request.creation = Creation::Refused;
        self
    }

    /// Calls `callback` once when the lock is about to end for want of heartbeats, [`safe_time`](Self::safe_time) before its
    /// deadline: late rather than never, for this very acquisition alone, and not at all if it is released in time. It runs
    /// as a task of the tokio runtime in which the acquisition is awaited.
    pub fn session_monitor(mut self, callback: impl FnOnce() + Send + 'static) -> Self {
        self.callback = Some(Box::new(callback));
        self
    }

    /// How long before the deadline the [`session_monitor`](Self::session_monitor) is due: at most
    /// [`Timing::max_safe_time`](crate::Timing::max_safe_time), so that it never fires while renewals come through
    /// on schedule. Default: half of that.
    pub fn safe_time(mut self, time: Duration) -> Self {
        self.safe_time = Some(time);
        self
    }

    /// Takes the lock if it is free now, with all these settings but the time to wait: see [`LockClient::try_acquire`].
    ///
    /// # Errors
    ///
    /// Whatever kept it from finding out; the settings' own, as when awaited.
    ///
    /// # Cancel safety
    ///
    /// As [`LockClient::acquire`].
    pub async fn try_now(mut self) -> Result<Option<Lock>, Error> {
        self.request.patience = Patience::Try;
        self.send().await
    }

    async fn send(self) -> Result<Option<Lock>, Error> {
        let Self { locks, mut request, callback, safe_time, .. } = self;
        let context = locks.context();
        request.key = context.store.key(request.key)?;
        context.store.check_content(&request.data, &request.attributes)?;
        let timing = context.settings.timing;
        if let Some(period) = request.refresh.filter(|period| *period < MIN_REFRESH || *period > timing.lease()) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "the record can't be read every {period:?}: choose between 1ms and the lease, {:?}",
                    timing.lease()
                ),
            ));
        }
        request.watcher = Arc::new(LockWatch::new(&request.key, context.telemetry.clone()));
        let armed = callback.map(|callback| Monitor { callback, safe_time }.arm(timing)).transpose()?;
        let lock = locks.request(request).await?;
        if let (Some(armed), Some(lock)) = (armed, &lock) {
            armed.watch(lock.cell());
        }
        Ok(lock)
    }
}

const MIN_REFRESH: Duration = Duration::from_millis(1);

impl IntoFuture for Acquire {
    type Output = Result<Lock, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move {
            let now = self.locks.context().clock.now();
            self.request.patience = match self.wait {
                None => Patience::Unlimited,
                Some(Duration::ZERO) => Patience::Try,
                Some(wait) => Patience::Until(now.after(wait)),
            };
            self.send().await?.ok_or_else(|| Error::new(ErrorKind::WaitOver, "the lock is held by somebody else"))
        })
    }
}

impl std::fmt::Debug for Acquire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acquire").field("key", &self.request.key).field("wait", &self.wait).finish_non_exhaustive()
    }
}
