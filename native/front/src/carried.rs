//! Requests that another protocol brings (gRPC): they go through the same chain as those of HTTP, as whoever is at the
//! other end of their connection, and what is answered is kept for whoever brought them.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::header::{HeaderName, HeaderValue, RETRY_AFTER, WARNING};
use http::{Request, Response, Version};
use http_body_util::BodyExt;
use kubecore_core::status::Status;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::answering::Answer;
use crate::body::Body;
use crate::connection::Connection;
use crate::request_body::Sent;
use crate::server::Server;

/// What a client may say of itself and its request in another protocol's headers, beside those of proxies.
const HEEDED: [&str; 7] =
    ["audit-id", "authorization", "traceparent", "tracestate", "user-agent", "x-forwarded-for", "x-real-ip"];
const IMPERSONATION: &str = "impersonate-";
/// Of an answer that is read as it comes: more of it is fetched once that is taken.
const READ_AHEAD: usize = 1 << 20;
/// Of an answer that is wanted as a whole.
const MOST: usize = 256 << 20;

/// Called whenever there is more for who has found nothing.
type Told = Box<dyn Fn() + Send + Sync>;

/// An answer, as far as it is there.
pub struct Carried {
    state: Mutex<State>,
    room: Notify,
    /// None: it is told of when all of it is there.
    read_ahead: Option<usize>,
    told: Told,
}

#[derive(Default)]
struct State {
    /// 0: not yet.
    status: u16,
    /// Seconds; 0 where the answer has none.
    retry_after: u64,
    warnings: Vec<HeaderValue>,
    pieces: Vec<Bytes>,
    bytes: usize,
    is_over: bool,
    /// Somebody has found nothing.
    is_awaited: bool,
    task: Option<AbortHandle>,
}

impl Server {
    /// Whether this header of another protocol's is one of the request's.
    pub fn heeds(&self, name: &HeaderName) -> bool {
        let text = name.as_str();
        HEEDED.contains(&text)
            || text.starts_with(IMPERSONATION)
            || self.authenticator.is_told_by_proxies(name)
    }

    /// The answer, which may be there at once. Where it is to be read as it comes, `told` is called whenever there is more
    /// of it for a reader who has found nothing; once, when it is there, where it is wanted as a `whole`.
    pub fn carry(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        mut request: Request<Bytes>,
        whole: bool,
        told: Told,
    ) -> Arc<Carried> {
        let _entered = self.handle().enter();
        let carried = Arc::new(Carried {
            state: Mutex::default(),
            room: Notify::new(),
            read_ahead: (!whole).then_some(READ_AHEAD),
            told,
        });
        // What gRPC is carried by itself; of 1.1 a Host would be asked for.
        *request.version_mut() = Version::HTTP_2;
        match self.answer(connection, request.map(Sent::Whole)) {
            Answer::Ready(Some(response)) if response.body().is_whole() => {
                carried.begin(&response);
                carried.push(response.body().gathered().unwrap_or_default());
                // Whoever hears of its end has before it is read.
                drop(response);
                carried.end();
            }
            answer => {
                carried.state.lock().is_awaited = true;
                let reading = tokio::spawn(carried.clone().read(answer));
                carried.state.lock().task = Some(reading.abort_handle());
            }
        }
        carried
    }
}

impl Carried {
    /// 0 while there is no answer.
    pub fn status(&self) -> u16 {
        self.state.lock().status
    }

    /// In how many seconds to come again; 0 where that is not said.
    pub fn retry_after(&self) -> u64 {
        self.state.lock().retry_after
    }

    /// What the answer's headers warn of. Nothing before there is one.
    pub fn warnings(&self) -> Vec<HeaderValue> {
        self.state.lock().warnings.clone()
    }

    /// What is there of the body. None: that was all.
    pub fn take(&self) -> Option<Vec<Bytes>> {
        let mut state = self.state.lock();
        let pieces = std::mem::take(&mut state.pieces);
        state.bytes = 0;
        if pieces.is_empty() {
            if state.is_over {
                return None;
            }
            state.is_awaited = true;
        }
        drop(state);
        self.room.notify_one();
        Some(pieces)
    }

    /// Nobody wants it any more.
    pub fn leave(&self) {
        if let Some(task) = self.state.lock().task.take() {
            task.abort();
        }
    }

    async fn read(self: Arc<Self>, answer: Answer) {
        let response = answer.await.unwrap_or_else(|never| match never {});
        self.begin(&response);
        if self.read_ahead.is_some() {
            self.tell();
        }
        if let Err(broken) = self.read_body(response.into_body()).await
            && self.read_ahead.is_none()
        {
            // A part of an object is none.
            let mut state = self.state.lock();
            state.status = broken.code;
            state.pieces = vec![broken.to_json().into()];
        }
        self.end();
        self.tell();
    }

    /// The body has gone when this returns: whoever hears of its end has.
    async fn read_body(&self, mut body: Body) -> Result<(), Status> {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Err(Status::internal("the answer broke off")) };
            let Ok(mut data) = frame.into_data() else { continue };
            self.push(data.copy_to_bytes(data.remaining()));
            let Some(read_ahead) = self.read_ahead else {
                if self.state.lock().bytes > MOST {
                    return Err(Status::internal("the answer is too long to be carried"));
                }
                continue;
            };
            self.tell();
            while self.state.lock().bytes >= read_ahead {
                self.room.notified().await;
            }
        }
        Ok(())
    }

    fn begin(&self, response: &Response<Body>) {
        let told = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let mut state = self.state.lock();
        state.retry_after = told.and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
        state.warnings = response.headers().get_all(WARNING).iter().cloned().collect();
        state.status = response.status().as_u16();
    }

    fn push(&self, piece: Bytes) {
        if !piece.is_empty() {
            let mut state = self.state.lock();
            state.bytes += piece.len();
            state.pieces.push(piece);
        }
    }

    fn end(&self) {
        self.state.lock().is_over = true;
    }

    fn tell(&self) {
        if std::mem::take(&mut self.state.lock().is_awaited) {
            (self.told)();
        }
    }
}
