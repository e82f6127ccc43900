//! The operating system's request to end, tied to a graceful exit.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{Elections, Elector};
use crate::error::{Error, ErrorKind};
use crate::lock::current_runtime;

/// Waits for the operating system's request to end: SIGTERM or SIGINT (Ctrl-C), elsewhere than on Unix Ctrl-C alone.
///
/// From the first call on these signals no longer end the process by themselves.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] outside of a tokio runtime, or where the handler can't be installed.
///
/// # Panics
///
/// On a tokio runtime that was built without I/O (`enable_io`).
///
/// # Cancel safety
///
/// Waits only; a signal that arrives between two calls is missed.
pub async fn termination() -> Result<(), Error> {
    listen()?.await;
    Ok(())
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::InvalidInput, "the handler for signals could not be installed").with_source(error)
}

fn in_runtime() -> Result<Handle, Error> {
    current_runtime("signals are listened to on a tokio runtime: call it inside of one")
}

/// Makes this at the first signal, unless `gone` fires before: what is shut down must neither be kept alive nor outlived.
fn at_signal<F>(gone: CancellationToken, shut_down: impl FnOnce() -> F + Send + 'static) -> Result<(), Error>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (runtime, signal) = (in_runtime()?, listen()?);
    runtime.spawn(async move {
        tokio::select! { biased;
            () = gone.cancelled() => {}
            () = signal => shut_down().await,
        }
    });
    Ok(())
}

/// Installs the handlers here and now: a signal that comes before the first poll is not missed.
#[cfg(unix)]
fn listen() -> Result<impl Future<Output = ()> + Send, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    in_runtime()?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! { biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn listen() -> Result<impl Future<Output = ()> + Send, Error> {
    in_runtime()?;
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            // No handler: nothing to wait for.
            std::future::pending().await
        }
    })
}

impl Elector {
    /// Ties SIGTERM and SIGINT to a graceful exit: at the first of them this elector is [shut down](Self::shutdown), so `run`
    /// returns and a service stops. Returns at once; what it starts ends with the elector.
    ///
    /// Give the process a grace period of at least the [notice](crate::ElectorBuilder::hand_over_notice), the
    /// [drain timeout](crate::ElectorBuilder::drain_timeout) and [`Timing::operation_timeout`](crate::Timing::operation_timeout)
    /// together: 9.8 s by default.
    ///
    /// # Errors
    ///
    /// As [`termination`](crate::termination).
    ///
    /// # Panics
    ///
    /// As [`termination`](crate::termination).
    pub fn shutdown_on_signal(&self) -> Result<(), Error> {
        let inner = Arc::downgrade(&self.inner);
        at_signal(self.inner.gone.clone(), move || async move {
            if let Some(inner) = inner.upgrade() {
                Self { inner }.shutdown().await;
            }
        })
    }
}

impl Elections {
    /// Ties SIGTERM and SIGINT to the [shutdown](Self::shutdown) of all members there are by then.
    ///
    /// # Errors
    ///
    /// As [`termination`](crate::termination).
    ///
    /// # Panics
    ///
    /// As [`termination`](crate::termination).
    pub fn shutdown_on_signal(&self) -> Result<(), Error> {
        let group = Arc::downgrade(&self.group);
        at_signal(self.group.closing.clone(), move || async move {
            if let Some(group) = group.upgrade() {
                Self { group }.shutdown().await;
            }
        })
    }
}
