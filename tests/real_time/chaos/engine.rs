//! The table: the embedded engine behind a port, and the order in which effects reached it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use dynamo_elector::{Embedded, LockClient};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::server::response;

pub(crate) const LOCKS: &str = "locks";
pub(crate) const EFFECTS: &str = "effects";
pub(crate) const FENCED: &str = "fenced";
pub(crate) const PLAIN: &str = "plain";

/// One write of a leader, as it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) fenced: bool,
    pub(crate) token: u64,
    pub(crate) accepted: bool,
}

/// Effects in the order in which the engine took or refused them.
pub(crate) type Effects = Arc<Mutex<Vec<Effect>>>;

#[derive(Clone)]
struct Table {
    engine: Embedded,
    effects: Effects,
    /// Held while the engine works and the effect is written down: one order for both.
    one_by_one: Arc<tokio::sync::Mutex<()>>,
}

/// Serves on the current runtime, with both tables made.
pub(crate) async fn serve(effects: &Effects) -> SocketAddr {
    let engine = Embedded::in_memory().unwrap();
    for table in [LOCKS, EFFECTS] {
        LockClient::embedded(&engine, table).build().await.unwrap().shutdown().await;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let table = Table { engine, effects: Arc::clone(effects), one_by_one: Arc::default() };
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let table = table.clone();
            // A request whose connection goes away is served all the same.
            let service = service_fn(move |request| {
                let (table, (sender, receiver)) = (table.clone(), tokio::sync::oneshot::channel());
                async move {
                    let asked = read(request).await;
                    tokio::spawn(async move {
                        let Some((target, body)) = asked else { return };
                        // Whoever asked may be gone.
                        let _ = sender.send(table.serve(&target, body).await);
                    });
                    let (status, body) = receiver.await.unwrap_or((400, Vec::new()));
                    Ok::<_, Infallible>(response(status, body))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// `None` if the request broke off.
async fn read(request: Request<Incoming>) -> Option<(String, Vec<u8>)> {
    let target = request.headers().get("x-amz-target")?.to_str().ok()?.to_owned();
    Some((target, request.into_body().collect().await.ok()?.to_bytes().to_vec()))
}

impl Table {
    async fn serve(&self, target: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let effect = if target.ends_with("UpdateItem") { effect(&body) } else { None };
        let _turn = self.one_by_one.lock().await;
        let (status, answer) = self.engine.dispatch(target, body).await;
        if let Some((fenced, token)) = effect {
            let accepted = status == 200;
            // What fails otherwise is neither.
            if accepted || String::from_utf8_lossy(&answer).contains("ConditionalCheckFailed") {
                self.effects.lock().unwrap().push(Effect { fenced, token, accepted });
            }
        }
        (status, answer)
    }
}

fn effect(body: &[u8]) -> Option<(bool, u64)> {
    let request: serde_json::Value = serde_json::from_slice(body).ok()?;
    if request["TableName"] != EFFECTS {
        return None;
    }
    let token = request["ExpressionAttributeValues"][":token"]["N"].as_str()?.parse().ok()?;
    Some((request["Key"]["key"]["S"] == FENCED, token))
}
