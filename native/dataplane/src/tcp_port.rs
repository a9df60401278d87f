//! A virtual service's own listening socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kubecore_core::balance::Picker;
use kubecore_core::clock::Clock;
use parking_lot::Mutex;
use rustix::net::SocketFlags;
use socket2::{Socket, Type};

use crate::binding;
use crate::connecting::KEEPALIVE;
use crate::forwarder::Shared;
use crate::relays::{Door, Place};
use crate::tcp::TcpVirtual;
use crate::wait;

pub(crate) const BACKLOG: i32 = 4096;
/// How long accepting rests when the process has no file descriptor or memory left.
const EXHAUSTED_REST: Duration = Duration::from_millis(20);

/// A bound port that listens while its service has destinations. Bound but not listening, the kernel itself refuses
/// connections, and nobody else can take the port meanwhile.
#[derive(Debug)]
pub(crate) struct TcpPort {
    pub(crate) socket: Arc<Socket>,
    open: Option<Place>,
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
        Ok((Self { socket: Arc::new(socket), open: None }, address))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Begin or cease to listen.
    pub(crate) fn set_open(&mut self, open: bool, serving: &Arc<TcpVirtual>) {
        if open == self.open.is_some() {
            return;
        }
        if let Some(place) = self.open.take() {
            serving.shared().relays().remove(place);
            self.take_waiting(serving);
            // On a listening socket this undoes listen(2) and keeps the port (see inet_shutdown in Linux).
            let _ = self.socket.shutdown(std::net::Shutdown::Read);
        } else if self.socket.listen(BACKLOG).is_ok() {
            let (socket, picker) = (Arc::clone(&self.socket), Mutex::new(serving.picker()));
            let door = OwnDoor { socket, serving: Arc::clone(serving), picker };
            self.open = serving.shared().relays().open(Arc::new(door)).ok();
        }
    }

    /// Connections that the kernel has taken and nobody has accepted yet are not to be lost.
    fn take_waiting(&self, serving: &Arc<TcpVirtual>) {
        let mut picker = serving.picker();
        while let Ok((client, peer)) = accept(&self.socket) {
            serving.take(&mut picker, client, peer);
        }
    }
}

/// A socket of its own that new connections are not led to any more, since then. To those who have begun to shake hands
/// with it its end would be no refusal: the kernel may forget them without a word.
#[derive(Debug)]
pub(crate) struct Lingering {
    pub(crate) port: TcpPort,
    pub(crate) since: Duration,
}

/// How long who has begun to shake hands is waited for.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(1);

struct OwnDoor {
    socket: Arc<Socket>,
    serving: Arc<TcpVirtual>,
    picker: Mutex<Picker>,
}

impl Door for OwnDoor {
    fn socket(&self) -> &Socket {
        &self.socket
    }

    fn take_one(&self, place: Place) {
        match accept(&self.socket) {
            Ok((client, peer)) => self.serving.take(&mut self.picker.lock(), client, peer),
            Err(error) => rest_door_if_exhausted(&error, self.serving.shared(), place),
        }
    }
}

/// What is handed down to the connections that are accepted.
pub(crate) fn prepare(listener: &Socket) -> io::Result<()> {
    listener.set_tcp_nodelay(true)?;
    listener.set_tcp_keepalive(&KEEPALIVE)
}

/// A connection that the kernel has taken, and who made it.
pub(crate) fn accept(listener: &Socket) -> io::Result<(Socket, SocketAddr)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (client, peer) = rustix::net::acceptfrom_with(listener, flags)?;
    let peer = peer.and_then(|peer| peer.try_into().ok()).ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((client.into(), peer))
}

/// Other errors are of one connection: the client gave up before it was accepted, or its network did.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Whoever accepts rests then.
pub(crate) async fn rest_if_exhausted(error: &io::Error, clock: &Clock) {
    if is_exhausted(error) {
        wait::sleep(clock, EXHAUSTED_REST).await;
    }
}

/// As [`rest_if_exhausted`], for the door at `place`, which opens again by itself.
pub(crate) fn rest_door_if_exhausted(error: &io::Error, shared: &Shared, place: Place) {
    if is_exhausted(error) {
        shared.relays().set_open(place, false);
        let (clock, relays) = (shared.clock.clone(), Arc::clone(shared.relays()));
        shared.runtime.spawn(async move {
            wait::sleep(&clock, EXHAUSTED_REST).await;
            relays.set_open(place, true);
        });
    }
}
