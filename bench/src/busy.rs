//! Processors that have something else to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// As many threads as there are processors that compute all the time, at the same priority as everybody; until dropped.
pub(crate) struct Spinners {
    stop: Arc<AtomicBool>,
}

impl Spinners {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..crate::host::cpus()? {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Ok(Self { stop })
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
