//! Listeners, connections, and the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kubecore_front::io::StallGuard;
use kubecore_front::lifespan::{Patience, Phase, live};
use kubecore_front::plain_http;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::client::Client;
use crate::head_guard::HeadGuard;
use crate::proxy;
use crate::relay;
use crate::shared::Shared;

const BACKLOG: i32 = 4096;
/// How long accepting rests when the process has no file descriptor or memory left.
const EXHAUSTED_REST: Duration = Duration::from_millis(20);

/// Binds and listens; the bound address.
pub fn listen(
    shared: &Arc<Shared>,
    address: SocketAddr,
    ahead: bool,
    tls: Option<TlsAcceptor>,
) -> io::Result<SocketAddr> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if ahead {
        if address.is_ipv6() { socket.set_freebind_v6(true)? } else { socket.set_freebind_v4(true)? }
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let _entered = shared.runtime.enter();
    let listener = TcpListener::from_std(socket.into())?;
    let bound = listener.local_addr()?;
    shared.runtime.spawn(accept(Arc::clone(shared), listener, tls));
    Ok(bound)
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let mut phase = shared.phase.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
        };
        match accepted {
            Ok((socket, remote)) => admit(&shared, socket, remote, tls.clone()),
            Err(error) => {
                let exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
                if error.raw_os_error().is_some_and(|code| exhausted.contains(&code)) {
                    tokio::time::sleep(EXHAUSTED_REST).await;
                }
            }
        }
    }
}

/// Starts a connection's task, unless there are too many.
fn admit(shared: &Arc<Shared>, socket: TcpStream, remote: SocketAddr, tls: Option<TlsAcceptor>) {
    let slot = Slot::take(shared);
    if shared.counters.open.load(Relaxed) > shared.options.max_connections {
        return;
    }
    let Ok(local) = socket.local_addr() else { return };
    let shared = Arc::clone(shared);
    shared.runtime.clone().spawn(async move {
        let _slot = slot;
        // The peer may have gone already; the first read tells.
        let _ = socket.set_nodelay(true);
        match tls {
            Some(acceptor) => serve_tls(shared, socket, remote, local, acceptor).await,
            None => serve_plain(shared, socket, remote, local).await,
        }
    });
}

async fn serve_tls(
    shared: Arc<Shared>,
    socket: TcpStream,
    remote: SocketAddr,
    local: SocketAddr,
    acceptor: TlsAcceptor,
) {
    let handshake = async {
        if plain_http::refused(&socket).await {
            return None;
        }
        acceptor.accept(StallGuard::new(socket, shared.options.write_stall_timeout)).await.ok()
    };
    let handshake = tokio::time::timeout(shared.options.handshake_timeout, handshake);
    let Ok(Some(stream)) = handshake.await else { return };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        serve_http2(shared, stream, Client::new(remote, local, true, None)).await;
    } else {
        serve_http1(shared, stream, Client::new(remote, local, true, None)).await;
    }
}

async fn serve_plain(shared: Arc<Shared>, socket: TcpStream, remote: SocketAddr, local: SocketAddr) {
    let by_knowledge = tokio::time::timeout(shared.options.header_timeout, speaks_http2(&socket)).await;
    let Ok(Ok(by_knowledge)) = by_knowledge else { return };
    let socket = StallGuard::new(socket, shared.options.write_stall_timeout);
    if by_knowledge {
        serve_http2(shared, socket, Client::new(remote, local, false, None)).await;
    } else {
        serve_http1(shared, socket, Client::new(remote, local, false, None)).await;
    }
}

/// Whether the client begins with HTTP/2's preface, as gRPC clients without TLS do. Takes nothing from the socket.
async fn speaks_http2(socket: &TcpStream) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    let mut start = [0; PREFACE.len()];
    loop {
        let read = socket.peek(&mut start).await?;
        if read == 0 || read == start.len() || start[..read] != PREFACE[..read] {
            return Ok(read == start.len() && start == PREFACE);
        }
        // What is there already is no news to the reactor.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The relay, and for all that it does not take hyper, from there on.
async fn serve_http1<I>(shared: Arc<Shared>, io: I, client: Arc<Client>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some((read, stream)) = relay::serve(&shared, &client, io, patience(&shared)).await else { return };
    let (stream, head) = HeadGuard::new(stream, read);
    let client = Client::new(client.remote, client.local, client.secure, Some(head));
    serve_unusual(shared, stream, client).await;
}

async fn serve_unusual<I>(shared: Arc<Shared>, io: I, client: Arc<Client>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (own, each) = (shared.clone(), client.clone());
    let service = service_fn(move |request| proxy::answer(own.clone(), each.clone(), request));
    let mut builder = http1::Builder::new();
    // Idleness is watched here (see `live`): one timer for a connection instead of one for each head.
    builder.header_read_timeout(None).max_header_size(shared.options.max_header_bytes);
    let served = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
    live(served, &client.activity, patience(&shared), &shared.phase).await;
}

async fn serve_http2<I>(shared: Arc<Shared>, io: I, client: Arc<Client>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (own, each) = (shared.clone(), client.clone());
    let service = service_fn(move |request| proxy::answer(own.clone(), each.clone(), request));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .max_concurrent_streams(shared.options.max_streams)
        .max_header_list_size(u32::try_from(shared.options.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    let served = builder.serve_connection(TokioIo::new(io), service);
    live(served, &client.activity, patience(&shared), &shared.phase).await;
}

fn patience(shared: &Shared) -> Patience {
    Patience { first: shared.options.header_timeout, next: shared.options.idle_timeout }
}

/// Stops listening, lets requests finish within `grace`, then drops what is left.
pub async fn shutdown(shared: &Shared, grace: Duration) {
    shared.phase.send_replace(Phase::Draining);
    let deadline = tokio::time::Instant::now() + grace;
    while shared.counters.open.load(Acquire) > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shared.phase.send_replace(Phase::Closed);
    shared.pool.forget_all(|_| true);
}

/// A connection counted while its task lives, however it ends.
struct Slot(Arc<Shared>);

impl Slot {
    fn take(shared: &Arc<Shared>) -> Self {
        shared.counters.open.fetch_add(1, AcqRel);
        shared.counters.accepted.fetch_add(1, Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.counters.open.fetch_sub(1, AcqRel);
    }
}
