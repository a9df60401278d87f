//! Binding ports so that they stay ours.

use std::io;
use std::net::SocketAddr;

use socket2::{Socket, Type};

/// How often another free port is tried when the one found has been taken meanwhile.
const TRIES: usize = 8;

/// A non-blocking socket bound to `address`, and the address it got. `ahead`: also while no link of this host has the
/// address (of IPv6; a route to it does not do).
///
/// Linux lets go of a port it has chosen itself (port 0) when a socket ceases to listen or is disconnected, so a free
/// port is looked up first and then bound by its number.
pub(crate) fn bind(address: SocketAddr, kind: Type, ahead: bool) -> io::Result<(Socket, SocketAddr)> {
    bind_any_port(address, |address| bind_exactly(address, kind, ahead))
}

/// Like `bind` for a known port, also while others of this user have it and have said that they do not mind (`share`).
pub(crate) fn bind_beside(address: SocketAddr, kind: Type, ahead: bool) -> io::Result<Socket> {
    let socket = unbound(address, kind, ahead)?;
    share(&socket)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Nobody but this user's own may come beside it from now on, and only who asks for it: a Service's address and a node's
/// may have the same port.
pub(crate) fn share(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

fn bind_any_port(
    address: SocketAddr,
    bind: impl Fn(SocketAddr) -> io::Result<Socket>,
) -> io::Result<(Socket, SocketAddr)> {
    if address.port() != 0 {
        return Ok((bind(address)?, address));
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let found = bind(address)?.local_addr()?.as_socket().unwrap_or(address);
        match bind(found) {
            Ok(socket) => return Ok((socket, found)),
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => {}
        }
    }
}

pub(crate) fn unbound(address: SocketAddr, kind: Type, ahead: bool) -> io::Result<Socket> {
    let socket = kubecore_sockets::socket(address.ip(), kind.nonblocking())?;
    if kind == Type::STREAM {
        // Connections of an earlier listener that linger in TIME_WAIT are no obstacle.
        socket.set_reuse_address(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if ahead {
        if address.is_ipv6() { socket.set_freebind_v6(true)? } else { socket.set_freebind_v4(true)? }
    }
    Ok(socket)
}

fn bind_exactly(address: SocketAddr, kind: Type, ahead: bool) -> io::Result<Socket> {
    let socket = unbound(address, kind, ahead)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
