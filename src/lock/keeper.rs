//! The keeper: one thread that sends every request and watches every deadline of a client (R10).
//!
//! User code that blocks its own runtime can delay neither a renewal nor a cancellation, because
//! none of it runs here: no callback, no metrics recorder, no subscriber.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::campaign::acquire;
use super::context::Context;
use super::request::{Answer, Request};
use super::tenure::Unsettled;
use crate::clock::watch_for_jumps;
use crate::ending::ReleaseOutcome;
use crate::error::{Error, ErrorKind};
use crate::store::Key;

pub(crate) enum Command {
    Acquire(Box<Request>, oneshot::Sender<Answer>),
    /// Anything else that sends requests: connections belong to the keeper.
    Call(BoxFuture<'static, ()>),
    Shutdown(oneshot::Sender<Vec<(Key, ReleaseOutcome)>>),
}

/// Where the keeper's tasks run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Thread,
    /// On the runtime that builds the client, whose time may be simulated.
    #[cfg(feature = "test-util")]
    CurrentRuntime,
}

/// A keeper that has not looked at its clock for so long is stuck; it does so every 250 ms.
const MAX_STALL: Duration = Duration::from_secs(5);

/// What the keeper has when it is ready: made on its own thread, so that connections and credentials are its own.
pub(super) struct Ready {
    pub(super) context: Context,
    pub(super) table_was_checked: bool,
}

/// The handle of the keeper. When the last one goes, the keeper finishes its releases and ends.
#[derive(Debug)]
pub(crate) struct Keeper {
    commands: mpsc::UnboundedSender<Command>,
    context: Arc<Context>,
    table_was_checked: bool,
}

impl Keeper {
    /// Starts it and waits until it is ready.
    pub(super) async fn start(
        place: Place,
        prepare: impl FnOnce() -> BoxFuture<'static, Result<Ready, Error>> + Send + 'static,
    ) -> Result<Self, Error> {
        let (commands, received) = mpsc::unbounded_channel();
        let (report, ready) = oneshot::channel();
        let work = move || keep(prepare(), received, report);
        match place {
            Place::Thread => spawn_thread(work)?,
            #[cfg(feature = "test-util")]
            Place::CurrentRuntime => drop(tokio::spawn(work())),
        }
        let (context, table_was_checked) = ready.await.unwrap_or_else(|_| Err(gone()))?;
        Ok(Self { commands, context, table_was_checked })
    }

    pub(super) fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).map_err(|_| gone())
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Whether the keeper still runs and has done so a moment ago.
    pub(crate) fn is_alive(&self) -> bool {
        !self.commands.is_closed() && self.context.progressed_within(MAX_STALL)
    }

    pub(super) fn table_was_checked(&self) -> bool {
        self.table_was_checked
    }

    /// Runs `work` on the keeper; it ends early when nobody waits for it any more.
    pub(super) async fn call<T, F>(&self, work: impl FnOnce(Arc<Context>) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (mut answer, result) = oneshot::channel();
        let work = work(Arc::clone(&self.context));
        let call = async move {
            let done = tokio::select! { biased;
                () = answer.closed() => return,
                done = work => done,
            };
            // Whoever asked may have gone meanwhile.
            let _ = answer.send(done);
        };
        self.send(Command::Call(call.boxed()))?;
        result.await.unwrap_or_else(|_| Err(gone()))
    }

    pub(super) async fn shutdown(&self) -> Vec<(Key, ReleaseOutcome)> {
        self.context.closing.cancel();
        let (done, report) = oneshot::channel();
        if self.send(Command::Shutdown(done)).is_err() {
            return self.context.reported();
        }
        report.await.unwrap_or_else(|_| self.context.reported())
    }
}

/// What callers get when the keeper is no more.
pub(super) fn gone() -> Error {
    Error::new(ErrorKind::KeeperFailed, "the keeper has ended: build a new lock client")
}

fn spawn_thread<F>(work: impl FnOnce() -> F + Send + 'static) -> Result<(), Error>
where
    F: Future<Output = ()>,
{
    let failed = |error| Error::new(ErrorKind::KeeperFailed, "the keeper could not be started").with_source(error);
    let (started, outcome) = std::sync::mpsc::sync_channel::<std::io::Result<()>>(1);
    std::thread::Builder::new()
        .name("dynamo-elector".into())
        .spawn(move || {
            // A subscriber is user code: one that blocks would stall renewals, so the SDK's own trace
            // events are not recorded on this thread. Ours are recorded by the herald.
            let _quiet = tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default());
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    let _ = started.send(Ok(()));
                    runtime.block_on(work());
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })
        .map_err(failed)?;
    // Thread and runtime start in well under a millisecond; nothing here waits for the network.
    outcome.recv().unwrap_or(Ok(())).map_err(failed)
}

type ReadyReport = oneshot::Sender<Result<(Arc<Context>, bool), Error>>;

async fn keep(
    prepare: BoxFuture<'static, Result<Ready, Error>>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    report: ReadyReport,
) {
    let ready = match prepare.await {
        Ok(ready) => ready,
        Err(error) => return drop(report.send(Err(error))),
    };
    let context = Arc::new(ready.context);
    if report.send(Ok((Arc::clone(&context), ready.table_was_checked))).is_err() {
        return;
    }
    let mut watch = JoinSet::new();
    let looking = Arc::clone(&context);
    watch.spawn(watch_for_jumps(context.clock, move |jumped| {
        looking.note_progress();
        if jumped {
            looking.jumped.send_modify(|()| {});
        }
    }));
    let mut tasks = JoinSet::new();
    // Of their own, so that a status page that reads on and on holds up no shutdown.
    let mut calls = JoinSet::new();
    let (mut waiting, mut unsettled) = (Vec::new(), Vec::new());
    loop {
        if tasks.is_empty() {
            for done in waiting.drain(..) {
                let done: oneshot::Sender<_> = done;
                let _ = done.send(context.reported());
            }
        }
        tokio::select! { biased;
            command = commands.recv() => match command {
                Some(Command::Acquire(request, answer)) => {
                    tasks.spawn(acquire(Arc::clone(&context), request, answer));
                }
                Some(Command::Call(call)) => {
                    calls.spawn(call);
                }
                Some(Command::Shutdown(done)) => {
                    waiting.push(done);
                    // What an earlier shutdown could not release is tried again.
                    for unsettled in unsettled.drain(..) {
                        tasks.spawn(Unsettled::release_again(unsettled));
                    }
                }
                None => break,
            },
            // A task that panicked has ended its own lease by then; the others go on.
            Some(_) = calls.join_next(), if !calls.is_empty() => {}
            Some(done) = tasks.join_next(), if !tasks.is_empty() => unsettled.extend(done.ok().flatten()),
        }
    }
    // Nobody holds a handle any more: what was held is being released.
    while tasks.join_next().await.is_some() {}
}
