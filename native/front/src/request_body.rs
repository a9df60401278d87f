//! The body of a request: whole and within its limits, left unread for somebody else, or thrown away.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use kubecore_core::status::Status;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::headers::{Headers, Name};
use crate::server::Server;
use crate::status;

/// How much more than the limit of a body is read before the connection is cut.
const DISCARD_FACTOR: usize = 4;
/// How much is read of what nobody wants.
const UNWANTED: usize = 16 << 20;

/// A body as it was sent to us.
pub enum Sent {
    /// On its way.
    Incoming(Incoming),
    /// On its way by HTTP/1.1, where nothing else comes before it is over.
    Behind(Incoming, Arc<Connection>),
    /// Here, of a request that came by another protocol or has been read.
    Whole(Bytes),
}

impl Sent {
    pub(crate) fn by(connection: &Arc<Connection>, incoming: Incoming) -> Self {
        if connection.outflow.is_none() || incoming.is_end_stream() {
            return Self::Incoming(incoming);
        }
        connection.unwanted.is_over.store(false, Ordering::Relaxed);
        Self::Behind(incoming, connection.clone())
    }

    /// Nobody wants the rest of it. Who reads it all the same holds what is returned.
    fn is_left(&self) -> Option<oneshot::Sender<()>> {
        let Self::Behind(_, connection) = self else { return None };
        let (reading, wait) = oneshot::channel();
        *connection.unwanted.left.lock() = Some(wait);
        Some(reading)
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Incoming(incoming) => Pin::new(incoming).poll_frame(cx),
            Self::Behind(incoming, connection) => {
                let polled = Pin::new(&mut *incoming).poll_frame(cx);
                if matches!(polled, Poll::Ready(None)) || incoming.is_end_stream() {
                    connection.unwanted.is_over.store(true, Ordering::Relaxed);
                }
                polled
            }
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(incoming) | Self::Behind(incoming, _) => incoming.is_end_stream(),
            Self::Whole(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(incoming) | Self::Behind(incoming, _) => incoming.size_hint(),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
/// As much of it in HTTP/2.
const UNWANTED_OF_A_STREAM: u64 = 64 << 10;

/// A body that nobody has taken yet. What is dropped so, by a refusal for instance, is read all the same: a connection
/// of HTTP/1.1, or a stream of HTTP/2, that ends while something is unread is reset, and the client loses the answer.
pub(crate) struct Untaken {
    sent: Option<Sent>,
    /// How long it is read when nobody wants it; None: not at all.
    patience: Option<Duration>,
}

impl Untaken {
    pub(crate) fn new(sent: Sent, connection: &Connection, headers: &Headers, patience: Duration) -> Self {
        // Only the stream is lost of HTTP/2, for which no client is to send megabytes in vain; and who waits to be asked
        // for the body is answered instead.
        let is_little = || announced(headers).is_some_and(|length| length <= UNWANTED_OF_A_STREAM);
        let is_read = !headers.has(Name::Expect) && (connection.outflow.is_some() || is_little());
        Self { sent: Some(sent), patience: is_read.then_some(patience) }
    }

    fn take(mut self) -> Option<Sent> {
        self.sent.take()
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        let Some(mut body) = self.sent.take().filter(|body| !body.is_end_stream()) else { return };
        let reading = body.is_left();
        if let (Some(patience), Ok(runtime)) = (self.patience, Handle::try_current()) {
            runtime.spawn(async move {
                let _ = timeout(patience, discard(&mut body, UNWANTED)).await;
                drop(reading);
                // Who still sends has time to see the answer.
                let _ = timeout(patience, discard(&mut body, UNWANTED)).await;
            });
        }
    }
}

/// What is left of the body of a connection's last request of HTTP/1.1.
#[derive(Default)]
pub(crate) struct Unwanted {
    is_over: AtomicBool,
    /// Nobody wants the rest. Somebody reads it, as long as he holds the other end.
    left: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Unwanted {
    /// Waits until no more is read of a body that nobody wants. False: there may be more of it.
    ///
    /// What is answered before that is to be the last answer: where a body ends while one is still being written, hyper
    /// puts its refusal of what comes behind it amid the answer (`on_parse_error` in 1.12 looks for no such thing).
    pub(crate) async fn is_over(&self) -> bool {
        let left = self.left.lock().take();
        let Some(reading) = left else { return true };
        let _ = reading.await;
        self.is_over.load(Ordering::Relaxed)
    }
}

impl Server {
    /// The whole body, or the body unread where the request is to be passed on to somebody.
    pub(crate) async fn take_body(
        &self,
        untaken: Untaken,
        exchange: &Exchange,
    ) -> Result<(Bytes, Option<Sent>), Status> {
        let Some(sent) = untaken.take() else { return Ok((Bytes::new(), None)) };
        let proxied = exchange.info.is_resource() && exchange.info.subresource() == "proxy";
        if proxied || exchange.delegated {
            return Ok((Bytes::new(), Some(sent)));
        }
        let body = self.read_body(sent, &exchange.headers).await?;
        self.metrics.bodies.observe(&exchange.info, body.len(), || self.routes.knows(&exchange.info));
        Ok((body, None))
    }

    async fn read_body(&self, mut sent: Sent, headers: &HeaderMap) -> Result<Bytes, Status> {
        if sent.is_end_stream() {
            return Ok(Bytes::new());
        }
        let limit = self.limits.max_body_bytes;
        let too_large = announced(headers).is_some_and(|length| length > limit as u64);
        let collect = async {
            if too_large {
                discard(&mut sent, limit * DISCARD_FACTOR).await;
                return Err(status::body_too_large(limit));
            }
            match Limited::new(&mut sent, limit).collect().await {
                Ok(collected) => Ok(collected.to_bytes()),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                    discard(&mut sent, limit * DISCARD_FACTOR).await;
                    Err(status::body_too_large(limit))
                }
                Err(_) => Err(Status::bad_request("the body of the request could not be read")),
            }
        };
        let read = timeout(self.limits.body_timeout, collect).await;
        let read = read.unwrap_or_else(|_| Err(status::body_timeout()));
        if read.is_err() {
            drop(sent.is_left());
        }
        read
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads on for a while after a body has turned out too large: a client that is still writing reads no answer.
async fn discard(sent: &mut Sent, mut budget: usize) {
    while let Some(Ok(frame)) = sent.frame().await {
        let read = frame.data_ref().map_or(0, Bytes::len);
        match budget.checked_sub(read) {
            Some(left) => budget = left,
            None => return,
        }
    }
}
