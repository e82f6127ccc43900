//! Signs of life from where the work runs.
//!
//! Renewals run apart from user code (R10), so a process whose own runtime is wedged would lead for ever. The beacon
//! beats in the very task that polls the work; its age is measured here, on the keeper's side.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::protocol::Moment;

/// How often it beats: fine enough for a silence of two seconds, and next to nothing for hundreds of them.
pub(crate) const BEAT: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Beacon {
    clock: Clock,
    last: AtomicU64,
    /// Whoever beats. One that is about to end may overlap with the next.
    beating: AtomicUsize,
}

impl Beacon {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, last: AtomicU64::new(0), beating: AtomicUsize::new(0) }
    }

    /// Beats here and now, and then for as long as what is returned is polled: what blocks its thread before that is
    /// silent, too. Only on a tokio runtime; anywhere else there is nothing to measure.
    pub(crate) fn beat(self: &Arc<Self>) -> impl Future<Output = std::convert::Infallible> + Send + use<> {
        let beating = tokio::runtime::Handle::try_current().is_ok().then(|| Beating::begin(Arc::clone(self)));
        async move {
            let Some(Beating(beacon)) = &beating else { return std::future::pending().await };
            loop {
                beacon.note();
                tokio::time::sleep(BEAT).await;
            }
        }
    }

    fn note(&self) {
        self.last.store(self.clock.now().nanos(), Ordering::Release);
    }

    /// `None` while nothing is under way that could beat.
    pub(crate) fn last(&self) -> Option<Moment> {
        (self.beating.load(Ordering::Acquire) > 0).then(|| Moment::from_nanos(self.last.load(Ordering::Acquire)))
    }

    /// How long ago it beat; `None` while nothing is under way.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.last().map(|last| self.clock.now().since(last))
    }
}

/// Somebody beats. Dropped, it has stopped on purpose: no silence to be alarmed at.
struct Beating(Arc<Beacon>);

impl Beating {
    fn begin(beacon: Arc<Beacon>) -> Self {
        // In this order: nobody finds it beating with an old beat.
        beacon.note();
        beacon.beating.fetch_add(1, Ordering::AcqRel);
        Self(beacon)
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.beating.fetch_sub(1, Ordering::AcqRel);
    }
}
