//! Sockets toward destinations, and what the kernel knows of them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use kubecore_sockets::Pool;
use rustix::event::{PollFd, PollFlags, Timespec};
use socket2::{Domain, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;

use crate::namespaces::socket_in;

/// A peer that vanished without a word is noticed after about two minutes.
pub(crate) const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

const NOT_AT_ALL: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// In whose name a destination is spoken to. Where that cannot be had, better in our own than not at all.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Own,
    /// With the client's address, which takes the right to use it (CAP_NET_ADMIN) and a host that keeps the answers.
    Borrowed(SocketAddr),
    /// From the client's network namespace.
    Inside(Arc<Pool>),
}

fn socket_for(address: SocketAddr, kind: Type, origin: &Origin) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    if let Origin::Inside(namespace) = origin
        && let Ok(socket) = socket_in(namespace, domain, kind)
    {
        return Ok(socket);
    }
    let socket = kubecore_sockets::socket(address.ip(), kind)?;
    if let Origin::Borrowed(client) = origin {
        let _ = borrow_address(&socket, *client);
    }
    Ok(socket)
}

/// Begin to connect to `address`. A destination on this host has often taken the connection when this returns.
pub(crate) fn begin(address: SocketAddr, origin: &Origin) -> io::Result<Socket> {
    let socket = socket_for(address, Type::STREAM.nonblocking(), origin)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    Ok(socket)
}

/// Whether it is connected by now: to be asked before anybody waits for that.
pub(crate) fn connected_already(socket: &Socket) -> bool {
    let mut asked = [PollFd::new(socket, PollFlags::OUT)];
    matches!(rustix::event::poll(&mut asked, Some(&NOT_AT_ALL)), Ok(1))
        && asked[0].revents() == PollFlags::OUT
}

/// Wait until it is connected.
pub(crate) async fn connected_later(socket: &Socket) -> io::Result<()> {
    // SAFETY: the socket stays open for as long as it is borrowed.
    let waiting = unsafe { AsyncFd::register_with_interest(socket.as_fd(), Interest::WRITABLE) }?;
    waiting.writable().await?.retain_ready();
    socket.take_error()?.map_or(Ok(()), Err)
}

/// Connect to `address`: as `TcpStream::connect`, in fewer calls.
pub(crate) async fn connect(address: SocketAddr, origin: Origin) -> io::Result<Socket> {
    let socket = begin(address, &origin)?;
    if !connected_already(&socket) {
        connected_later(&socket).await?;
    }
    Ok(socket)
}

/// A socket for packets to and from `address` alone.
pub(crate) fn connected(address: SocketAddr, origin: &Origin) -> io::Result<UdpSocket> {
    let socket = socket_for(address, Type::DGRAM.nonblocking(), origin)?;
    socket.connect(&address.into())?;
    UdpSocket::from_std(socket.into())
}

fn borrow_address(socket: &Socket, client: SocketAddr) -> io::Result<()> {
    match client {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    // The client's own port where that is free: one client may have several connections to one destination.
    socket.bind(&client.into()).or_else(|_| socket.bind(&SocketAddr::new(client.ip(), 0).into()))
}

/// Ask for a sign of life when nothing has come for long.
pub(crate) fn keep_alive(socket: &Socket) {
    let _ = socket.set_tcp_keepalive(&KEEPALIVE);
}

/// How far a connection has come, by the kernel's count.
pub(crate) struct Progress {
    /// Neither side can send any more: it was reset, or both have finished.
    pub(crate) closed: bool,
    /// Bytes that the peer's kernel has acknowledged.
    pub(crate) acknowledged: u64,
}

/// In Linux's TCP_CLOSE; see include/net/tcp_states.h.
const CLOSED: u8 = 7;

/// None where the kernel does not tell.
pub(crate) fn progress(socket: &Socket) -> Option<Progress> {
    // SAFETY: all-zero is valid for this struct of integers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the pointers are to live values and the length is theirs.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    let told = std::mem::offset_of!(libc::tcp_info, tcpi_bytes_acked) + size_of::<u64>();
    if result != 0 || (length as usize) < told {
        return None;
    }
    // The SYN counts as one.
    Some(Progress {
        closed: info.tcpi_state == CLOSED,
        acknowledged: info.tcpi_bytes_acked.saturating_sub(1),
    })
}
