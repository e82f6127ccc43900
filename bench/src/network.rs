//! The one engine that all peers share, behind one port a client: each port is that client's network, with a round trip, faults
//! and a log of what was asked and when it was applied.

mod log;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dynamo_elector::Embedded;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::clock::now;
pub(crate) use log::{Call, Cost, Log};

/// What becomes of a client's requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Weather {
    /// Half of it before the engine, half after.
    pub(crate) round_trip: Duration,
    /// The share of requests that vanish on their way: never applied, never answered.
    pub(crate) request_loss: f64,
    /// The share of replies that vanish: applied, never answered.
    pub(crate) reply_loss: f64,
    /// Nothing gets through, either way. Connections are accepted, and stay silent.
    pub(crate) cut: bool,
}

impl Weather {
    pub(crate) fn fair(round_trip: Duration) -> Self {
        Self { round_trip, request_loss: 0.0, reply_loss: 0.0, cut: false }
    }
}

/// The engine, and the log of everything that was asked of it.
#[derive(Clone)]
pub(crate) struct Network {
    engine: Embedded,
    log: Log,
    round_trip: Duration,
}

/// One client's way to the engine.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    /// Names its calls in the log.
    pub(crate) client: usize,
    weather: Arc<Mutex<Weather>>,
    accepts: tokio::task::JoinHandle<()>,
}

impl Line {
    pub(crate) fn set(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

impl Network {
    /// With the tables `tables`: partition key `key`, and a time to live on the attribute that some clients insist on.
    pub(crate) async fn start(round_trip: Duration, tables: &[(&str, Option<&str>)]) -> anyhow::Result<Self> {
        let network = Self { engine: Embedded::in_memory()?, log: Log::default(), round_trip };
        for (table, expires_by) in tables {
            network
                .ask(
                    "CreateTable",
                    &json!({
                        "TableName": table, "BillingMode": "PAY_PER_REQUEST",
                        "KeySchema": [{ "AttributeName": "key", "KeyType": "HASH" }],
                        "AttributeDefinitions": [{ "AttributeName": "key", "AttributeType": "S" }],
                    }),
                )
                .await?;
            if let Some(attribute) = expires_by {
                let how = json!({ "AttributeName": attribute, "Enabled": true });
                let body = json!({ "TableName": table, "TimeToLiveSpecification": how });
                network.ask("UpdateTimeToLive", &body).await?;
            }
        }
        Ok(network)
    }

    async fn ask(&self, operation: &str, body: &Value) -> anyhow::Result<()> {
        let (status, answer) = self.engine.dispatch(operation, body.to_string().into_bytes()).await;
        anyhow::ensure!(status == 200, "{operation}: {}", String::from_utf8_lossy(&answer));
        Ok(())
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// This network with its round trip and nothing else.
    pub(crate) fn fair(&self) -> Weather {
        Weather::fair(self.round_trip)
    }

    pub(crate) async fn line(&self) -> anyhow::Result<Line> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let weather = Arc::new(Mutex::new(self.fair()));
        let client = self.log.next_client();
        let way = Way { network: self.clone(), client, weather: Arc::clone(&weather) };
        let accepts = tokio::spawn(async move {
            loop {
                // A client that is gone before it is accepted is no failure.
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                let way = way.clone();
                let service = service_fn(move |request| way.clone().carry(request));
                let mut connection = hyper::server::conn::http1::Builder::new();
                connection.timer(TokioTimer::new());
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Line { address, client, weather, accepts })
    }
}

#[derive(Clone)]
struct Way {
    network: Network,
    client: usize,
    weather: Arc<Mutex<Weather>>,
}

impl Way {
    fn weather(&self) -> Weather {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = request.into_body().collect().await;
        let (Some(target), Ok(body)) = (target, body) else { return Ok(response(400, Vec::new())) };
        let body = serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null);
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        // On its own: what was sent arrives, though its sender may have gone away.
        match tokio::spawn(self.deliver(operation, body)).await {
            Ok(Some((status, body))) => Ok(response(status, body)),
            _ => std::future::pending().await,
        }
    }

    /// `None`: never answered.
    async fn deliver(self, operation: String, mut body: Value) -> Option<(u16, Vec<u8>)> {
        let log = &self.network.log;
        let call = log.arrived(self.client, &operation, &body, now());
        let weather = self.weather();
        if weather.cut || fastrand::f64() < weather.request_loss {
            return None;
        }
        tokio::time::sleep(weather.round_trip / 2).await;
        if Cost::is_told_for(&operation) {
            body["ReturnConsumedCapacity"] = json!("TOTAL");
        }
        let (status, answer) = self.network.engine.dispatch(&operation, body.to_string().into_bytes()).await;
        log.served(call, status, &answer, now());
        let weather = self.weather();
        if weather.cut || fastrand::f64() < weather.reply_loss {
            return None;
        }
        tokio::time::sleep(weather.round_trip / 2).await;
        if self.weather().cut {
            return None;
        }
        log.answered(call, now());
        Some((status, answer))
    }
}

/// What the engine answers, as DynamoDB sends it.
fn response(status: u16, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    let json = hyper::header::HeaderValue::from_static("application/x-amz-json-1.0");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests;
