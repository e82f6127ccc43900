//! Everything that happens in a run, with its simulated time: what is to be the same when a seed is run again.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::result::ConnectorError;
use dynamo_elector::{Call, Elector, Fault};
use futures::StreamExt;
use tokio::time::Instant;

use crate::support::between;

#[derive(Debug, Clone)]
pub(super) struct Journal {
    start: Instant,
    text: Arc<Mutex<String>>,
}

/// The members of an object in the order of their names: the SDK and the engine keep them in randomly seeded maps.
fn sorted(body: &[u8]) -> String {
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(value) => value.to_string(),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

impl Journal {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), text: Arc::default() }
    }

    pub(super) fn line(&self, who: &str, what: &str) {
        let at = self.start.elapsed().as_micros();
        writeln!(self.text.lock().unwrap(), "{at:>12} {who:<12} {what}").unwrap();
    }

    pub(super) fn call(&self, who: &str, call: &Call, fault: &Fault) {
        self.line(who, &format!("> {} {} {fault:?}", call.operation, sorted(call.body.as_bytes())));
    }

    pub(super) fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// The same client, whose answers are noted when they arrive.
    pub(super) fn overhear(&self, who: &str, client: &Client) -> Client {
        let (who, journal) = (who.to_owned(), self.clone());
        between(client, move |request, store| {
            let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
            let (who, journal, answer) = (who.clone(), journal.clone(), store.call(request));
            HttpConnectorFuture::new(async move {
                let answer = answer.await;
                journal.line(&who, &told(&target, &answer));
                answer
            })
        })
    }

    /// Notes every transition, and hands the numbers of the elected to `elected`.
    pub(super) fn follow(&self, who: &str, elector: &Elector, elected: impl Fn(u64) + Send + 'static) {
        let (journal, who, mut transitions) = (self.clone(), who.to_owned(), elector.transitions());
        tokio::spawn(async move {
            while let Some(transition) = transitions.next().await {
                journal.line(&who, &format!("= {transition:?}"));
                if let dynamo_elector::Transition::Elected { fencing_token, .. } = transition {
                    elected(fencing_token);
                }
            }
        });
    }
}

fn told(target: &str, answer: &Result<HttpResponse, ConnectorError>) -> String {
    match answer {
        // The engine makes up the table's id and the time it was made.
        Ok(answer) if target.ends_with("Table") => format!("< {}", answer.status().as_u16()),
        Ok(answer) => format!("< {} {}", answer.status().as_u16(), sorted(answer.body().bytes().unwrap_or_default())),
        Err(error) => format!("< {error}"),
    }
}
