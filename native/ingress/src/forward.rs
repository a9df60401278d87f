//! A request on its way to a destination, and to another one where the first cannot take it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kubecore_core::balance::{Connection, Flow};
use smallvec::SmallVec;

use crate::answers;
use crate::backend::{Backend, Protocol, Terms};
use crate::body::{AnswerBody, Exchange, RequestBody};
use crate::channel::{self, Channel, Failure};
use crate::client::{Busy, Client};
use crate::headers;
use crate::record::Record;
use crate::shared::Shared;

/// Connections that turn out to be closed when they are used do not count as attempts; there is an end to it all the same.
pub const MOST_STALE: usize = 16;

type Outgoing = Request<RequestBody>;

/// Destinations that were tried in vain.
pub type Tried = SmallVec<[SocketAddr; 4]>;

/// What one attempt came to.
enum Attempt {
    Answered(Response<Incoming>, Option<Channel>),
    /// The destination cannot be reached.
    Unreachable(Outgoing, io::Error),
    Failed(Failure, /* on a connection that had been used before */ bool),
}

/// What is needed for one request.
pub struct Forwarding {
    pub shared: Arc<Shared>,
    pub client: Arc<Client>,
    pub backend: Arc<Backend>,
    pub terms: Arc<Terms>,
    pub record: Record,
    pub busy: Busy,
}

impl Forwarding {
    pub async fn answer(mut self, parts: Parts, body: RequestBody) -> Response<AnswerBody> {
        // Only what can be sent twice without doing anything twice.
        let spare = (body.is_end_stream() && parts.method.is_idempotent()).then(|| parts.clone());
        let mut request = Request::from_parts(parts, body);
        let mut tried = Tried::new();
        let mut stale = 0;
        let mut last = (StatusCode::SERVICE_UNAVAILABLE, "no destination".to_owned());
        while tried.len() < self.shared.options.attempts && stale < MOST_STALE {
            let Some(connection) = self.pick(&tried) else { break };
            let address = connection.destination().address();
            self.record.sent_to(address);
            let (failure, used) = match self.attempt(address, request).await {
                Attempt::Answered(response, channel) => return self.answered(response, channel, connection),
                Attempt::Unreachable(unsent, error) => {
                    request = unsent;
                    last = (unreachable(&error), format!("{address}: {error}"));
                    self.retry(&mut tried, address);
                    continue;
                }
                Attempt::Failed(failure, used) => (failure, used),
            };
            drop(connection);
            request = match failure {
                Failure::Unsent(unsent) => *unsent,
                Failure::Client => {
                    let why = "the request's body is malformed or was broken off";
                    return answers::own(StatusCode::BAD_REQUEST, why, true, self.record, self.busy);
                }
                Failure::TimedOut => {
                    let why = format!("{address}: no answer in time");
                    return answers::own(StatusCode::GATEWAY_TIMEOUT, &why, false, self.record, self.busy);
                }
                Failure::Broken(error) => {
                    last = (StatusCode::BAD_GATEWAY, format!("{address}: {error}"));
                    let Some(parts) = &spare else { break };
                    Request::from_parts(parts.clone(), RequestBody::empty())
                }
            };
            if used {
                stale += 1;
                self.shared.counters.retries.fetch_add(1, Relaxed);
            } else {
                self.retry(&mut tried, address);
            }
        }
        answers::own(last.0, &last.1, false, self.record, self.busy)
    }

    /// A destination that has not been tried yet.
    pub fn pick(&self, tried: &[SocketAddr]) -> Option<Connection> {
        let flow = Flow::new(self.client.remote, self.client.local.ip());
        self.backend.service.connect_excluding(&flow, self.shared.now(), tried)
    }

    pub fn retry(&self, tried: &mut Tried, address: SocketAddr) {
        tried.push(address);
        self.shared.counters.retries.fetch_add(1, Relaxed);
    }

    async fn attempt(&self, address: SocketAddr, request: Outgoing) -> Attempt {
        match self.terms.protocol {
            Protocol::Http1 => self.attempt_http1(address, request).await,
            Protocol::Http2 => self.attempt_http2(address, request).await,
        }
    }

