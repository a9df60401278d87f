//! A way out of a network namespace that no route leads out of, for TCP and UDP over IPv4.
//!
//! In there nf_tables leads what is for addresses outside to two sockets of ours (`tproxy`), whose other side is the
//! network that this process is in: there it is carried on as if it had been masqueraded. Nobody comes to this host's
//! loopback by it.

mod flow_table;
mod packets;
mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use kubecore_core::clock::Clock;
use kubecore_sockets::{network_of, socket_within};
use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::one_listener::OneListener;
use crate::relays::Relays;
use crate::way_out::packets::Packets;

#[derive(Clone, Copy, Debug)]
pub struct WayOutOptions {
    /// Open at once; whoever comes then is reset.
    pub most_connections: usize,
    /// Of UDP, at once: for a new one that which was quiet for longest is forgotten, unless both sides talk.
    pub most_flows: usize,
    /// Of each, at once, of one client's address: nobody takes all places. A client's new flow forgets one of its own
    /// then.
    pub most_connections_of_one: usize,
    pub most_flows_of_one: usize,
    /// For somebody outside to take a connection, else it is reset: the networks there may lose packets, so that it is
    /// time for several attempts (tcp(7), tcp_syn_retries).
    pub connect_timeout: Duration,
    /// For how long a flow is kept in silence, as connection tracking does (nf_conntrack_udp_timeout and _stream): one
    /// that is no more than a question and its answer, and one whose client went on after an answer.
    pub udp_timeout: Duration,
    pub udp_stream_timeout: Duration,
}

impl WayOutOptions {
    /// So many of each; of one client a quarter of them.
    pub fn with_most(most_connections: usize, most_flows: usize) -> Self {
        Self {
            most_connections,
            most_flows,
            most_connections_of_one: (most_connections / 4).max(1),
            most_flows_of_one: (most_flows / 4).max(1),
            connect_timeout: Duration::from_secs(20),
            udp_timeout: Duration::from_secs(30),
            udp_stream_timeout: Duration::from_secs(120),
        }
    }
}

impl Default for WayOutOptions {
    fn default() -> Self {
        Self::with_most(4096, 4096)
    }
}

/// Counts since it was opened.
#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    refused: AtomicU64,
    flows: AtomicU64,
    dropped: AtomicU64,
}

/// A copy of the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WayOutStatistics {
    /// That were led here.
    pub connections: u64,
    /// Those of them that were reset, since nobody took them outside or there were too many.
    pub refused: u64,
    /// Of UDP.
    pub flows: u64,
    /// Packets lost here.
    pub dropped: u64,
}

/// Until it is dropped.
#[derive(Debug)]
pub struct WayOut {
    counters: Arc<Counters>,
    ports: (u16, u16),
    runtime: Handle,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl WayOut {
    /// Of a namespace whose user namespace is ours to enter. Errors: what takes part in it cannot be made there.
    pub fn open(
        runtime: &Handle,
        relays: &Arc<Relays>,
        clock: &Clock,
        options: WayOutOptions,
        namespace: BorrowedFd<'_>,
    ) -> io::Result<Self> {
        let _context = runtime.enter();
        let counters = Arc::new(Counters::default());
        let listener = led_to(namespace, Type::STREAM)?;
        OneListener::listen(&listener)?;
        let receiver = led_to(namespace, Type::DGRAM)?;
        let ports = (port_of(&listener)?, port_of(&receiver)?);
        let packets = Packets::within(namespace)?;
        let (receiver, listener) =
            (udp::receiver(receiver)?, tokio::net::TcpListener::from_std(listener.into())?);
        let flows = udp::Flows::new(packets, clock.clone(), options, Arc::clone(&counters));
        let (relays, counted) = (Arc::clone(relays), Arc::clone(&counters));
        let connections = tcp::Connections::new(relays, clock.clone(), options, counted);
        let tasks = vec![runtime.spawn(connections.accept(listener)), runtime.spawn(flows.receive(receiver))];
        let tasks = Mutex::new(tasks);
        Ok(Self { counters, ports, runtime: runtime.clone(), tasks })
    }

    /// Of TCP and of UDP, at [`ADDRESS`] in there.
    pub fn ports(&self) -> (u16, u16) {
        self.ports
    }

    pub fn statistics(&self) -> WayOutStatistics {
        let Counters { connections, refused, flows, dropped } = &*self.counters;
        WayOutStatistics {
            connections: connections.load(Relaxed),
            refused: refused.load(Relaxed),
            flows: flows.load(Relaxed),
            dropped: dropped.load(Relaxed),
        }
    }

    /// Connections and flows end with it. When this returns nobody is at the ports any more; it is not to be called by the
    /// runtime's own threads.
    pub fn close(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.iter().for_each(JoinHandle::abort);
        for task in tasks {
            let _ = self.runtime.block_on(task);
        }
    }
}

impl Drop for WayOut {
    fn drop(&mut self) {
        self.tasks.lock().iter().for_each(JoinHandle::abort);
    }
}

/// Where the two sockets are, which nothing on a link can be sent to.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A socket that may take what is for other addresses than its own.
fn led_to(namespace: BorrowedFd<'_>, kind: Type) -> io::Result<Socket> {
    let socket = socket_within(namespace.as_fd(), Domain::IPV4, kind.nonblocking())?;
    socket.set_ip_transparent_v4(true)?;
    socket.bind(&SocketAddr::from((ADDRESS, 0)).into())?;
    Ok(socket)
}

fn port_of(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?.as_socket();
    address.map(|address| address.port()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether a namespace knows an address: an answer to anybody else would not get there, but come here anew.
fn is_inside(client: SocketAddr) -> bool {
    network_of(client.ip()).is_some()
}

/// Whether an address is to be reached by way of the host: not one that it takes as itself, nor a group, nor one that a
/// namespace knows.
fn is_outside(target: SocketAddr) -> bool {
    let IpAddr::V4(four) = target.ip() else { return false };
    let itself = four.is_loopback() || four.octets()[0] == 0;
    !itself && !four.is_multicast() && !four.is_broadcast() && network_of(target.ip()).is_none()
}
