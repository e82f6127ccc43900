//! The deadline of a lease: one atomic number, read without a lock (R8, R9).
//!
//! The atomics are those of the module above: the tests of every interleaving bring their own.

use super::atomic::{AtomicU64, Ordering};
use crate::protocol::Moment;
use crate::protocol::mutant::{self, Mutant};

/// The deadline that means: over, for good (R8).
const OVER: u64 = 0;

/// Until when a lease may be believed in. [`OVER`] is final; everything else is stored by compare-exchange only, or a
/// renewal's reply on the keeper could revive what ended meanwhile (R8).
#[derive(Debug)]
pub(crate) struct Deadline(AtomicU64);

impl Deadline {
    pub(crate) fn new(until: Moment) -> Self {
        Self(AtomicU64::new(until.nanos()))
    }

    /// The clock's origin, which is long past, once it is over.
    pub(crate) fn until(&self) -> Moment {
        Moment::from_nanos(self.0.load(Ordering::Acquire))
    }

    /// Moves it; `None` ends it for good. Whether it has come forward to an earlier moment: a shorter lease.
    pub(crate) fn publish(&self, until: Option<Moment>) -> bool {
        let Some(until) = until else {
            self.end();
            return false;
        };
        let mut current = self.0.load(Ordering::Acquire);
        if mutant::on(Mutant::EndOverwritten) {
            self.0.store(until.nanos(), Ordering::Release);
            return until.nanos() < current;
        }
        // R8: never from OVER to anything.
        while current != OVER && current != until.nanos() {
            match self.0.compare_exchange(current, until.nanos(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return until.nanos() < current,
                Err(actual) => current = actual,
            }
        }
        false
    }

    /// Ends it for good. A swap, although nobody asks what it was: so every change reads what it replaces, and all of
    /// them are in one order (a plain store is too, but the model that tests it does not know that).
    pub(crate) fn end(&self) {
        self.0.swap(OVER, Ordering::AcqRel);
    }
}
