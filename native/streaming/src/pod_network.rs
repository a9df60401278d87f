//! Connections to a pod's ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Type};
use tokio::net::TcpStream;

const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a pod's processes listen.
#[derive(Clone)]
pub enum PodNetwork {
    /// A network namespace of its own, entered to reach what listens on its loopback addresses; then these.
    Namespace(Arc<OwnedFd>, Vec<IpAddr>),
    /// The node's network, where the pod has these addresses.
    Addresses(Vec<IpAddr>),
}

impl PodNetwork {
    /// Tries the addresses in turn; the text of an error names what was tried.
    pub async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        match self {
            Self::Namespace(namespace, addresses) => {
                connect_inside(namespace.clone(), addresses.clone(), port).await
            }
            Self::Addresses(addresses) => {
                let mut failures = Vec::new();
                for address in addresses {
                    let address = SocketAddr::new(*address, port);
                    let attempt =
                        tokio::time::timeout(DIAL_TIMEOUT, kubecore_sockets::connect(address)).await;
                    match attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                        Ok(socket) => return Ok(socket),
                        Err(error) => failures.push(failure(address, &error)),
                    }
                }
                Err(format!("failed to connect to the pod: {}", failures.join(" ")))
            }
        }
    }
}

/// A namespace is entered by one thread, which ends with the attempt.
async fn connect_inside(
    namespace: Arc<OwnedFd>,
    addresses: Vec<IpAddr>,
    port: u16,
) -> Result<TcpStream, String> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let work = move || {
        let _ = tell.send(dial_inside(&namespace, addresses, port));
    };
    std::thread::Builder::new()
        .name("port-forward".to_owned())
        .spawn(work)
        .map_err(|error| format!("failed to enter the pod's network: {error}"))?;
    let socket = told.await.unwrap_or_else(|_| Err("failed to enter the pod's network".to_owned()))?;
    let adopt = || {
        socket.set_nonblocking(true)?;
        TcpStream::from_std(socket)
    };
    adopt().map_err(|error: io::Error| error.to_string())
}

fn dial_inside(
    namespace: &OwnedFd,
    addresses: Vec<IpAddr>,
    port: u16,
) -> Result<std::net::TcpStream, String> {
    // SAFETY: a plain call; it concerns this thread only.
    let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } == 0;
    let refusal = io::Error::last_os_error();
    if !entered && refusal.raw_os_error() != Some(libc::EPERM) {
        return Err(format!("failed to enter the pod's network: {refusal}"));
    }
    let mut failures = Vec::new();
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    for address in loopback.into_iter().chain(addresses) {
        let address = SocketAddr::new(address, port);
        match if entered { dial(address) } else { dial_from(namespace, address) } {
            Ok(socket) => return Ok(socket),
            Err(error) => failures.push(failure(address, &error)),
        }
    }
    Err(format!("failed to connect to localhost:{port} inside the pod: {}", failures.join(" ")))
}

fn dial(address: SocketAddr) -> io::Result<std::net::TcpStream> {
    std::net::TcpStream::connect_timeout(&address, DIAL_TIMEOUT)
}

/// Where this thread may not go itself: into a namespace of an unprivileged node.
fn dial_from(namespace: &OwnedFd, address: SocketAddr) -> io::Result<std::net::TcpStream> {
    let (domain, kind) = (Domain::for_address(address), Type::STREAM);
    let socket = kubecore_sockets::socket_within(namespace.as_fd(), domain, kind)?;
    socket.connect_timeout(&address.into(), DIAL_TIMEOUT)?;
    Ok(socket.into())
}

fn failure(address: SocketAddr, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {address}: {why}")
}
