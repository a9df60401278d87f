//! Sockets by the addresses that they are bound to or connect to.
//!
//! Where an unprivileged node has a network namespace of its own, some ranges of addresses are known in there alone, and
//! the rest of the world here alone. A socket stays in the namespace that it was made in, so whoever is about to bind or
//! to connect asks for one that suits the address. While there is no such node that is socket(2) and nothing else.

mod pool;
mod range;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use kubecore_launch::{SocketKind, sockets_within};
use parking_lot::RwLock;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

pub use pool::Pool;
pub use range::Range;

/// So many of a kind are made together.
const TOGETHER: usize = 16;

/// Addresses that are known in a network namespace alone.
#[derive(Debug)]
pub struct Network {
    ranges: Vec<Range>,
    sockets: Pool,
}

static NETWORKS: RwLock<Vec<Arc<Network>>> = RwLock::new(Vec::new());
static ANY: AtomicBool = AtomicBool::new(false);

/// From now on sockets for these addresses are made in the namespace. Errors: it cannot be entered.
pub fn add_network(ranges: Vec<Range>, namespace: OwnedFd) -> io::Result<Arc<Network>> {
    let network = Arc::new(Network { ranges, sockets: Pool::new(namespace, TOGETHER) });
    network.sockets.fill(Domain::IPV4, Type::STREAM)?;
    NETWORKS.write().push(Arc::clone(&network));
    ANY.store(true, Relaxed);
    Ok(network)
}

/// Sockets that were made stay as they are.
pub fn remove_network(network: &Arc<Network>) {
    let mut networks = NETWORKS.write();
    networks.retain(|known| !Arc::ptr_eq(known, network));
    ANY.store(!networks.is_empty(), Relaxed);
}

/// The network that an address is known in, if it is not the host's.
pub fn network_of(address: IpAddr) -> Option<Arc<Network>> {
    if !ANY.load(Relaxed) {
        return None;
    }
    let networks = NETWORKS.read();
    networks.iter().find(|network| network.ranges.iter().any(|range| range.contains(address))).cloned()
}

/// To be bound or connected to an address. Errors: what socket(2) says.
pub fn socket(address: IpAddr, kind: Type) -> io::Result<Socket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    match network_of(address) {
        Some(network) => network.sockets.socket(domain, kind),
        None => Socket::new(domain, kind, None),
    }
}

/// As `tokio::net::TcpStream::connect`, to one address.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let Some(network) = network_of(address.ip()) else { return TcpStream::connect(address).await };
    let socket = network.sockets.socket(Domain::for_address(address), Type::STREAM.nonblocking())?;
    TcpSocket::from_std_stream(socket.into()).connect(address).await
}

/// As `connect`, to a host that may also be a name.
pub async fn connect_to(host: &str, port: u16) -> io::Result<TcpStream> {
    match host.parse() {
        Ok(address) => connect(SocketAddr::new(address, port)).await,
        Err(_) => TcpStream::connect((host, port)).await,
    }
}

/// A socket of a network namespace, which we need not be able to come back from. Errors: see
/// [`kubecore_launch::sockets_within`].
pub fn socket_within(namespace: BorrowedFd<'_>, domain: Domain, kind: Type) -> io::Result<Socket> {
    only(make(namespace, domain, kind, None, 1)?)
}

/// The same, of packets of one protocol over IPv4 as they are, without the kernel's part in it.
pub fn raw_within(namespace: BorrowedFd<'_>, protocol: Protocol) -> io::Result<Socket> {
    only(make(namespace, Domain::IPV4, Type::RAW.nonblocking(), Some(protocol), 1)?)
}

fn only(mut made: Vec<Socket>) -> io::Result<Socket> {
    made.pop().ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))
}

fn make(
    namespace: BorrowedFd<'_>,
    domain: Domain,
    kind: Type,
    protocol: Option<Protocol>,
    count: usize,
) -> io::Result<Vec<Socket>> {
    let protocol = protocol.map_or(0, Into::into);
    let kind = SocketKind { domain: domain.into(), kind: kind.into(), protocol };
    let made = sockets_within(namespace, kind, count);
    let made = made.map_err(|error| io::Error::from_raw_os_error(error.errno))?;
    Ok(made.into_iter().map(Socket::from).collect())
}
