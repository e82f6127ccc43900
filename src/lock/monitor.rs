//! The session monitor: a callback while there is still time to act.

use std::sync::Arc;
use std::time::Duration;

use super::cell::LeaseCell;
use super::runtime::current_runtime;
use crate::ending::EndReason;
use crate::error::{Error, ErrorKind};
use crate::timing::Timing;

pub(crate) type Callback = Box<dyn FnOnce() + Send>;

/// A callback, and how long before the end it is due.
pub(super) struct Monitor {
    pub(super) callback: Callback,
    pub(super) safe_time: Option<Duration>,
}

/// A monitor that is checked and ready.
pub(super) struct Armed {
    callback: Callback,
    safe_time: Duration,
    runtime: tokio::runtime::Handle,
}

impl Monitor {
    /// Checks it before anything is acquired.
    pub(super) fn arm(self, timing: Timing) -> Result<Armed, Error> {
        let most = timing.max_safe_time();
        let safe_time = self.safe_time.unwrap_or(most / 2);
        if safe_time > most {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "safe time {safe_time:?} is more than validity - heartbeat - operation timeout = {most:?}: the monitor \
                     would fire while renewals come through on schedule; shorten it"
                ),
            ));
        }
        let runtime = current_runtime("a session monitor runs on a tokio runtime: acquire the lock inside of one")?;
        Ok(Armed { callback: self.callback, safe_time, runtime })
    }
}

impl Armed {
    /// Watches this very acquisition, on the runtime of whoever acquired it: never on the keeper (R10).
    pub(super) fn watch(self, cell: &Arc<LeaseCell>) {
        let cell = Arc::clone(cell);
        let Self { callback, safe_time, runtime } = self;
        runtime.spawn(async move {
            loop {
                if cell.reason().is_some_and(|reason| !EndReason::is_forced(reason)) {
                    // Given up by its holder, who needs no warning.
                    return;
                }
                let lowered = cell.lowered();
                // Asked of the clock, not of the timer: late is late, but it is never skipped.
                let left = cell.remaining();
                if left <= safe_time {
                    break;
                }
                let due = cell.clock().now().after(left.saturating_sub(safe_time));
                tokio::select! { biased;
                    () = cell.cancelled().cancelled() => {}
                    () = lowered => {}
                    () = cell.clock().sleep_until(due) => {}
                }
            }
            callback();
        });
    }
}
