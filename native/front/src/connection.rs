//! One client connection: who is at its end, whether it is idle, and how long it may be.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::authn::{ClientIdentity, TokenMemo};
use crate::server::{Limits, Phase, Server};
use crate::unread::Answering;

/// What the type of URIs can hold.
const LONGEST_URI: u32 = (1 << 16) - 2;

/// What all requests of a connection share.
pub struct Connection {
    pub remote: SocketAddr,
    /// False on the insecure port.
    pub secure: bool,
    pub identity: Option<ClientIdentity>,
    pub token: TokenMemo,
    opened: Instant,
    /// Requests under way, their bodies included.
    busy: AtomicU32,
    /// When the last one ended, in milliseconds after `opened`; 0 before that.
    last_end: AtomicU64,
}

impl Connection {
    pub fn new(remote: SocketAddr, secure: bool, identity: Option<ClientIdentity>) -> Arc<Self> {
        Arc::new(Self {
            remote,
            secure,
            identity,
            token: TokenMemo::default(),
            opened: Instant::now(),
            busy: AtomicU32::new(0),
            last_end: AtomicU64::new(0),
        })
    }

    /// Counts a request as under way while the result lives.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// How long nothing has been asked, and how long that may last.
    fn idle(&self, limits: &Limits) -> Option<(Duration, Duration)> {
        if self.busy.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let last_end = self.last_end.load(Ordering::Relaxed);
        let allowed = if last_end == 0 { limits.header_timeout } else { limits.idle_timeout };
        let idle = self.opened.elapsed().saturating_sub(Duration::from_millis(last_end));
        Some((idle, allowed))
    }

    /// Completes when the connection has been idle (or busy with half a request head) for too long.
    async fn tired(&self, limits: &Limits) {
        loop {
            let wait = match self.idle(limits) {
                Some((idle, allowed)) if idle >= allowed => return,
                Some((idle, allowed)) => allowed - idle,
                None => limits.header_timeout.min(limits.idle_timeout),
            };
            tokio::time::sleep(wait.max(Duration::from_millis(10))).await;
        }
    }
}

/// A request under way.
pub struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        let since = self.0.opened.elapsed().as_millis().max(1);
        self.0.last_end.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What both protocol versions can do.
trait Served: Future<Output = Result<(), hyper::Error>> {
    fn wind_down(self: Pin<&mut Self>);
}

impl<I, S> Served for http1::UpgradeableConnection<I, S>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = crate::body::Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    fn wind_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Served for http2::Connection<I, S, TokioExecutor>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = crate::body::Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    TokioExecutor: hyper::rt::bounds::Http2ServerConnExec<S::Future, crate::body::Body>,
{
    fn wind_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Serves requests until the client goes, the connection tires, or the server ends.
pub async fn serve<I>(server: Arc<Server>, io: I, connection: Arc<Connection>, use_http2: bool)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = server.limits.clone();
    let (chain, own) = (server.clone(), connection.clone());
    let service = service_fn(move |request| chain.answer(&own, request));
    if use_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_streams)
            // Beyond it the answer is 431. No more than a URI may have, whose end would be told as a broken protocol.
            .max_header_list_size(LONGEST_URI)
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .keep_alive_timeout(Duration::from_secs(20));
        live(&server, &connection, builder.serve_connection(TokioIo::new(io), service)).await;
    } else {
        let mut builder = http1::Builder::new();
        builder.header_read_timeout(None).max_buf_size(limits.max_header_bytes.max(64 * 1024));
        let io = TokioIo::new(Answering::new(io));
        live(&server, &connection, builder.serve_connection(io, service).with_upgrades()).await;
    }
}

async fn live(server: &Server, connection: &Connection, served: impl Served) {
    let mut served = pin!(served);
    let mut phase = server.phase.subscribe();
    let mut tired = pin!(connection.tired(&server.limits));
    let mut winding_down = false;
    loop {
        tokio::select! {
            biased;
            _ = served.as_mut() => return,
            () = &mut tired => return,
            changed = phase.wait_for(|phase| if winding_down { *phase == Phase::Closed } else { *phase != Phase::Serving }) => {
                if changed.is_err() || winding_down {
                    return;
                }
                winding_down = true;
            }
        }
        served.as_mut().wind_down();
    }
}
