//! A virtual service's own socket for packets.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use kubecore_core::clock::Clock;
use socket2::{Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::flow_socket::PACKET_BYTES;
use crate::udp::UdpVirtual;
use crate::{binding, datagrams, wait};

const RECEIVE_BUFFER: usize = 1024 * 1024;
/// How long a port that could not be opened rests until it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A bound port that takes packets while its service has destinations. Else it is connected to itself and takes nobody's,
/// so that the kernel answers them with port unreachable, and nobody else can have the port meanwhile.
#[derive(Debug)]
pub(crate) struct UdpPort {
    pub(crate) socket: Arc<Socket>,
    address: SocketAddr,
    ahead: bool,
    receiving: Option<AbortHandle>,
    retrying: Option<AbortHandle>,
}

impl UdpPort {
    /// `beside`: our own sockets have the port at other addresses, such as a service's where this is a node's.
    ///
    /// `ahead`: see [`binding::bind`]. Errors: what bind(2) says.
    pub(crate) fn bind(bind: SocketAddr, beside: bool, ahead: bool) -> io::Result<(Self, SocketAddr)> {
        let (socket, address) = if beside {
            (bound_beside(bind, ahead)?, bind)
        } else {
            binding::bind(bind, Type::DGRAM, ahead)?
        };
        prepare(&socket, address)?;
        Ok((Self::new(Arc::new(socket), address, ahead), address))
    }

    /// Of a socket that is bound to the address.
    pub(crate) fn new(socket: Arc<Socket>, address: SocketAddr, ahead: bool) -> Self {
        let port = Self { socket, address, ahead, receiving: None, retrying: None };
        port.deafen();
        port
    }

    fn deafen(&self) {
        let mut own = self.address;
        if own.ip().is_unspecified() {
            own.set_ip(if own.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() });
        }
        let _ = self.socket.connect(&own.into());
    }

    fn hearken(&mut self, guard: impl FnOnce(&Socket), runtime: &Handle) -> io::Result<UdpSocket> {
        if self.address.is_ipv6() {
            // A socket of IPv6 that is disconnected still takes packets of its former peer's address alone.
            let fresh = binding::unbound(self.address, Type::DGRAM, self.ahead)?;
            guard(&fresh);
            prepare(&fresh, self.address)?;
            fresh.bind(&self.address.into())?;
            self.socket = Arc::new(fresh);
        } else {
            guard(&self.socket);
            disconnect(&self.socket)?;
        }
        let _context = runtime.enter();
        UdpSocket::from_std(self.socket.try_clone()?.into())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.receiving.is_some()
    }

    /// Take packets, of those whom `guard` has a socket let through, from now on. Where that fails, for want of file
    /// descriptors perhaps, `serving` follows its service again a little later.
    pub(crate) fn open(
        &mut self,
        guard: impl FnOnce(&Socket),
        serving: &Arc<UdpVirtual>,
        runtime: &Handle,
        clock: &Clock,
    ) {
        if self.is_open() {
            guard(&self.socket);
            return;
        }
        match self.hearken(guard, runtime) {
            Ok(socket) => {
                self.receiving = Some(runtime.spawn(receive(socket, Arc::clone(serving))).abort_handle());
                self.cease_retrying();
            }
            Err(error) => {
                // It may be open by now, with nobody to take what comes.
                self.deafen();
                self.retry(&error, serving, runtime, clock);
            }
        }
    }

    fn retry(&mut self, error: &io::Error, serving: &Arc<UdpVirtual>, runtime: &Handle, clock: &Clock) {
        if self.retrying.is_none() {
            // What cannot be said is lost: `eprintln!` would panic.
            let _ = writeln!(
                io::stderr().lock(),
                "kubecore: cannot take packets at {}, and tries again: {error}",
                self.address
            );
        }
        self.cease_retrying();
        let serving = Arc::downgrade(serving);
        let _context = runtime.enter();
        let rest = wait::sleep(clock, RETRY);
        let again = async move {
            rest.await;
            if let Some(serving) = serving.upgrade() {
                serving.follow();
            }
        };
        self.retrying = Some(runtime.spawn(again).abort_handle());
    }

    /// Also from within the retry itself, which has nothing left to wait for.
    fn cease_retrying(&mut self) {
        if let Some(task) = self.retrying.take() {
            task.abort();
        }
    }

    pub(crate) fn close(&mut self) {
        self.cease_retrying();
        if let Some(task) = self.receiving.take() {
            task.abort();
            self.deafen();
        }
    }
}

/// Also while other sockets of ours have the port, at this address or at others.
pub(crate) fn bound_beside(address: SocketAddr, ahead: bool) -> io::Result<Socket> {
    let socket = binding::bind_beside(address, Type::DGRAM, ahead)?;
    prepare(&socket, address)?;
    Ok(socket)
}

fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    binding::share(socket)?;
    datagrams::tell_targets(socket, address.is_ipv4())
}

fn disconnect(socket: &Socket) -> io::Result<()> {
    // SAFETY: an all-zero sockaddr is valid and AF_UNSPEC is 0.
    let none: libc::sockaddr = unsafe { std::mem::zeroed() };
    // SAFETY: `none` outlives the call and its true length is given.
    let result = unsafe { libc::connect(socket.as_raw_fd(), &none, size_of::<libc::sockaddr>() as u32) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Packets of all clients.
async fn receive(socket: UdpSocket, serving: Arc<UdpVirtual>) {
    let mut packet = vec![0; PACKET_BYTES];
    loop {
        let arrived = socket.async_io(Interest::READABLE, || datagrams::receive(&socket, &mut packet)).await;
        // Errors here are about packets sent before; the socket itself stays good.
        if let Ok(arrived) = arrived {
            let target = arrived.target.unwrap_or(serving.address());
            serving.forward(arrived.client, target, &packet[..arrived.length]);
        }
    }
}
