//! TLS in front of a server that cannot ask for client certificates without insisting on them (grpcio).
//!
//! A connection is decrypted here and copied to the server's Unix socket. The copying end is bound to an abstract
//! socket name nobody can guess, which the server sees as its peer: by that name it asks for the certificate.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream, UnixSocket, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_CONNECTIONS: usize = 4_096;
/// Whatever the server does not read or the client does not take waits in these, one for each direction.
const BUFFER: usize = 64 << 10;

type Peers = Mutex<FxHashMap<String, CertificateDer<'static>>>;

/// A listening tunnel; it ends, with its connections, when dropped or closed.
pub struct Tunnel {
    peers: Arc<Peers>,
    stop: watch::Sender<bool>,
}

struct Shared {
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
    /// Serves TLS on a socket that listens already; `upstream` is the path of the server's socket.
    pub fn serve(
        socket: std::net::TcpListener,
        mut config: ServerConfig,
        upstream: PathBuf,
        handle: &Handle,
    ) -> io::Result<Self> {
        config.alpn_protocols = vec![b"h2".to_vec()];
        socket.set_nonblocking(true)?;
        let (stop, stopped) = watch::channel(false);
        let peers = Arc::new(Peers::default());
        let shared = Arc::new(Shared {
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

    /// The certificate shown on the connection from an abstract socket; `None` without one or for a stranger.
    pub fn certificate(&self, name: &str) -> Option<CertificateDer<'static>> {
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
                Ok((socket, _)) => self.admit(socket),
                // Out of file descriptors, most likely: give others time to close.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn admit(self: &Arc<Self>, socket: TcpStream) {
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
                _ = shared.serve(socket) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    }

    async fn serve(&self, socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let mut client = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(socket)).await??;
        let certificate = client.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.map(|certificate| certificate.clone().into_owned());
        let name = format!("{}-{}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed));
        // Known before the server can ask.
        let _registered = certificate.map(|certificate| Registered::new(&self.peers, &name, certificate));
        let mut server = self.connect(&name).await?;
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await?;
        Ok(())
    }

    async fn connect(&self, name: &str) -> io::Result<UnixStream> {
        let socket = UnixSocket::new_stream()?;
        // A leading NUL makes it a name in the abstract name space.
        socket.bind(format!("\0{name}"))?;
        socket.connect(&self.upstream).await
    }
}

/// A connection's certificate, findable while the connection lives.
struct Registered {
    peers: Arc<Peers>,
    name: String,
}

impl Registered {
    fn new(peers: &Arc<Peers>, name: &str, certificate: CertificateDer<'static>) -> Self {
        peers.lock().insert(name.to_owned(), certificate);
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
