//! A store that answers at once, this crate's client on it, and the SDK alone with the same requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure,
};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use dynamo_elector::{Lock, LockClient, LockClientBuilder, Timing};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// A key that holds the same record at every look. All others hold nothing.
pub(crate) const KEPT: &str = "other";
const RECORD: &str = r#"{"key":{"S":"other"},"ownerName":{"S":"node-1"},"leaseDuration":{"S":"10s"},"recordVersionNumber":{"S":"0f9c2a52-6d3a-4a86-9b35-8f2b8a3b0f11"},"stampedVersion":{"S":"1:0f9c2a52-6d3a-4a86-9b35-8f2b8a3b0f11"},"fencingToken":{"N":"7"},"heartbeatMillis":{"N":"2500"},"acquiredAt":{"S":"2026-01-01T00:00:00Z"}}"#;
const CAPACITY: &str = r#""ConsumedCapacity":{"TableName":"locks","CapacityUnits":1.0}"#;

/// Every write is applied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stub {
    /// The last request, while somebody wants to know.
    shown: Arc<Mutex<Option<Vec<u8>>>>,
}

impl HttpConnector for Stub {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let body = request.body().bytes().unwrap_or_default();
        if let Some(shown) = &mut *self.shown.lock().unwrap() {
            shown.clear();
            shown.extend_from_slice(body);
        }
        let has = |part: &str| body.windows(part.len()).any(|window| window == part.as_bytes());
        let (status, answer) = match target.rsplit('.').next().unwrap_or_default() {
            "UpdateItem" if has("ALL_NEW") => (200, "{}".to_owned()),
            "GetItem" if has(KEPT) => (200, format!(r#"{{"Item":{RECORD},{CAPACITY}}}"#)),
            "UpdateItem" | "GetItem" => (200, format!("{{{CAPACITY}}}")),
            _ => (400, r#"{"__type":"com.amazon.coral.service#AccessDeniedException","message":"no"}"#.to_owned()),
        };
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(answer))))
    }
}

impl HttpClient for Stub {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl Stub {
    /// The request that `work` sends last.
    pub(crate) async fn request_of(&self, work: impl Future) -> Value {
        *self.shown.lock().unwrap() = Some(Vec::new());
        work.await;
        let shown = self.shown.lock().unwrap().take().unwrap();
        serde_json::from_slice(&shown).unwrap()
    }

    pub(crate) fn locks(&self) -> LockClientBuilder {
        LockClient::builder(&self.sdk(), "locks").share_http_client()
    }

    /// The SDK's client, bounded as this crate bounds its own.
    pub(crate) fn sdk(&self) -> Client {
        let timing = Timing::default();
        let timeouts = TimeoutConfig::builder()
            .operation_timeout(timing.operation_timeout())
            .operation_attempt_timeout(timing.attempt_timeout());
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("local"))
            .credentials_provider(Credentials::new("stub", "stub", None, None, "stub"))
            .retry_config(RetryConfig::standard())
            .timeout_config(timeouts.build())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .http_client(self.clone());
        Client::from_conf(config.build())
    }
}

/// A lock, with a keeper on a thread of its own.
pub(crate) fn held() -> (Runtime, Lock) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let lock = runtime.block_on(async {
        let locks = Stub::default().locks().build().await.unwrap();
        locks.acquire("job").await.unwrap()
    });
    (runtime, lock)
}

/// The parts of a request that this crate sent, to be sent again by the SDK alone.
pub(crate) struct Request {
    client: Client,
    table: String,
    key: HashMap<String, AttributeValue>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
    expressions: Vec<String>,
    consistent: Option<bool>,
}

impl Request {
    pub(crate) fn of(client: Client, request: &Value) -> Self {
        let object = |name: &str| request[name].as_object().cloned().unwrap_or_default();
        let values = |name: &str| object(name).into_iter().map(|(name, value)| (name, attribute(&value))).collect();
        let text = |name: &str| request[name].as_str().map(str::to_owned);
        Self {
            client,
            table: text("TableName").unwrap(),
            key: values("Key"),
            names: object("ExpressionAttributeNames")
                .into_iter()
                .map(|(name, of)| (name, of.as_str().unwrap().to_owned()))
                .collect(),
            values: values("ExpressionAttributeValues"),
            expressions: ["UpdateExpression", "ConditionExpression"].into_iter().filter_map(text).collect(),
            consistent: request["ConsistentRead"].as_bool(),
        }
    }

    /// What is sent is made anew, as a caller of the SDK has to.
    pub(crate) async fn update(&self) {
        let request = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(self.key.clone()))
            .set_expression_attribute_names(Some(self.names.clone()))
            .set_expression_attribute_values(Some(self.values.clone()))
            .update_expression(&self.expressions[0])
            .condition_expression(&self.expressions[1])
            .return_values(ReturnValue::None)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        Box::pin(request.send()).await.unwrap();
    }

    /// The same of a read, whose item nobody looks at.
    pub(crate) async fn get(&self) {
        let request = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(self.key.clone()))
            .set_consistent_read(self.consistent)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        assert!(Box::pin(request.send()).await.unwrap().item.is_some());
    }
}

fn attribute(value: &Value) -> AttributeValue {
    match (value["S"].as_str(), value["N"].as_str(), value["BOOL"].as_bool()) {
        (Some(text), None, None) => AttributeValue::S(text.into()),
        (None, Some(number), None) => AttributeValue::N(number.into()),
        (None, None, Some(is)) => AttributeValue::Bool(is),
        _ => panic!("not an attribute of a heartbeat: {value}"),
    }
}

/// Everything on one thread, in time that stands still while there is work: this crate's lock, and the SDK alone.
pub(crate) struct OneThread {
    pub(crate) runtime: Runtime,
    pub(crate) locks: LockClient,
    pub(crate) lock: Lock,
    /// What the lock's heartbeat sends, and what a look at [`KEPT`] does.
    pub(crate) heartbeat: Request,
    pub(crate) look: Request,
}

impl OneThread {
    pub(crate) fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let stub = Stub::default();
        let (locks, lock, heartbeat, look) = runtime.block_on(async {
            let locks = stub.locks().simulated(1).build().await.unwrap();
            let lock = locks.acquire("job").await.unwrap();
            let (sent, asked) =
                (stub.request_of(lock.heartbeat().into_future()).await, stub.request_of(locks.get(KEPT)).await);
            let (heartbeat, look) = (Request::of(stub.sdk(), &sent), Request::of(stub.sdk(), &asked));
            // The same to the letter, or it is no comparison.
            assert_eq!(stub.request_of(heartbeat.update()).await, sent);
            assert_eq!(stub.request_of(look.get()).await, asked);
            (locks, lock, heartbeat, look)
        });
        Self { runtime, locks, lock, heartbeat, look }
    }

    pub(crate) fn beat(&self) {
        self.runtime.block_on(async { self.lock.heartbeat().await.unwrap() });
    }

    pub(crate) fn beat_by_the_sdk(&self) {
        self.runtime.block_on(self.heartbeat.update());
    }

    pub(crate) fn read(&self) {
        self.runtime.block_on(async { assert!(self.locks.get(KEPT).await.unwrap().is_some()) });
    }

    pub(crate) fn read_by_the_sdk(&self) {
        self.runtime.block_on(self.look.get());
    }
}
