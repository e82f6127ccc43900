//! A service in the background: its terms, its callbacks, and the callback for changes of the leader.

use std::panic::AssertUnwindSafe;
use std::sync::PoisonError;

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::campaign::Turn;
use super::drive::{Ended, TermGuard, dropped_panics, panicked};
use super::leadership::{Leadership, Scope};
use super::service::LeaderCallback;
use super::{Elector, Listener, Service, TermControl, TermEnded};
use crate::ending::EndReason;
use crate::error::{Error, ErrorKind};
use crate::lock::current_runtime;
use crate::status::{Role, Status};

/// A service that runs in the background. Dropping this does not stop it; [`Elector::shutdown`] does.
#[derive(Debug)]
pub struct Running {
    elector: Elector,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// The candidate, to be kept in a web service's state: status, transitions, health, shutdown.
    pub fn elector(&self) -> &Elector {
        &self.elector
    }

    /// The candidate alone; the service goes on.
    pub fn into_elector(self) -> Elector {
        self.elector
    }

    /// Waits until the service has stopped by itself or was shut down.
    ///
    /// # Errors
    ///
    /// As [`Elector::run`]; [`ErrorKind::KeeperFailed`] also when its runtime ended under it.
    ///
    /// # Cancel safety
    ///
    /// The service goes on.
    pub async fn join(self) -> Result<(), Error> {
        self.task.await.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::KeeperFailed, "the service's task was ended from outside").with_source(error))
        })
    }

    /// [`Elector::shutdown`], and then [`join`](Self::join).
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    ///
    /// # Cancel safety
    ///
    /// Once polled, it goes on without its future.
    pub async fn shutdown(self) -> Result<(), Error> {
        self.elector.shutdown().await;
        self.join().await
    }
}

/// Tells whoever waits for it that the service's task is over, in whatever way.
struct Serving(watch::Sender<bool>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

impl Elector {
    /// Runs a service in the background, on the current tokio runtime: its callbacks are called in pairs and in order, on one
    /// task. It campaigns for as long as it lives, like [`run`](Self::run), and stops with [`shutdown`](Self::shutdown).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] if this elector is already in use, [`ErrorKind::InvalidInput`] outside of a tokio runtime.
    pub fn start<S: Service>(&self, service: S) -> Result<Running, Error> {
        let runtime = current_runtime("a service runs on a tokio runtime: start it inside of one")?;
        let turn = self.take_turn()?;
        self.inner.serving.send_replace(true);
        let serving = Serving(self.inner.serving.clone());
        let task = runtime.spawn(self.clone().serve(turn, serving, service));
        Ok(Running { elector: self.clone(), task })
    }

    /// Dropped last to first: once it is told to be over nothing of the service is left, and only then may another begin.
    async fn serve<S: Service>(self, _turn: Turn, _serving: Serving, mut service: S) -> Result<(), Error> {
        loop {
            let (lock, term) = match self.win().await {
                Ok(won) => won,
                Err(error) => return self.no_more_terms(error),
            };
            let told = self.inner.board.defer_release();
            let mut guard = TermGuard::new(&term);
            let leadership = Leadership::new(lock, term.clone(), &self.inner.board, Scope::Term);
            let mut ended = self.drive(&term, async { service.on_elected(leadership).await }).await;
            if matches!(ended, Ended::Ok) {
                // Its return is not the end of anything.
                self.lead_on(&term).await;
                ended = Ended::Stopped;
            }
            guard.reason = ended.reason();
            let stop = self.settle(ended, "on_elected");
            drop(guard);
            let outcome = term.cell().outcome().await;
            let cell = term.cell();
            self.demoted(
                &mut service,
                TermEnded {
                    fencing_token: cell.token(),
                    reason: cell.reason().unwrap_or(EndReason::Resigned),
                    outcome,
                    held: cell.held_for(),
                },
            )
            .await;
            drop(told);
            if let Some((reason, result)) = stop {
                self.stop(reason);
                return result;
            }
        }
    }

    /// The callback has returned; the term lasts until it is lost or given up.
    async fn lead_on(&self, term: &TermControl) {
        tokio::select! { biased;
            () = term.cell().cancelled().cancelled() => {}
            never = self.inner.board.beacon().beat() => match never {},
        }
    }

    /// Calls back, and waits for no longer than work may drain: meanwhile this process takes no part.
    async fn demoted<S: Service>(&self, service: &mut S, term: TermEnded) {
        let mut callback = Box::pin(AssertUnwindSafe(async { service.on_demoted(term).await }).catch_unwind());
        let bounded = tokio::time::timeout(self.inner.settings.drain_timeout, &mut callback);
        let failed = tokio::select! { biased;
            done = bounded => match done {
                Ok(Ok(())) => None,
                Ok(Err(panic)) => Some(panicked(&*panic)),
                Err(_) => Some("it did not return within the drain timeout and was dropped".to_owned()),
            },
            never = self.inner.board.beacon().beat() => match never {},
        };
        if let Some(why) = dropped_panics(callback).or(failed) {
            self.inner.board.callback_failed("on_demoted", why);
        }
    }

    /// Starts the task that tells of changes of the leader, where that was asked for.
    pub(super) fn start_listener(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut listener = self.inner.listener.lock().unwrap_or_else(PoisonError::into_inner);
        *listener = match std::mem::replace(&mut *listener, Listener::None) {
            Listener::Waiting(callback) => {
                let board = std::sync::Arc::downgrade(&self.inner.board);
                let failed = move |why| {
                    if let Some(board) = board.upgrade() {
                        board.callback_failed("on_leader_changed", why);
                    }
                };
                Listener::Task(runtime.spawn(tell_changes(self.status(), callback, failed)))
            }
            other => other,
        };
    }

    /// Waits until that task is over: it ends after the last status, or at its bound.
    pub(super) async fn end_listener(&self) {
        let listener = {
            let mut listener = self.inner.listener.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *listener, Listener::None)
        };
        if let Listener::Task(mut task) = listener
            && tokio::time::timeout(self.inner.settings.drain_timeout, &mut task).await.is_err()
        {
            task.abort();
        }
    }
}

/// Calls back for each change of the leader that is seen; several in a row may be one.
async fn tell_changes(mut status: watch::Receiver<Status>, mut callback: LeaderCallback, failed: impl Fn(String)) {
    let mut told = None;
    loop {
        let (leader, last) = {
            let now = status.borrow_and_update();
            (now.leader.clone(), matches!(now.role, Role::Stopped(_)))
        };
        if leader != told {
            told.clone_from(&leader);
            let called = AssertUnwindSafe(async { callback(leader).await }).catch_unwind().await;
            if let Err(panic) = called {
                failed(panicked(&*panic));
            }
        }
        if last || status.changed().await.is_err() {
            return;
        }
    }
}
