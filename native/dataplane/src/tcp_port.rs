//! A virtual service's own listening socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kubecore_core::balance::Picker;
use kubecore_core::clock::Clock;
use socket2::{Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::binding;
use crate::connecting::KEEPALIVE;
use crate::tcp::TcpVirtual;
use crate::wait;

pub(crate) const BACKLOG: i32 = 4096;
/// How long accepting rests when the process has no file descriptor or memory left.
const EXHAUSTED_REST: Duration = Duration::from_millis(20);

/// A bound port that listens while its service has destinations. Bound but not listening, the kernel itself refuses
/// connections, and nobody else can take the port meanwhile.
#[derive(Debug)]
pub(crate) struct TcpPort {
    pub(crate) socket: Socket,
    accepting: Option<AbortHandle>,
}

impl TcpPort {
    /// `beside`: our own sockets have the port at other addresses. `ahead`: see [`binding::bind`]. Errors: what bind(2)
    /// says.
    pub(crate) fn bind(bind: SocketAddr, beside: bool, ahead: bool) -> io::Result<(Self, SocketAddr)> {
        let (socket, address) = if beside {
            (binding::bind_beside(bind, Type::STREAM, ahead)?, bind)
        } else {
            binding::bind(bind, Type::STREAM, ahead)?
        };
        binding::share(&socket)?;
        prepare(&socket)?;
        Ok((Self { socket, accepting: None }, address))
    }

    /// Begin or cease to listen.
    pub(crate) fn set_open(&mut self, open: bool, serving: &Arc<TcpVirtual>, runtime: &Handle) {
        if open == self.accepting.is_some() {
            return;
        }
        if let Some(task) = self.accepting.take() {
            task.abort();
            self.take_waiting(serving, runtime);
            // On a listening socket this undoes listen(2) and keeps the port (see inet_shutdown in Linux).
            let _ = self.socket.shutdown(std::net::Shutdown::Read);
        } else if let Ok(listener) = self.listener(runtime) {
            self.accepting = Some(runtime.spawn(accept(listener, Arc::clone(serving))).abort_handle());
        }
    }

    /// Connections that the kernel has taken and nobody has accepted yet are not to be lost.
    fn take_waiting(&self, serving: &Arc<TcpVirtual>, runtime: &Handle) {
        let (_context, mut picker) = (runtime.enter(), serving.picker());
        while let Ok((client, _)) = self.socket.accept() {
            if let Some((client, peer)) = adopt(client) {
                serving.take(&mut picker, client, peer);
            }
        }
    }

    fn listener(&self, runtime: &Handle) -> io::Result<TcpListener> {
        self.socket.listen(BACKLOG)?;
        let _context = runtime.enter();
        TcpListener::from_std(self.socket.try_clone()?.into())
    }
}

/// What is handed down to the connections that are accepted.
pub(crate) fn prepare(listener: &Socket) -> io::Result<()> {
    listener.set_tcp_nodelay(true)?;
    listener.set_tcp_keepalive(&KEEPALIVE)
}

/// A connection that was not accepted by the runtime, which is to be entered. None: it is over already.
pub(crate) fn adopt(client: Socket) -> Option<(TcpStream, SocketAddr)> {
    client.set_nonblocking(true).ok()?;
    let client = TcpStream::from_std(client.into()).ok()?;
    let peer = client.peer_addr().ok()?;
    Some((client, peer))
}

/// Other errors are of one connection: the client gave up before it was accepted, or its network did.
pub(crate) async fn rest_if_exhausted(error: &io::Error, clock: &Clock) {
    if let Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) = error.raw_os_error() {
        wait::sleep(clock, EXHAUSTED_REST).await;
    }
}

async fn accept(listener: TcpListener, serving: Arc<TcpVirtual>) {
    let mut picker: Picker = serving.picker();
    loop {
        match listener.accept().await {
            Ok((client, peer)) => serving.take(&mut picker, client, peer),
            // No longer listening: the task is about to be aborted.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EBADF)) => return,
            Err(error) => rest_if_exhausted(&error, serving.clock()).await,
        }
    }
}
