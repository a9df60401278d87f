//! The server as a whole: what all connections share, listeners, and the end.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use kubecore_core::clock::Clock;
use kubecore_core::rbac::PolicyStore;
use kubecore_outgoing::{Peer, Pool};
use parking_lot::RwLock;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::audit::Audit;
use crate::authn::{Authenticator, ClientIdentity, ObjectLookup};
use crate::authz::Authorizer;
use crate::connection::{self, Connection};
use crate::delegation::Delegation;
use crate::flow::Flow;
use crate::handoff::{Callback, Handoff, Pending};
use crate::hands::{Hands, Measure};
use crate::health::Health;
use crate::inflight::InFlight;
use crate::io::StallGuard;
use crate::judged::Judged;
use crate::lifespan::Phase;
use crate::metrics::Metrics;
use crate::passes::Passes;
use crate::plain_http;
use crate::request_body::Sent;
use crate::routes::RouteTable;
use crate::tracing::Tracing;

/// Bounds on what a client may take.
#[derive(Clone, Debug)]
pub struct Limits {
    pub max_body_bytes: usize,
    pub max_header_bytes: usize,
    pub max_connections: usize,
    /// Concurrent HTTP/2 streams of a connection.
    pub max_streams: u32,
    pub handshake_timeout: Duration,
    /// From opening a connection to the end of its first request head.
    pub header_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
    pub body_timeout: Duration,
    /// How long the body of a request that is answered without it is read on.
    pub unwanted_body_timeout: Duration,
    /// A client that reads nothing for so long is dropped.
    pub write_stall_timeout: Duration,
    /// A watch without timeoutSeconds lasts between this and twice this.
    pub min_watch: Duration,
    /// Requests that Python works at together: more would make a commit of the store only a little cheaper for each.
    pub in_hand: Measure,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 3 << 20,
            // As Go's server has it.
            max_header_bytes: (1 << 20) + 4096,
            max_connections: 16_384,
            max_streams: 1_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(32),
            idle_timeout: Duration::from_secs(90),
            body_timeout: Duration::from_secs(60),
            unwanted_body_timeout: Duration::from_secs(1),
            write_stall_timeout: Duration::from_secs(30),
            min_watch: Duration::from_secs(1800),
            in_hand: Measure { usual: 32, in_company: 8, patience: Duration::from_millis(10) },
        }
    }
}

/// Text that somebody else adds to `/metrics`; called on a thread that may block.
#[derive(Clone)]
pub struct MetricsSource {
    pub render: Arc<dyn Fn() -> Vec<u8> + Send + Sync>,
    /// Nothing is told beside them: of a server that is no API server.
    pub alone: bool,
}

pub struct Server {
    pub limits: Limits,
    pub clock: Clock,
    pub routes: RouteTable,
    pub(crate) pool: Pool<Peer, Sent>,
    /// What others serve.
    pub delegation: Delegation,
    pub authenticator: Arc<Authenticator>,
    pub authorizer: Arc<Authorizer>,
    pub handoff: Handoff,
    pub health: Health,
    pub metrics: Metrics,
    pub judged: Judged,
    pub audit: Audit,
    pub tracing: Tracing,
    pub inflight: InFlight,
    pub flow: Flow,
    pub(crate) passes: Passes,
    pub metrics_source: RwLock<Option<MetricsSource>>,
    /// The body of `/version`.
    pub version: ArcSwap<Bytes>,
    /// Who is nobody gets plain text, as from a kubelet.
    pub terse: AtomicBool,
    pub phase: watch::Sender<Phase>,
    connections: AtomicUsize,
    handle: Handle,
}

impl Server {
    pub fn new(
        limits: Limits,
        clock: Clock,
        lookup: Arc<dyn ObjectLookup>,
        policy: Arc<PolicyStore>,
        handle: Handle,
    ) -> io::Result<Arc<Self>> {
        let handoff = Handoff::new(Hands::new(limits.in_hand))?;
        Ok(Arc::new(Self {
            limits,
            authenticator: Arc::new(Authenticator::new(clock.clone(), lookup)),
            authorizer: Arc::new(Authorizer::new(policy, clock.clone())),
            clock,
            routes: RouteTable::default(),
            pool: Pool::default(),
            delegation: Delegation::default(),
            handoff,
            health: Health::default(),
            metrics: Metrics::default(),
            judged: Judged::default(),
            audit: Audit::default(),
            tracing: Tracing::default(),
            inflight: InFlight::default(),
            flow: Flow::default(),
            passes: Passes::default(),
            metrics_source: RwLock::new(None),
            version: ArcSwap::from_pointee(Bytes::from_static(b"{}")),
            terse: AtomicBool::new(false),
            phase: watch::Sender::new(Phase::Serving),
            connections: AtomicUsize::new(0),
            handle,
        }))
    }

    /// Serves HTTPS; the bound port.
    pub fn listen_tls(self: &Arc<Self>, host: &str, port: u16, config: ServerConfig) -> io::Result<u16> {
        self.listen(bind(host, port)?, Some(TlsAcceptor::from(Arc::new(config))))
    }

