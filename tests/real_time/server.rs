//! The embedded engine behind a loopback port, on a thread and a runtime of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dynamo_elector::Embedded;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// Serves until the test process ends.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    hangs: AtomicBool,
    writes: AtomicUsize,
}

impl Server {
    pub(crate) fn start() -> Self {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let (told, address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                told.send(listener.local_addr().unwrap()).unwrap();
                let engine = Embedded::in_memory().unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (engine, state) = (engine.clone(), Arc::clone(&shared));
                    let service = service_fn(move |request| answer(engine.clone(), Arc::clone(&state), request));
                    let connection = hyper::server::conn::http1::Builder::new();
                    // A client that goes away is no failure.
                    tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
                }
            });
        });
        Self { address: address.recv().unwrap(), state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on nothing is answered.
    pub(crate) fn hang(&self) {
        self.state.hangs.store(true, Ordering::SeqCst);
    }

    /// How many `UpdateItem` were answered.
    pub(crate) fn writes(&self) -> usize {
        self.state.writes.load(Ordering::SeqCst)
    }
}

async fn answer(
    engine: Embedded,
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if state.hangs.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    let target = request.headers()["x-amz-target"].to_str().unwrap().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let (status, body) = engine.dispatch(&target, body.to_vec()).await;
    state.writes.fetch_add(usize::from(target.ends_with("UpdateItem")), Ordering::SeqCst);
    Ok(response(status, body))
}

/// What the engine answers, as DynamoDB sends it.
pub(crate) fn response(status: u16, body: Vec<u8>) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-type", "application/x-amz-json-1.0");
    response.body(Full::new(Bytes::from(body))).unwrap()
}
