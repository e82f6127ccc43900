//! What is asked of the keeper, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::context::{Unwatched, Watcher};
use super::handle::Lock;
use super::limits::Limits;
use crate::error::Error;
use crate::protocol::{Moment, Restraint};
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

/// Whether what is free is claimed.
#[derive(Debug, Clone)]
pub(crate) enum Candidacy {
    Open,
    /// Not while this says `true`.
    Pausable(watch::Receiver<bool>),
    /// Never: an observer.
    Never,
}

impl Candidacy {
    pub(super) fn is_paused(&self) -> bool {
        match self {
            Self::Open => false,
            Self::Pausable(paused) => *paused.borrow(),
            Self::Never => true,
        }
    }

    /// Waits until it may have changed.
    pub(super) async fn changed(&mut self) {
        if let Self::Pausable(paused) = self
            && paused.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

/// What to do with work that has not stopped at its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// No release: the lease runs out by itself.
    LetExpire,
    /// The process ends, here and now.
    EndProcess,
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
    /// How long a planned end may wait for others to have read of it, at most.
    pub(crate) notice: Duration,
    pub(crate) candidacy: Candidacy,
    pub(crate) restraint: Restraint,
    pub(crate) limits: Limits,
    pub(crate) stuck: Stuck,
    /// Fires when nobody wants it any more, though somebody may still wait for the answer.
    pub(crate) given_up: CancellationToken,
    /// Fires when nothing of this request is left: no claim under way, no lease, no release.
    pub(crate) _over: Option<DropGuard>,
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
            notice: Duration::ZERO,
            candidacy: Candidacy::Open,
            restraint: Restraint::default(),
            limits: Limits::default(),
            stuck: Stuck::LetExpire,
            given_up: CancellationToken::new(),
            _over: None,
            watcher: Arc::new(Unwatched),
        }
    }
}

/// An answer on its way.
pub(crate) type Pending = oneshot::Receiver<Answer>;

/// `Ok(None)` only for [`Patience::Try`].
pub(crate) type Answer = Result<Option<Lock>, Error>;
