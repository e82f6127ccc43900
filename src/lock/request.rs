//! What is asked of the keeper, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;

use super::context::{Unwatched, Watcher};
use super::handle::Lock;
use crate::error::Error;
use crate::protocol::Moment;
use crate::store::{DataChange, Key};

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

/// Whether a lock that this client holds already is handed out once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reentry {
    Refused,
    Allowed,
}

/// Whether a record that does not exist is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Creation {
    Allowed,
    Refused,
}

/// What is asked for.
pub(crate) struct Request {
    pub(crate) key: Key,
    pub(crate) patience: Patience,
    pub(crate) data: DataChange,
    pub(crate) attributes: Vec<(String, AttributeValue)>,
    pub(crate) reentry: Reentry,
    pub(crate) creation: Creation,
    /// How often the record is read while waiting; `None`: as the timing says.
    pub(crate) refresh: Option<Duration>,
    pub(crate) first_miss_ends: bool,
    pub(crate) drain: Duration,
    pub(crate) watcher: Arc<dyn Watcher>,
}

/// How long work under a lock's [`guard`](Lock::guard) may wind down when the lock is given up: as for leaders.
const DRAIN: Duration = Duration::from_secs(5);

impl Request {
    /// A plain acquisition; whoever wants more changes it.
    pub(crate) fn new(key: Key, patience: Patience) -> Self {
        Self {
            key,
            patience,
            data: DataChange::Keep,
            attributes: Vec::new(),
            reentry: Reentry::Refused,
            creation: Creation::Allowed,
            refresh: None,
            first_miss_ends: false,
            drain: DRAIN,
            watcher: Arc::new(Unwatched),
        }
    }
}

/// `Ok(None)` only for [`Patience::Try`].
pub(crate) type Answer = Result<Option<Lock>, Error>;
