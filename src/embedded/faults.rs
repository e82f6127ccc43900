//! Faults between the SDK and the engine, for tests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::result::ConnectorError;

use super::engine::{Answer, Engine};

/// One request on its way.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Call {
    /// Counts the requests of this handle from 0, retries inside the SDK included.
    pub number: u64,
    /// `UpdateItem`, `GetItem`, …
    pub operation: String,
    /// The request, as JSON text.
    pub body: String,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing.
    Deliver,
    /// It never arrives, and is never answered.
    LoseRequest,
    /// It is applied, and never answered.
    LoseReply,
    /// It arrives late, even if its sender has given up by then, and so does its answer.
    Delay {
        /// Before it arrives.
        request: Duration,
        /// Before its answer arrives.
        reply: Duration,
    },
    /// Delivered and answered, and delivered once more later.
    Duplicate {
        /// How much later.
        after: Duration,
    },
    /// An eventually consistent read shows what it showed before the latest change that this handle
    /// has seen. Anything else is delivered.
    StaleRead,
    /// Answered with a throttling error, not applied.
    Throttle,
    /// Answered with a server error, not applied.
    ServerError,
    /// Answered with a denial, not applied.
    AccessDenied,
    /// The connection fails, nothing is applied.
    ConnectError,
    /// Answered with this instead, not applied.
    Respond {
        /// The HTTP status.
        status: u16,
        /// The body, JSON as a rule.
        body: String,
    },
}

type Script = Box<dyn FnMut(&Call) -> Fault + Send>;

/// A script of faults, and the record of the requests that went through it.
#[derive(Clone)]
pub struct Faults {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    script: Script,
    calls: Vec<(Call, Fault)>,
    total: u64,
    /// By request, the latest answer to an eventually consistent read and the one before that differed.
    shown: HashMap<Vec<u8>, (Option<Answer>, Answer)>,
}

/// More than any test looks at; keeps a long simulation from filling the memory.
const MAX_CALLS: usize = 100_000;

impl Faults {
    /// Everything is delivered.
    pub fn none() -> Self {
        Self::script(|_| Fault::Deliver)
    }

    /// Asks `script` about every request.
    pub fn script(script: impl FnMut(&Call) -> Fault + Send + 'static) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                script: Box::new(script),
                calls: Vec::new(),
                total: 0,
                shown: HashMap::new(),
            })),
        }
    }

    /// Replaces the script from now on.
    pub fn set(&self, script: impl FnMut(&Call) -> Fault + Send + 'static) {
        self.lock().script = Box::new(script);
    }

    /// The requests so far, the latest 100,000 at least.
    pub fn calls(&self) -> Vec<(Call, Fault)> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, operation: &str, body: &[u8]) -> Fault {
        let mut inner = self.lock();
        let body = String::from_utf8_lossy(body).into_owned();
        let call = Call { number: inner.total, operation: operation.to_owned(), body };
        inner.total += 1;
        let fault = (inner.script)(&call);
        if inner.calls.len() == 2 * MAX_CALLS {
            inner.calls.drain(..MAX_CALLS);
        }
        inner.calls.push((call, fault.clone()));
        fault
    }

    async fn deliver(&self, engine: &Engine, operation: String, body: Vec<u8>) -> Answer {
        let eventual = operation == "GetItem" && !String::from_utf8_lossy(&body).contains("\"ConsistentRead\":true");
        let answer = engine.answer(operation, body.clone()).await;
        if eventual {
            let mut inner = self.lock();
            let shown = inner.shown.entry(body).or_insert_with(|| (None, answer.clone()));
            if shown.1 != answer {
                shown.0 = Some(std::mem::replace(&mut shown.1, answer.clone()));
            }
        }
        answer
    }

    pub(super) async fn carry(
        &self,
        engine: &Engine,
        operation: String,
        body: Vec<u8>,
    ) -> Result<Answer, ConnectorError> {
        match self.next(&operation, &body) {
            Fault::Deliver => Ok(self.deliver(engine, operation, body).await),
            Fault::StaleRead => {
                let past = self.lock().shown.get(&body).and_then(|(past, _)| past.clone());
                match past {
                    Some(past) => Ok(past),
                    None => Ok(self.deliver(engine, operation, body).await),
                }
            }
            Fault::LoseRequest => std::future::pending().await,
            Fault::LoseReply => {
                engine.answer(operation, body).await;
                std::future::pending().await
            }
            Fault::Delay { request, reply } => {
                let engine = engine.clone();
                // A request that is late is in the network: its sender can't call it back.
                let delivered = tokio::spawn(async move {
                    tokio::time::sleep(request).await;
                    let answer = engine.answer(operation, body).await;
                    tokio::time::sleep(reply).await;
                    answer
                });
                delivered.await.map_err(|error| ConnectorError::io(error.into()))
            }
            Fault::Duplicate { after } => {
                let answer = engine.answer(operation.clone(), body.clone()).await;
                let engine = engine.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    engine.answer(operation, body).await;
                });
                Ok(answer)
            }
            Fault::Throttle => Ok(Answer::error(400, "ProvisionedThroughputExceededException", "injected")),
            Fault::ServerError => Ok(Answer::error(500, "InternalServerError", "injected")),
            Fault::AccessDenied => Ok(Answer::error(400, "AccessDeniedException", "injected")),
            Fault::Respond { status, body } => Ok(Answer { status, body: body.into_bytes() }),
            Fault::ConnectError => Err(ConnectorError::io("injected connection failure".into())),
        }
    }
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faults").field("total", &self.lock().total).finish_non_exhaustive()
    }
}
