//! Answers of any kind, in the place of the store's.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use http_body::{Body, Frame};
use hyper::body::Bytes;

use crate::support::{between, sleep};

pub(super) type Answer = Arc<dyn Fn() -> HttpResponse + Send + Sync>;

#[derive(Default)]
struct State {
    answer: Option<Answer>,
    content_type: Option<&'static str>,
}

/// What stands before the store. At first it lets everything through.
#[derive(Clone, Default)]
pub(super) struct Hostile {
    state: Arc<Mutex<State>>,
}

impl Hostile {
    pub(super) fn before(&self, client: &Client) -> Client {
        let state = Arc::clone(&self.state);
        between(client, move |request, store| {
            let state = state.lock().unwrap();
            if let Some(answer) = &state.answer {
                return HttpConnectorFuture::ready(Ok(answer()));
            }
            let (content_type, answer) = (state.content_type, store.call(request));
            HttpConnectorFuture::new(async move {
                let mut answer = answer.await?;
                if let Some(content_type) = content_type {
                    answer.headers_mut().insert("content-type", content_type);
                }
                Ok(answer)
            })
        })
    }

    /// From now on every answer is this one, or again the store's.
    pub(super) fn answer(&self, answer: Option<Answer>) {
        self.state.lock().unwrap().answer = answer;
    }

    /// From now on the store's answers say that they are of this type.
    pub(super) fn label(&self, content_type: &'static str) {
        self.state.lock().unwrap().content_type = Some(content_type);
    }
}

fn response(status: u16, body: SdkBody) -> HttpResponse {
    let mut response = HttpResponse::new(StatusCode::try_from(status).unwrap(), body);
    response.headers_mut().insert("location", "http://elsewhere.invalid/");
    response.headers_mut().insert("content-encoding", "gzip");
    response
}

pub(super) fn fixed(status: u16, body: Vec<u8>) -> Answer {
    let body = Bytes::from(body);
    Arc::new(move || response(status, SdkBody::from(body.clone())))
}

/// Of a body without an end, at a time.
pub(super) const CHUNK: u64 = 1024 * 1024;
/// Where a reader that knows no bound is let go, so that it fails the test and not the machine.
const ENOUGH: u64 = 64 * CHUNK;

struct Endless {
    chunk: Bytes,
    read: u64,
    longest: Arc<AtomicU64>,
    total: Arc<AtomicU64>,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.read >= ENOUGH {
            return Poll::Ready(None);
        }
        self.read += CHUNK;
        self.total.fetch_add(CHUNK, Ordering::Relaxed);
        self.longest.fetch_max(self.read, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(self.chunk.clone()))))
    }
}

/// Never ends. Counts what was read of the longest answer, and of all.
pub(super) fn endless(longest: &Arc<AtomicU64>, total: &Arc<AtomicU64>) -> Answer {
    let (longest, total) = (Arc::clone(longest), Arc::clone(total));
    let chunk = Bytes::from(vec![b' '; usize::try_from(CHUNK).unwrap()]);
    Arc::new(move || {
        let (longest, total) = (Arc::clone(&longest), Arc::clone(&total));
        response(200, SdkBody::from_body_1_x(Endless { chunk: chunk.clone(), read: 0, longest, total }))
    })
}

/// A byte every tenth of a second, for ever.
pub(super) fn trickle() -> Answer {
    Arc::new(|| {
        let bytes = futures::stream::unfold((), |()| async {
            sleep(100).await;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(b" "))), ()))
        });
        response(200, SdkBody::from_body_1_x(http_body_util::StreamBody::new(bytes)))
    })
}