    async fn attempt_http1(&self, address: SocketAddr, request: Outgoing) -> Attempt {
        let (options, peer) = (&self.shared.options, self.terms.peer(address));
        let pooled =
            std::future::poll_fn(|cx| std::task::Poll::Ready(self.shared.pool.channels.take(&peer, cx)))
                .await;
        let mut channel = match pooled {
            Some(channel) => channel,
            None => {
                let opened = match self.terms.connect(address).await {
                    Ok(stream) => Channel::open(stream, peer, options.max_header_bytes).await,
                    Err(error) => Err(error),
                };
                match opened {
                    Ok(channel) => channel,
                    Err(error) => return Attempt::Unreachable(request, error),
                }
            }
        };
        let used = channel.used;
        match channel.send(request, self.terms.read_timeout).await {
            Ok(response) => Attempt::Answered(response, Some(channel)),
            Err(failure) => Attempt::Failed(failure, used),
        }
    }

    async fn attempt_http2(&self, address: SocketAddr, request: Outgoing) -> Attempt {
        let peer = self.terms.peer(address);
        let shared = self.shared.pool.shared(&peer);
        let used = shared.is_some();
        let mut sender = match shared {
            Some(sender) => sender,
            None => match self.open_http2(address).await {
                Ok(sender) => sender,
                Err(error) => return Attempt::Unreachable(request, error),
            },
        };
        let sending = async {
            if sender.ready().await.is_err() {
                return Err(Failure::Unsent(Box::new(request)));
            }
            sender.try_send_request(request).await.map_err(channel::failure)
        };
        match tokio::time::timeout(self.terms.read_timeout, sending).await {
            Ok(Ok(response)) => Attempt::Answered(response, None),
            Ok(Err(failure)) => {
                if !matches!(failure, Failure::Client) {
                    self.shared.pool.forget(&peer);
                }
                Attempt::Failed(failure, used)
            }
            Err(_) => Attempt::Failed(Failure::TimedOut, used),
        }
    }

    async fn open_http2(&self, address: SocketAddr) -> io::Result<http2::SendRequest<RequestBody>> {
        let options = &self.shared.options;
        let stream = self.terms.connect(address).await?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .max_header_list_size(u32::try_from(options.max_header_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(Some(std::time::Duration::from_secs(30)))
            .keep_alive_timeout(std::time::Duration::from_secs(20));
        let handshake =
            tokio::time::timeout(self.terms.connect_timeout, builder.handshake(TokioIo::new(stream)));
        let (sender, driver) = handshake
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
            .map_err(io::Error::other)?;
        // Its requests are told when it breaks.
        self.shared.runtime.spawn(async move { drop(driver.await) });
        self.shared.pool.share(self.terms.peer(address), sender.clone());
        Ok(sender)
    }

    fn answered(
        mut self,
        response: Response<Incoming>,
        channel: Option<Channel>,
        connection: Connection,
    ) -> Response<AnswerBody> {
        let (mut parts, incoming) = response.into_parts();
        // What the destination speaks is not what the client speaks.
        parts.version = Version::HTTP_11;
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let why = "the destination switches protocols without having been asked";
            return answers::own(StatusCode::BAD_GATEWAY, why, false, self.record, self.busy);
        }
        headers::strip_hop_by_hop(&mut parts.headers);
        parts.extensions.clear();
        self.record.status = parts.status.as_u16();
        let exchange = Exchange { shared: self.shared, channel, connection };
        Response::from_parts(
            parts,
            AnswerBody::of_destination(incoming, exchange, self.record, self.busy, self.terms.read_timeout),
        )
    }
}

/// What a client is told about a destination that cannot be reached.
pub fn unreachable(error: &io::Error) -> StatusCode {
    if error.kind() == io::ErrorKind::TimedOut {
        StatusCode::GATEWAY_TIMEOUT
    } else {
        StatusCode::BAD_GATEWAY
    }
}