    /// Serves HTTPS on a socket that listens already.
    pub fn listen_tls_on(
        self: &Arc<Self>,
        socket: std::net::TcpListener,
        config: ServerConfig,
    ) -> io::Result<u16> {
        socket.set_nonblocking(true)?;
        self.listen(socket, Some(TlsAcceptor::from(Arc::new(config))))
    }

    /// Serves the insecure port, on loopback addresses only (`InvalidInput` for others).
    pub fn listen_plain(self: &Arc<Self>, host: &str, port: u16) -> io::Result<u16> {
        let socket = bind(host, port)?;
        if !socket.local_addr()?.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the insecure port is for loopback addresses only",
            ));
        }
        self.listen(socket, None)
    }

    fn listen(self: &Arc<Self>, socket: std::net::TcpListener, tls: Option<TlsAcceptor>) -> io::Result<u16> {
        let port = socket.local_addr()?.port();
        let _entered = self.handle.enter();
        let listener = TcpListener::from_std(socket)?;
        self.handle.spawn(self.clone().accept(listener, tls));
        Ok(port)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, tls: Option<TlsAcceptor>) {
        let mut phase = self.phase.subscribe();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
            };
            match accepted {
                Ok((socket, remote)) => self.admit(socket, remote, tls.clone()),
                // Out of file descriptors, most likely: give others time to close.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Starts a connection's task, unless there are too many.
    fn admit(self: &Arc<Self>, socket: TcpStream, remote: SocketAddr, tls: Option<TlsAcceptor>) {
        let slot = Slot::take(self);
        if self.connections.load(Ordering::Relaxed) > self.limits.max_connections {
            return;
        }
        let server = self.clone();
        self.handle.spawn(async move {
            let _slot = slot;
            // The peer may have gone already; the first read tells.
            let _ = socket.set_nodelay(true);
            match tls {
                Some(acceptor) => server.serve_tls(socket, remote, acceptor).await,
                None => {
                    let socket = StallGuard::new(socket, server.limits.write_stall_timeout);
                    let connection = Connection::new(remote, false, None, false, socket.unhurried());
                    connection::serve(server, socket, connection).await;
                }
            }
        });
    }

    async fn serve_tls(self: Arc<Self>, socket: TcpStream, remote: SocketAddr, acceptor: TlsAcceptor) {
        if let Some(stream) = self.secured(socket, &acceptor).await {
            let connection = met(&stream, remote);
            connection::serve(self, stream, connection).await;
        }
    }

    /// None where the handshake fails, and of whoever speaks no TLS.
    pub(crate) async fn secured(
        &self,
        socket: TcpStream,
        acceptor: &TlsAcceptor,
    ) -> Option<TlsStream<StallGuard>> {
        // None: told that TLS is spoken here, which is no failure of a handshake.
        let handshake = async {
            if plain_http::refused(&socket).await {
                return Ok(None);
            }
            let socket = StallGuard::new(socket, self.limits.write_stall_timeout);
            acceptor.accept(socket).into_fallible().await.map(Some)
        };
        let failed = match tokio::time::timeout(self.limits.handshake_timeout, handshake).await {
            Ok(Ok(stream)) => return stream,
            Ok(Err((_, socket))) => Some(socket),
            Err(_) => None,
        };
        // Before the client sees that the connection has ended.
        self.metrics.strangers.fetch_add(1, Ordering::Relaxed);
        drop(failed);
        None
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// As `Handoff::drain`. That these requests came is where the audit has it before they go on: one write for all. A log
    /// that takes nothing holds Python up here, as it does where Python itself tells it of something.
    pub fn drain(&self, limit: usize) -> (Vec<Callback>, Vec<Box<Pending>>) {
        let (callbacks, requests) = self.handoff.drain(limit);
        if !requests.is_empty() {
            self.audit.settle();
        }
        (callbacks, requests)
    }

    /// Stops listening, ends watches, lets requests finish within `grace`, then drops what is left.
    pub async fn shutdown(&self, grace: Duration) {
        self.health.shutting_down();
        self.phase.send_replace(Phase::Draining);
        let deadline = tokio::time::Instant::now() + grace;
        while self.connections.load(Ordering::Acquire) > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.phase.send_replace(Phase::Closed);
    }
}

/// Who is at the other end, by what was shown in the handshake.
pub(crate) fn met(stream: &TlsStream<StallGuard>, remote: SocketAddr) -> Arc<Connection> {
    let (socket, session) = stream.get_ref();
    let use_http2 = session.alpn_protocol() == Some(b"h2");
    let identity = session.peer_certificates().filter(|chain| !chain.is_empty()).map(|chain| {
        ClientIdentity::new(chain.iter().map(|certificate| certificate.clone().into_owned()).collect())
    });
    Connection::new(remote, true, identity, use_http2, socket.unhurried())
}

/// A connection counted while its task lives, however it ends.
struct Slot(Arc<Server>);

impl Slot {
    fn take(server: &Arc<Server>) -> Self {
        server.connections.fetch_add(1, Ordering::AcqRel);
        Self(server.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

pub(crate) fn bind(host: &str, port: u16) -> io::Result<std::net::TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in (host, port).to_socket_addrs()? {
        match bind_address(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_address(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}
