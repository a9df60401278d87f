//! One client connection: who is at its end, and which protocol it is served by.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use crate::audit;
use crate::authn::{ClientIdentity, TokenMemo};
use crate::lifespan::{self, Activity, Patience, Phase, live};
use crate::long_uris::LongUris;
use crate::outflow::Outflow;
use crate::request_body::{Sent, Unwanted};
use crate::request_info::RequestInfo;
use crate::server::{Limits, Server};
use crate::unread::Answering;

/// Of a head of HTTP/1.1. Those of HTTP/2 are bounded by their bytes.
pub(crate) const MOST_FIELDS: usize = 2_000;
/// Of a head of HTTP/2, its fields counted as RFC 9113 does: with 32 bytes more each. Beyond twice as much there could be
/// more of them than the type of headers can hold.
const LARGEST_LIST: u32 = 128 << 10;

/// A request under way.
pub type Busy = lifespan::Busy<Connection>;

/// What all requests of a connection share.
pub struct Connection {
    pub remote: SocketAddr,
    /// False on the insecure port.
    pub secure: bool,
    pub identity: Option<ClientIdentity>,
    pub token: TokenMemo,
    pub activity: Activity,
    /// Of HTTP/1.1 alone: HTTP/2 has windows.
    pub outflow: Option<Outflow>,
    pub(crate) unwanted: Unwanted,
    /// What is asked ends with its client, as a watch does. Of HTTP/1.1.
    lasting: AtomicBool,
    unhurried: Arc<AtomicBool>,
}

impl Connection {
    pub fn new(
        remote: SocketAddr,
        secure: bool,
        identity: Option<ClientIdentity>,
        use_http2: bool,
        unhurried: Arc<AtomicBool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            remote,
            secure,
            identity,
            token: TokenMemo::default(),
            activity: Activity::default(),
            outflow: (!use_http2).then(Outflow::default),
            unwanted: Unwanted::default(),
            lasting: AtomicBool::new(false),
            unhurried,
        })
    }

    /// Somebody asks whom nobody knows. With HTTP/2, of which much can be asked at little cost, that is all he may ask on
    /// this connection (apiserver `pkg/endpoints/filters/authentication.go`, UnauthenticatedHTTP2DOSMitigation).
    pub fn asked_by_stranger(&self) {
        if self.outflow.is_none() {
            self.activity.part();
        }
    }

    pub fn asked_for(&self, info: &RequestInfo) {
        self.lasting.store(audit::lasts(info), Ordering::Relaxed);
    }

    /// Whether there is to be an answer for who says nothing more.
    pub fn owes_an_answer(&self) -> bool {
        let is_asked = self.outflow.as_ref().is_some_and(Outflow::owes_an_answer);
        is_asked && !self.lasting.load(Ordering::Relaxed)
    }

    /// It speaks another protocol from now on.
    pub fn switched(&self) {
        self.unhurried.store(true, Ordering::Relaxed);
        if let Some(outflow) = &self.outflow {
            outflow.switched();
        }
    }
}

impl AsRef<Activity> for Connection {
    fn as_ref(&self) -> &Activity {
        &self.activity
    }
}

/// Serves requests until the client goes, the connection tires, or the server ends.
pub async fn serve<I>(server: Arc<Server>, io: I, connection: Arc<Connection>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = server.limits.clone();
    let patience = Patience { first: limits.header_timeout, next: limits.idle_timeout };
    let (chain, own) = (server.clone(), connection.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        chain.answer(&own, request.map(|incoming| Sent::by(&own, incoming)))
    });
    if connection.outflow.is_none() {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_streams)
            // Beyond it the answer is 431.
            .max_header_list_size(LARGEST_LIST)
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .keep_alive_timeout(Duration::from_secs(20));
        let served = builder.serve_connection(TokioIo::new(LongUris::new(io)), service);
        live(served, &connection.activity, patience, &server.phase).await;
    } else {
        let mut builder = http1::Builder::new();
        // It bounds what is held for writing, too (see `Outflow`).
        builder.header_read_timeout(None).max_buf_size(limits.max_header_bytes.max(64 * 1024));
        let (mut io, mut left) = Answering::new(io, connection.clone(), limits.max_header_bytes);
        loop {
            let served = builder.serve_connection(TokioIo::new(io), service.clone()).with_upgrades();
            let is_over = live(served, &connection.activity, patience, &server.phase).await;
            match (is_over, left.try_recv()) {
                (true, Ok(rest)) if rest.has_outgrown() => {
                    builder.max_headers(MOST_FIELDS);
                    (io, left) = rest.again();
                }
                (true, Ok(rest)) => return finish(rest, &limits, &server.phase).await,
                _ => return,
            }
        }
    }
}

/// Lets a refusal that hyper has not waited for arrive.
async fn finish<I>(mut refusing: Answering<I>, limits: &Limits, phase: &watch::Sender<Phase>)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut phase = phase.subscribe();
    tokio::select! {
        _ = tokio::time::timeout(limits.idle_timeout, refusing.shutdown()) => {}
        _ = phase.wait_for(|phase| *phase == Phase::Closed) => {}
    }
}

#[cfg(test)]
mod tests;
