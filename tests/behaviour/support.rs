//! What the tests of the lock layer share: raw items, request bodies, slow answers.

use std::collections::HashMap;
use std::future::{Future, IntoFuture};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::http::HttpRequest;
use aws_sdk_dynamodb::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use dynamo_elector::{Call, Embedded, Error, ErrorKind, Fault, Faults, Leadership, Service, WorkResult};

pub(crate) type Item = HashMap<String, AttributeValue>;

pub(crate) fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(crate) fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(crate) fn bytes(bytes: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// What a client of another make puts: the whole item, whatever was there before.
pub(crate) async fn put(engine: &Embedded, item: &[(&str, AttributeValue)]) {
    let put = engine.client().put_item().table_name("locks");
    item.iter().fold(put, |put, (name, value)| put.item(*name, value.clone())).send().await.unwrap();
}

/// A sound record of another make, under the key `job`.
pub(crate) fn record(version: &str, lease: &str) -> Vec<(&'static str, AttributeValue)> {
    vec![
        ("key", text("job")),
        ("ownerName", text("somebody")),
        ("leaseDuration", text(lease)),
        ("recordVersionNumber", text(version)),
    ]
}

/// The item as it is in the table.
pub(crate) async fn raw(engine: &Embedded, key: &str) -> Option<Item> {
    let get = engine.client().get_item().table_name("locks").key("key", text(key)).consistent_read(true);
    get.send().await.unwrap().item
}

/// One attribute of the item under `job`.
pub(crate) async fn attribute(engine: &Embedded, name: &str) -> Option<AttributeValue> {
    raw(engine, "job").await.unwrap().remove(name)
}

pub(crate) async fn delete(engine: &Embedded, key: &str) {
    engine.client().delete_item().table_name("locks").key("key", text(key)).send().await.unwrap();
}

pub(crate) fn body(call: &Call) -> serde_json::Value {
    serde_json::from_str(&call.body).unwrap()
}

/// The key that a request names.
pub(crate) fn key_of(call: &Call) -> String {
    body(call)["Key"]["key"]["S"].as_str().unwrap_or_default().to_owned()
}

/// The requests since `from`.
pub(crate) fn since(faults: &Faults, from: usize) -> Vec<Call> {
    faults.calls()[from..].iter().map(|(call, _)| call.clone()).collect()
}

/// The value of a placeholder in a request.
pub(crate) fn value(call: &Call, placeholder: &str) -> Option<serde_json::Value> {
    body(call)["ExpressionAttributeValues"].get(placeholder).cloned()
}

pub(crate) fn slow(request: u64, reply: u64) -> Fault {
    Fault::Delay { request: millis(request), reply: millis(reply) }
}

/// An answer of DynamoDB that refuses the request.
pub(crate) fn refusal(exception: &str, message: &str) -> Fault {
    let body =
        serde_json::json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{exception}"), "message": message });
    Fault::Respond { status: 400, body: body.to_string() }
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) async fn sleep(length: u64) {
    tokio::time::sleep(millis(length)).await;
}

/// Polls `work` for so long and then drops it.
pub(crate) async fn drop_after<T>(length: u64, work: impl IntoFuture<Output = T>) -> Option<T> {
    tokio::time::timeout(millis(length), work.into_future()).await.ok()
}

/// Waits for `work` no longer than `bound` milliseconds: what hangs fails.
pub(crate) async fn within<F: IntoFuture>(bound: u64, work: F) -> F::Output {
    tokio::time::timeout(millis(bound), work.into_future()).await.expect("it hangs")
}

/// Polls `work` once and drops it.
pub(crate) async fn poll_once<T>(work: impl IntoFuture<Output = T>) {
    let mut work = Box::pin(work.into_future());
    assert!(futures::poll!(&mut work).is_pending(), "over before anything was dropped");
}

/// The kind, after a look at the message: it must say something, in one line.
pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    let error = result.unwrap_err();
    let message = error.to_string();
    assert!(message.len() > 20 && !message.contains('\n'), "{message:?} helps nobody");
    error.kind()
}

/// A runtime of its own in simulated time for each seed, so that nothing is left over from another.
pub(crate) fn simulated<F: Future>(seed: u64, work: impl FnOnce(u64) -> F) -> F::Output {
    // The SDK scatters its own retries with this generator.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(work(seed))
}

/// A service that does nothing, for as long as it leads.
pub(crate) struct Idle;

impl Service for Idle {
    async fn on_elected(&mut self, _: Leadership) -> WorkResult {
        Ok(())
    }
}

/// The same client with something between it and its store, which carries each request on or does not.
pub(crate) fn between<F>(client: &Client, carry: F) -> Client
where
    F: Fn(HttpRequest, &SharedHttpConnector) -> HttpConnectorFuture + Send + Sync + 'static,
{
    let store = client.config().http_client().expect("the embedded engine is an HTTP client");
    let between = Between { carry: Arc::new(carry), store };
    Client::from_conf(client.config().to_builder().http_client(between).build())
}

/// `S` is the store as a client, or as one connector of it.
struct Between<F, S> {
    carry: Arc<F>,
    store: S,
}

impl<F, S> std::fmt::Debug for Between<F, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Between").finish_non_exhaustive()
    }
}

impl<F> HttpClient for Between<F, SharedHttpClient>
where
    F: Fn(HttpRequest, &SharedHttpConnector) -> HttpConnectorFuture + Send + Sync + 'static,
{
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let store = self.store.http_connector(settings, components);
        SharedHttpConnector::new(Between { carry: Arc::clone(&self.carry), store })
    }
}

impl<F> HttpConnector for Between<F, SharedHttpConnector>
where
    F: Fn(HttpRequest, &SharedHttpConnector) -> HttpConnectorFuture + Send + Sync + 'static,
{
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        (self.carry)(request, &self.store)
    }
}

/// Whether a trace event is wanted is remembered where it stands in the code, and a thread without a subscriber may be the
/// first to get there: then those that have one miss it. A global subscriber that never says never prevents that.
pub(crate) fn trace_everywhere() {
    struct Undecided;
    impl tracing::Subscriber for Undecided {
        fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> tracing::subscriber::Interest {
            tracing::subscriber::Interest::sometimes()
        }
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            false
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {}
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Undecided).unwrap());
}

/// What a subscriber writes.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Records what this thread traces, for as long as the guard lives.
    pub(crate) fn record() -> (Self, tracing::subscriber::DefaultGuard) {
        trace_everywhere();
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
