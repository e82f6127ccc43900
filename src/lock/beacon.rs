//! Signs of life from where the work runs.
//!
//! Renewals run apart from user code (R10), so a process whose own runtime is wedged would lead for ever. The beacon
//! beats in the very task that polls the work; its age is measured here, on the keeper's side.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::protocol::Moment;

/// How often it beats: fine enough for a silence of two seconds, and next to nothing for hundreds of them.
pub(crate) const BEAT: Duration = Duration::from_millis(500);

/// No work is under way that could beat.
const RESTING: u64 = 0;

#[derive(Debug)]
pub(crate) struct Beacon {
    clock: Clock,
    last: AtomicU64,
}

impl Beacon {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, last: AtomicU64::new(RESTING) }
    }

    /// Beats for as long as it is polled, on a tokio runtime; anywhere else there is nothing to measure.
    pub(crate) async fn beat(&self) -> std::convert::Infallible {
        if tokio::runtime::Handle::try_current().is_err() {
            return std::future::pending().await;
        }
        let _resting = Rest(self);
        loop {
            self.last.store(self.clock.now().nanos(), Ordering::Release);
            tokio::time::sleep(BEAT).await;
        }
    }

    pub(crate) fn last(&self) -> Option<Moment> {
        let last = self.last.load(Ordering::Acquire);
        (last != RESTING).then(|| Moment::from_nanos(last))
    }

    /// How long ago it beat; `None` while nothing is under way.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.last().map(|last| self.clock.now().since(last))
    }
}

/// Whoever beat has stopped on purpose: no silence to be alarmed at.
struct Rest<'a>(&'a Beacon);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.last.store(RESTING, Ordering::Release);
    }
}
