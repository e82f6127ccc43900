//! What is asked of the keeper, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use super::context::Watcher;
use super::{Held, Lock};
use crate::error::Error;
use crate::protocol::Moment;
use crate::store::{DataChange, LockKey};

/// How long an acquisition waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// One look, no waiting.
    Try,
    /// Until this moment.
    Until(Moment),
    /// For ever; an error that only a human can mend ends it.
    Unlimited,
    /// For ever, whatever happens: an elector outlives every error of the store.
    Election,
}

/// What is asked for.
pub(crate) struct Request {
    pub(crate) key: LockKey,
    pub(crate) patience: Patience,
    pub(crate) data: DataChange,
    pub(crate) first_miss_ends: bool,
    pub(crate) drain: Duration,
    pub(crate) watcher: Arc<dyn Watcher>,
}

/// `Ok(None)` only for [`Patience::Try`].
pub(crate) type Answer = Result<Option<Lock>, Error>;

impl From<Held> for Answer {
    fn from(held: Held) -> Self {
        Ok(Some(Lock::new(held)))
    }
}
