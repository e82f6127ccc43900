//! What everybody concerned with a term shares, from the moment at which the keeper has won it, without keeping it alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::fence::Fence;
use crate::ending::EndReason;
use crate::lock::{Acquired, Control, LeaseCell, Lock};

/// One term, seen from the side.
#[derive(Clone)]
pub(crate) struct TermControl {
    shared: Arc<Shared>,
}

struct Shared {
    cell: Arc<LeaseCell>,
    /// Weak: when the last handle of the lock goes, the keeper must notice.
    control: mpsc::WeakUnboundedSender<Control>,
    fence: Fence,
    leadership_exists: AtomicBool,
    /// Under `run` and a service the lock outlives its leadership, until the work has ended and its reason is known.
    kept: Mutex<Option<Lock>>,
}

impl TermControl {
    pub(super) fn new(acquired: &Acquired<'_>) -> Self {
        Self {
            shared: Arc::new(Shared {
                cell: Arc::clone(acquired.cell),
                control: acquired.control.clone(),
                fence: Fence::new(acquired.cell.token(), acquired.fence_check.clone()),
                leadership_exists: AtomicBool::new(false),
                kept: Mutex::new(None),
            }),
        }
    }

    pub(crate) fn cell(&self) -> &Arc<LeaseCell> {
        &self.shared.cell
    }

    pub(crate) fn fence(&self) -> Fence {
        self.shared.fence.clone()
    }

    pub(super) fn resign(&self, reason: EndReason) {
        if let Some(control) = self.shared.control.upgrade() {
            // The task has ended if nobody listens: nothing is left to release.
            let _ = control.send(Control::Resign(reason));
        }
        // Whoever goes by plan holds it until then.
        if !reason.can_wait() {
            drop(self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    pub(crate) fn keep(&self, lock: Lock) {
        *self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
    }

    pub(crate) fn set_leadership_exists(&self, exists: bool) {
        self.shared.leadership_exists.store(exists, Ordering::Release);
    }

    pub(super) fn leadership_exists(&self) -> bool {
        self.shared.leadership_exists.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for TermControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TermControl").field("token", &self.cell().token()).finish_non_exhaustive()
    }
}
