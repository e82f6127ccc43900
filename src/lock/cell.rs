//! What the keeper and the handles of one lock share: the deadline, the tokens, the pins.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::deadline::Deadline;
use crate::clock::Clock;
use crate::ending::{EndReason, ReleaseOutcome};
use crate::protocol::Moment;

/// The shared state of one acquisition. The keeper writes it; handles read it without a lock (R9).
#[derive(Debug)]
pub(crate) struct LeaseCell {
    clock: Clock,
    /// One atomic number; what is over stays over (R8).
    deadline: Deadline,
    hard_deadline: AtomicU64,
    cancelled: CancellationToken,
    at_risk: watch::Sender<bool>,
    reason: OnceLock<EndReason>,
    pins: AtomicUsize,
    unpinned: Notify,
    lowered: Notify,
    outcome: watch::Sender<Option<ReleaseOutcome>>,
    since: Moment,
    finished: OnceLock<Moment>,
    token: u64,
}

impl LeaseCell {
    pub(crate) fn new(clock: Clock, token: u64, held_until: Moment) -> Self {
        Self {
            clock,
            deadline: Deadline::new(held_until),
            hard_deadline: AtomicU64::new(held_until.nanos()),
            cancelled: CancellationToken::new(),
            at_risk: watch::Sender::new(false),
            reason: OnceLock::new(),
            pins: AtomicUsize::new(0),
            unpinned: Notify::new(),
            lowered: Notify::new(),
            outcome: watch::Sender::new(None),
            since: clock.now(),
            finished: OnceLock::new(),
            token,
        }
    }

    /// Reads the clock here and now. Depends on no timer, no lock and no network.
    pub(crate) fn is_valid(&self) -> bool {
        self.clock.now() < self.deadline.until()
    }

    pub(crate) fn remaining(&self) -> Duration {
        self.deadline.until().since(self.clock.now())
    }

    /// Whether it stays valid for `duration` whatever happens to the network, and is not ending.
    pub(crate) fn lasts(&self, duration: Duration) -> bool {
        !self.cancelled.is_cancelled() && self.remaining() >= duration && self.is_valid()
    }

    /// Runs `work` until it ends or the token fires, which drops it. Meanwhile nothing is released (I5).
    pub(crate) async fn guard<F: Future>(self: &std::sync::Arc<Self>, work: F) -> Option<F::Output> {
        let _pin = Pin::new(self);
        tokio::select! { biased;
            () = self.cancelled.cancelled() => None,
            output = work => Some(output),
        }
    }

    /// Moves the deadline; `None` ends it for good. Called by the keeper after every answer.
    pub(crate) fn publish(&self, held_until: Option<Moment>, hard_deadline: Option<Moment>) {
        if let Some(hard) = hard_deadline {
            self.hard_deadline.store(hard.nanos(), Ordering::Release);
        }
        if self.deadline.publish(held_until) {
            self.lowered.notify_waiters();
        }
    }

    /// Ends it: validity first where it was lost by force, then the token, so that whoever the token
    /// wakes finds `is_valid` false. A voluntary end leaves validity to the drain (R7).
    pub(crate) fn end(&self, reason: EndReason) {
        if reason.is_forced() {
            self.deadline.end();
        }
        // The first reason stands. (A drain that then misses its deadline was still asked for.)
        let _ = self.reason.set(reason);
        self.cancelled.cancel();
    }

    pub(crate) fn finish(&self, outcome: ReleaseOutcome) {
        self.deadline.end();
        let _ = self.finished.set(self.clock.now());
        self.outcome.send_replace(Some(outcome));
    }

    pub(crate) fn set_at_risk(&self, at_risk: bool) {
        self.at_risk.send_if_modified(|now| std::mem::replace(now, at_risk) != at_risk);
    }

    pub(crate) fn is_at_risk(&self) -> bool {
        *self.at_risk.borrow()
    }

    /// Waits until a heartbeat has been missed, or the end.
    pub(crate) async fn at_risk(&self) {
        let mut changes = self.at_risk.subscribe();
        tokio::select! { biased;
            () = self.cancelled.cancelled() => {}
            _ = changes.wait_for(|at_risk| *at_risk) => {}
        }
    }

    /// Waits for the outcome of the release.
    pub(crate) async fn outcome(&self) -> ReleaseOutcome {
        let mut changes = self.outcome.subscribe();
        let outcome = changes.wait_for(Option::is_some).await.ok().and_then(|outcome| *outcome);
        outcome.unwrap_or(ReleaseOutcome::Unknown)
    }

    pub(crate) fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    pub(crate) fn reason(&self) -> Option<EndReason> {
        self.reason.get().copied()
    }

    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    pub(crate) fn since(&self) -> Moment {
        self.since
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    /// When its release was over.
    pub(crate) fn finished_at(&self) -> Option<Moment> {
        self.finished.get().copied()
    }

    pub(crate) fn held_for(&self) -> Duration {
        self.clock.now().since(self.since)
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    pub(crate) fn hard_deadline(&self) -> Moment {
        Moment::from_nanos(self.hard_deadline.load(Ordering::Acquire))
    }

    /// Whether work is still counted in: no release while it is (I5).
    pub(crate) fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Acquire) > 0
    }

    /// Waits until the deadline has come forward: a shorter lease. Make it before asking for [`Self::remaining`].
    pub(crate) fn lowered(&self) -> tokio::sync::futures::Notified<'_> {
        self.lowered.notified()
    }

    /// Waits until the last pin may have gone. Register before checking [`Self::is_pinned`].
    pub(crate) fn unpinned(&self) -> tokio::sync::futures::Notified<'_> {
        self.unpinned.notified()
    }
}

/// Work under way. While one exists nothing is released, within the bounds of R7.
#[derive(Debug)]
pub(crate) struct Pin(std::sync::Arc<LeaseCell>);

impl Pin {
    pub(crate) fn new(cell: &std::sync::Arc<LeaseCell>) -> Self {
        cell.pins.fetch_add(1, Ordering::AcqRel);
        Self(std::sync::Arc::clone(cell))
    }
}

impl Clone for Pin {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if self.0.pins.fetch_sub(1, Ordering::AcqRel) == 1 {
            // `notify_one` keeps a permit: the keeper, its only waiter, can't miss it.
            self.0.unpinned.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(millis: u64) -> LeaseCell {
        let clock = Clock::System;
        LeaseCell::new(clock, 1, clock.now().after(Duration::from_millis(millis)))
    }

    #[test]
    fn a_deadline_that_is_over_is_never_stored_again() {
        let cell = cell(60_000);
        assert!(cell.is_valid());
        cell.end(EndReason::Deadline);
        cell.publish(Some(cell.clock().now().after(Duration::from_secs(60))), None);
        assert!(!cell.is_valid());
        assert_eq!(cell.remaining(), Duration::ZERO);
    }

    #[test]
    fn validity_ends_by_the_clock_alone() {
        let cell = cell(5);
        std::thread::sleep(Duration::from_millis(10));
        assert!(!cell.is_valid());
        assert!(!cell.cancelled().is_cancelled(), "no timer has fired, and none was needed");
    }

    #[test]
    fn a_voluntary_end_cancels_but_stays_valid_for_last_writes() {
        let cell = cell(60_000);
        cell.end(EndReason::Resigned);
        assert!(cell.is_valid() && cell.cancelled().is_cancelled());
        cell.end(EndReason::Deadline);
        assert!(!cell.is_valid());
        assert_eq!(cell.reason(), Some(EndReason::Resigned));
    }
}
