//! TLS in front of a server that cannot ask for client certificates without insisting on them (grpcio).
//!
//! A connection is decrypted here and copied to the server's Unix socket. The copying end is bound to an abstract
//! socket name nobody can guess, which the server sees as its peer: by that name it asks for the connection, which knows
//! its address and the certificates shown on it. Where nothing is asked on one for too long it ends (`lifespan`).

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream, UnixSocket, UnixStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::connection::Connection;
use crate::lifespan::Patience;
use crate::server::{Server, met};

const MAX_CONNECTIONS: usize = 4_096;
/// Whatever the server does not read or the client does not take waits in these, one for each direction.
const BUFFER: usize = 64 << 10;
/// By which part of `Limits::idle_timeout` later a connection is cut: the server behind parts with its client in its own
/// way before.
const PARTING: u32 = 8;

type Peers = Mutex<FxHashMap<String, Arc<Connection>>>;

/// A listening tunnel; it ends, with its connections, when dropped or closed.
pub struct Tunnel {
    peers: Arc<Peers>,
    stop: watch::Sender<bool>,
}

struct Shared {
    server: Arc<Server>,
    acceptor: TlsAcceptor,
    upstream: PathBuf,
    peers: Arc<Peers>,
    /// Random, so that no other process can have bound our next name.
    prefix: String,
    next: AtomicU64,
    connections: AtomicUsize,
    stopped: watch::Receiver<bool>,
}

impl Tunnel {
    /// Serves TLS on a socket that listens already, within the limits of `server`; `upstream` is the path of the socket
    /// of the server behind.
    pub fn serve(
        server: Arc<Server>,
        socket: std::net::TcpListener,
        mut config: ServerConfig,
        upstream: PathBuf,
    ) -> io::Result<Self> {
        config.alpn_protocols = vec![b"h2".to_vec()];
        socket.set_nonblocking(true)?;
        let (stop, stopped) = watch::channel(false);
        let peers = Arc::new(Peers::default());
        let handle = server.handle().clone();
        let shared = Arc::new(Shared {
            server,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            upstream,
            peers: peers.clone(),
            prefix: format!("kubecore-{:032x}", rand::random::<u128>()),
            next: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            stopped,
        });
        let _entered = handle.enter();
        let listener = TcpListener::from_std(socket)?;
        handle.spawn(shared.accept(listener));
        Ok(Self { peers, stop })
    }

    /// The connection from an abstract socket; `None` for a stranger.
    pub fn connection(&self, name: &str) -> Option<Arc<Connection>> {
        self.peers.lock().get(name).cloned()
    }

    /// Stops listening and ends the connections.
    pub fn close(&self) {
        self.stop.send_replace(true);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut stopped = self.stopped.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopped.wait_for(|stopped| *stopped) => return,
            };
            match accepted {
                Ok((socket, remote)) => self.admit(socket, remote),
                // Out of file descriptors, most likely: give others time to close.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn admit(self: &Arc<Self>, socket: TcpStream, remote: SocketAddr) {
        let slot = Slot::take(self);
        if self.connections.load(Ordering::Relaxed) > MAX_CONNECTIONS {
            return;
        }
        let shared = self.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let mut stopped = shared.stopped.clone();
            // A broken connection is the client's loss; there is nobody to tell.
            tokio::select! {
                _ = shared.serve(socket, remote) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    }

    async fn serve(&self, socket: TcpStream, remote: SocketAddr) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let Some(mut client) = self.server.secured(socket, &self.acceptor).await else { return Ok(()) };
        let connection = met(&client, remote);
        let name = format!("{}-{}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed));
        // Known before the server can ask.
        let _registered = Registered::new(&self.peers, &name, connection.clone());
        let mut behind = self.connect(&name).await?;
        let limits = &self.server.limits;
        let patience = Patience {
            first: limits.header_timeout,
            next: limits.idle_timeout + limits.idle_timeout / PARTING,
        };
        tokio::select! {
            copied = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut behind, BUFFER, BUFFER) => copied.map(|_| ()),
            () = connection.activity.tired(patience) => Ok(()),
        }
    }

    async fn connect(&self, name: &str) -> io::Result<UnixStream> {
        let socket = UnixSocket::new_stream()?;
        // A leading NUL makes it a name in the abstract name space.
        socket.bind(format!("\0{name}"))?;
        socket.connect(&self.upstream).await
    }
}

/// A connection, findable while it lives.
struct Registered {
    peers: Arc<Peers>,
    name: String,
}

impl Registered {
    fn new(peers: &Arc<Peers>, name: &str, connection: Arc<Connection>) -> Self {
        peers.lock().insert(name.to_owned(), connection);
        Self { peers: peers.clone(), name: name.to_owned() }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.peers.lock().remove(&self.name);
    }
}

/// A connection counted while its task lives, however it ends.
struct Slot(Arc<Shared>);

impl Slot {
    fn take(shared: &Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        Self(shared.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
