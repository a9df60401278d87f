//! The TCP side of a virtual service: accept, pick, connect, carry.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use kubecore_core::balance::{Connection, Destination, Flow, VirtualService};
use parking_lot::Mutex;
use socket2::{SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::binding;
use crate::forwarder::Shared;
use crate::proxy_protocol::ProxyProtocol;
use crate::pump::{pump, reset};
use crate::wait;

const BACKLOG: i32 = 4096;
/// How long accepting rests when the process has no file descriptor or memory left.
const EXHAUSTED_REST: Duration = Duration::from_millis(20);
/// A peer that vanished without a word is noticed after about two minutes.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// A bound port that listens while its service has destinations. Bound but not listening, the kernel itself refuses
/// connections, and nobody else can take the port meanwhile.
#[derive(Debug)]
pub(crate) struct TcpVirtual {
    socket: Socket,
    address: SocketAddr,
    service: Arc<VirtualService>,
    shared: Arc<Shared>,
    proxy_protocol: Option<ProxyProtocol>,
    accepting: Mutex<Option<AbortHandle>>,
    /// The service's destinations are others now.
    changed: Notify,
}

impl TcpVirtual {
    pub(crate) fn bind(
        bind: SocketAddr,
        service: Arc<VirtualService>,
        shared: Arc<Shared>,
        proxy_protocol: Option<ProxyProtocol>,
    ) -> io::Result<Arc<Self>> {
        let (socket, address) = binding::bind(bind, Type::STREAM)?;
        let (accepting, changed) = (Mutex::default(), Notify::new());
        Ok(Arc::new(Self { socket, address, service, shared, proxy_protocol, accepting, changed }))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The destinations have changed.
    pub(crate) fn follow(self: &Arc<Self>) {
        self.set_open(self.service.serving());
        self.changed.notify_waiters();
    }

    /// Begin or cease to listen.
    pub(crate) fn set_open(self: &Arc<Self>, open: bool) {
        let mut accepting = self.accepting.lock();
        if open == accepting.is_some() {
            return;
        }
        if let Some(task) = accepting.take() {
            task.abort();
            // On a listening socket this undoes listen(2) and keeps the port (see inet_shutdown in Linux).
            let _ = self.socket.shutdown(std::net::Shutdown::Read);
        } else if let Ok(listener) = self.listener() {
            let serving = Arc::clone(self);
            *accepting = Some(self.shared.runtime.spawn(accept(listener, serving)).abort_handle());
        }
    }

    fn listener(&self) -> io::Result<TcpListener> {
        self.socket.listen(BACKLOG)?;
        let _context = self.shared.runtime.enter();
        TcpListener::from_std(self.socket.try_clone()?.into())
    }

    /// Have a destination take the connection: others are tried when one cannot be reached.
    async fn reach(&self, flow: &Flow) -> Option<(TcpStream, Connection)> {
        let shared = &self.shared;
        let mut failed = Vec::new();
        while failed.len() < shared.options.attempts {
            let now = wait::now(&shared.clock);
            let connection = self.service.connect_excluding(flow, now, &failed)?;
            match self.attempt(connection.destination()).await {
                Ok(stream) => return Some((stream, connection)),
                Err(Miss::Failed) => failed.push(connection.destination().address()),
                // It has not failed and may come back. Whoever removes it may still be at it.
                Err(Miss::Removed) => tokio::task::yield_now().await,
            }
            shared.counters.retried.fetch_add(1, Relaxed);
        }
        None
    }

    /// A destination that is removed meanwhile is left at once: whoever hangs on it is to go elsewhere.
    async fn attempt(&self, destination: &Destination) -> Result<TcpStream, Miss> {
        let Shared { clock, options, .. } = &*self.shared;
        let mut connecting =
            pin!(wait::timeout(clock, options.connect_timeout, TcpStream::connect(destination.address())));
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if destination.removed() {
                return Err(Miss::Removed);
            }
            tokio::select! {
                biased;
                stream = &mut connecting => return match stream {
                    _ if destination.removed() => Err(Miss::Removed),
                    Some(Ok(stream)) => Ok(stream),
                    Some(Err(_)) | None => Err(Miss::Failed),
                },
                () = changed => {}
            }
        }
    }

    /// Tell the destination who the client is, if it wants to know: there is always room for the first bytes.
    fn introduce(&self, client: SocketAddr, target: SocketAddr, server: &TcpStream) -> io::Result<()> {
        let Some(protocol) = self.proxy_protocol else { return Ok(()) };
        let header = protocol.header(client, target);
        let sent = SockRef::from(server).send(&header)?;
        if sent == header.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    async fn serve(self: Arc<Self>, client: TcpStream, peer: SocketAddr, id: u64) {
        let target = client.local_addr().unwrap_or(self.address);
        let flow = Flow::new(peer, target.ip());
        let _closing = Closing { shared: &self.shared, id };
        let Some((server, connection)) = self.reach(&flow).await else {
            self.shared.counters.refused.fetch_add(1, Relaxed);
            reset(&client);
            return;
        };
        self.shared.connections.sent_to(id, connection.destination().address());
        for stream in [&client, &server] {
            let _ = stream.set_nodelay(true);
            let _ = SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE);
        }
        if self.introduce(peer, target, &server).is_err() {
            reset(&client);
            return;
        }
        let connection = pump(client, server, connection).await;
        connection.close(wait::now(&self.shared.clock));
    }
}

/// Why an attempt to reach a destination came to nothing.
enum Miss {
    Failed,
    Removed,
}

/// Strikes the connection off the list, also when its task is aborted.
struct Closing<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.shared.connections.close(self.id);
    }
}

async fn accept(listener: TcpListener, serving: Arc<TcpVirtual>) {
    let shared = Arc::clone(&serving.shared);
    loop {
        match listener.accept().await {
            Ok((client, peer)) => {
                shared.counters.accepted.fetch_add(1, Relaxed);
                let id = shared.connections.open(peer, serving.address);
                let task = shared.runtime.spawn(Arc::clone(&serving).serve(client, peer, id));
                shared.connections.carried_by(id, task.abort_handle());
            }
            Err(error) => match error.raw_os_error() {
                // No longer listening: the task is about to be aborted.
                Some(libc::EINVAL | libc::EBADF) => return,
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    wait::sleep(&shared.clock, EXHAUSTED_REST).await;
                }
                // The client gave up before it was accepted, or its network did.
                _ => {}
            },
        }
    }
}
