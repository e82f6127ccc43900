//! Callbacks: what users write, as a trait and as closures.

use std::future::Future;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::Leadership;
use crate::ending::{EndReason, ReleaseOutcome};
use crate::error::BoxError;
use crate::status::LeaderInfo;

/// What work ends with.
pub type WorkResult = Result<(), BoxError>;

/// A service that is told when it leads and when it no longer does: in pairs, in order, on one task.
///
/// # Examples
///
/// ```
/// use dynamo_elector::{Leadership, Service, TermEnded, WorkResult};
///
/// struct CacheWarmer;
///
/// impl Service for CacheWarmer {
///     async fn on_elected(&mut self, leadership: Leadership) -> WorkResult {
///         leadership.cancelled().await; // or: warm up, and return
///         Ok(())
///     }
///     async fn on_demoted(&mut self, term: TermEnded) {
///         println!("no longer leading: {} after {:?}", term.reason, term.held);
///     }
/// }
/// ```
pub trait Service: Send + 'static {
    /// This process leads. The token of `leadership` fires when it must stop, and the release waits until this has returned
    /// or was dropped at its bound, as for the work of [`Elector::run`](crate::Elector::run).
    ///
    /// Returning `Ok` does *not* end the term, nor does dropping `leadership`: a short warm-up must not rotate leaders for ever.
    /// The term lasts until it is lost, or given up by [`Leadership::resign`] or [`Elector::hand_over`](crate::Elector::hand_over), which wait
    /// for this to return: await them elsewhere.
    ///
    /// # Errors
    ///
    /// An error, or a panic, ends the term as `work_failed`; after a pause that doubles each time it campaigns again. One of
    /// [`NotHeld`](crate::ErrorKind::NotHeld) after the token has fired, such as a guard returns, is no failure.
    fn on_elected(&mut self, leadership: Leadership) -> impl Future<Output = WorkResult> + Send;

    /// The term is over, and what became of its release is known: another process may already lead, so cleaning up that must
    /// come before belongs at the end of [`on_elected`](Self::on_elected). Called exactly once for each `on_elected`,
    /// also when that failed or was dropped. What takes longer than the drain timeout is dropped, since this process takes
    /// no part in the election meanwhile. The status shows the release after it.
    fn on_demoted(&mut self, term: TermEnded) -> impl Future<Output = ()> + Send {
        let _ = term;
        std::future::ready(())
    }
}

/// A term that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TermEnded {
    /// Its number.
    pub fencing_token: u64,
    /// Why it ended.
    pub reason: EndReason,
    /// What became of the release.
    pub outcome: ReleaseOutcome,
    /// From the election to the end of the release.
    #[cfg_attr(feature = "serde", serde(rename = "held_ms", serialize_with = "crate::status::serial::millis"))]
    pub held: Duration,
}

type ElectedCallback = Box<dyn FnMut(Leadership) -> BoxFuture<'static, WorkResult> + Send>;
type DemotedCallback = Box<dyn FnMut(TermEnded) -> BoxFuture<'static, ()> + Send>;
pub(super) type LeaderCallback = Box<dyn FnMut(Option<LeaderInfo>) -> BoxFuture<'static, ()> + Send>;

/// The closures of a builder, as a service.
#[derive(Default)]
pub(super) struct Callbacks {
    elected: Option<ElectedCallback>,
    demoted: Option<DemotedCallback>,
}

impl Callbacks {
    pub(super) fn is_empty(&self) -> bool {
        self.elected.is_none() && self.demoted.is_none()
    }

    pub(super) fn on_elected<F, Fut>(&mut self, mut callback: F)
    where
        F: FnMut(Leadership) -> Fut + Send + 'static,
        Fut: Future<Output = WorkResult> + Send + 'static,
    {
        self.elected = Some(Box::new(move |leadership| callback(leadership).boxed()));
    }

    pub(super) fn on_demoted<F, Fut>(&mut self, mut callback: F)
    where
        F: FnMut(TermEnded) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.demoted = Some(Box::new(move |term| callback(term).boxed()));
    }
}

impl Service for Callbacks {
    async fn on_elected(&mut self, leadership: Leadership) -> WorkResult {
        match &mut self.elected {
            Some(callback) => callback(leadership).await,
            None => Ok(()),
        }
    }

    async fn on_demoted(&mut self, term: TermEnded) {
        if let Some(callback) = &mut self.demoted {
            callback(term).await;
        }
    }
}
