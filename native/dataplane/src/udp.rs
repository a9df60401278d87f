//! The UDP side of a virtual service: one flow per client address, each with its own socket to its destination.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use kubecore_core::balance::{Carried, Carrier, Destination, Flow, Protocol, State, VirtualService};
use parking_lot::Mutex;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::access::Access;
use crate::binding;
use crate::connections::{Connections, Task};
use crate::forwarder::Shared;
use crate::wait;

const PACKET_BYTES: usize = 65_536;
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// What carries the packets of one client.
#[derive(Debug)]
pub(crate) struct UdpFlow {
    pub(crate) connections: Arc<Connections>,
    pub(crate) task: Task,
    socket: UdpSocket,
    /// Milliseconds of the forwarder's clock.
    used: AtomicU64,
    service: Arc<VirtualService>,
    destination: Arc<Destination>,
}

thread_local! {
    /// Flows are many and packets short-lived: one buffer for each worker thread.
    static PACKET: RefCell<Box<[u8]>> = RefCell::new(vec![0; PACKET_BYTES].into_boxed_slice());
}

/// A bound UDP port that answers while its service has destinations.
pub(crate) struct UdpVirtual {
    socket: Socket,
    address: SocketAddr,
    service: Arc<VirtualService>,
    shared: Arc<Shared>,
    access: ArcSwap<Access>,
    receiving: Mutex<Option<AbortHandle>>,
    /// The service's destinations are others now.
    changed: Notify,
}

impl UdpVirtual {
    pub(crate) fn bind(
        bind: SocketAddr,
        service: Arc<VirtualService>,
        shared: Arc<Shared>,
    ) -> io::Result<Arc<Self>> {
        let (socket, address) = binding::bind(bind, Type::DGRAM)?;
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        let (access, receiving, changed) = (ArcSwap::default(), Mutex::default(), Notify::new());
        let listener = Self { socket, address, service, shared, access, receiving, changed };
        listener.deafen();
        Ok(Arc::new(listener))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connected to itself the socket takes nobody's packets, so the kernel answers them with port unreachable.
    fn deafen(&self) {
        let mut own = self.address;
        if own.ip().is_unspecified() {
            own.set_ip(if own.is_ipv6() {
                std::net::Ipv6Addr::LOCALHOST.into()
            } else {
                std::net::Ipv4Addr::LOCALHOST.into()
            });
        }
        let _ = self.socket.connect(&own.into());
    }

    fn hearken(&self) -> io::Result<UdpSocket> {
        disconnect(&self.socket)?;
        let _context = self.shared.runtime.enter();
        UdpSocket::from_std(self.socket.try_clone()?.into())
    }

    pub(crate) fn set_open(self: &Arc<Self>, open: bool) {
        let mut receiving = self.receiving.lock();
        if open == receiving.is_some() {
            return;
        }
        if let Some(task) = receiving.take() {
            task.abort();
            self.deafen();
            drop(receiving);
            self.changed.notify_waiters();
        } else if let Ok(socket) = self.hearken() {
            let serving = Arc::clone(self);
            *receiving = Some(self.shared.runtime.spawn(receive(Arc::new(socket), serving)).abort_handle());
        }
    }

    /// The destinations have changed, or who may come to them. A UDP flow has no end of its own: it leaves a destination
    /// when that is removed.
    pub(crate) fn follow(self: &Arc<Self>) {
        let access = self.access.load();
        access.guard(&self.socket, &self.service, self.address.is_ipv4());
        self.set_open(access.opens(&self.service));
        self.changed.notify_waiters();
    }

    pub(crate) fn set_access(self: &Arc<Self>, access: Access) {
        self.access.store(Arc::new(access));
        self.follow();
    }

    /// Is the flow to go on?
    fn holds(&self, flow: &UdpFlow) -> bool {
        !flow.destination.removed() && self.receiving.lock().is_some()
    }

    fn forward(self: &Arc<Self>, socket: &Arc<UdpSocket>, client: SocketAddr, packet: &[u8]) {
        // Twice: a destination that has just refused is left for another one.
        for _ in 0..2 {
            let Some(flow) = self.flow(socket, client) else { break };
            flow.used.store(wait::now(&self.shared.clock), Relaxed);
            // Straight to the socket: tokio does not know yet that a new one takes packets.
            match SockRef::from(&flow.socket).send(packet) {
                Ok(sent) => {
                    flow.service.count_in(&flow.destination, 1, sent as u64);
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.shared.counters.retried.fetch_add(1, Relaxed);
                    self.forget(client, &flow);
                }
                Err(_) => break,
            }
        }
        self.shared.counters.dropped.fetch_add(1, Relaxed);
    }

    fn flow(self: &Arc<Self>, socket: &Arc<UdpSocket>, client: SocketAddr) -> Option<Arc<UdpFlow>> {
        let connections = &self.shared.connections;
        let present = connections.balancer.carrier(Protocol::Udp, client, self.address);
        if let Some(flow) = present.and_then(|carrier| carrier.downcast::<UdpFlow>().ok())
            && !flow.destination.removed()
        {
            return Some(flow);
        }
        let now = wait::now(&self.shared.clock);
        let access = self.access.load();
        if !access.allows(client.ip()) {
            return None;
        }
        let service = access.inside_for(client, self.address).unwrap_or(&self.service);
        let connection = service.connect(&Flow::new(client, self.address.ip()), now)?;
        let destination = connection.destination();
        let flow = Arc::new(UdpFlow {
            connections: Arc::clone(connections),
            task: Task::default(),
            socket: connected(destination.address_for(self.address.port())).ok()?,
            service: Arc::clone(connection.service()),
            destination: Arc::clone(destination),
            used: AtomicU64::new(now),
        });
        self.shared.counters.accepted.fetch_add(1, Relaxed);
        let carrier: Carrier = Arc::clone(&flow) as Carrier;
        let carried = connections.balancer.carry(client, self.address, connection, State::Untracked, carrier);
        let task = answer(Arc::clone(socket), Arc::clone(self), client, Arc::clone(&flow), carried);
        flow.task.began(self.shared.runtime.spawn(task).abort_handle());
        Some(flow)
    }

    /// One packet from the destination to its client. False: the destination refuses.
    fn pass_back(&self, socket: &UdpSocket, client: SocketAddr, flow: &UdpFlow) -> bool {
        PACKET.with_borrow_mut(|packet| match flow.socket.try_recv(packet) {
            Ok(length) => {
                flow.used.store(wait::now(&self.shared.clock), Relaxed);
                flow.service.count_out(&flow.destination, 1, length as u64);
                if SockRef::from(socket).send_to(&packet[..length], &client.into()).is_err() {
                    self.shared.counters.dropped.fetch_add(1, Relaxed);
                }
                true
            }
            Err(error) => error.kind() != io::ErrorKind::ConnectionRefused,
        })
    }

    /// A flow whose destination refuses leaves the table before its task ends.
    fn forget(&self, client: SocketAddr, flow: &Arc<UdpFlow>) {
        let carrier: Carrier = Arc::clone(flow) as Carrier;
        self.shared.connections.balancer.uncarry(Protocol::Udp, client, self.address, &carrier);
        flow.task.end();
    }
}

fn connected(destination: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(destination), Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&destination.into())?;
    UdpSocket::from_std(socket.into())
}

fn disconnect(socket: &Socket) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: an all-zero sockaddr is valid and AF_UNSPEC is 0.
    let none: libc::sockaddr = unsafe { std::mem::zeroed() };
    // SAFETY: `none` outlives the call and its true length is given.
    let result = unsafe { libc::connect(socket.as_raw_fd(), &none, size_of::<libc::sockaddr>() as u32) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Packets of all clients.
async fn receive(socket: Arc<UdpSocket>, serving: Arc<UdpVirtual>) {
    let mut packet = vec![0; PACKET_BYTES];
    loop {
        // Errors here are about packets sent before; the socket itself stays good.
        if let Ok((length, client)) = socket.recv_from(&mut packet).await {
            serving.forward(&socket, client, &packet[..length]);
        }
    }
}

/// Packets back to one client, until the flow is idle for too long, is refused or has lost its destination.
async fn answer(
    socket: Arc<UdpSocket>,
    serving: Arc<UdpVirtual>,
    client: SocketAddr,
    flow: Arc<UdpFlow>,
    carried: Carried,
) {
    let shared = &serving.shared;
    let _open = shared.connections.open();
    let timeout = u64::try_from(shared.options.udp_timeout.as_millis()).unwrap_or(u64::MAX);
    loop {
        let mut changed = pin!(serving.changed.notified());
        // From here on no change is missed.
        changed.as_mut().enable();
        let idle = wait::now(&shared.clock).saturating_sub(flow.used.load(Relaxed));
        let rest = Duration::from_millis(timeout.saturating_sub(idle));
        if rest.is_zero() || !serving.holds(&flow) {
            break;
        }
        tokio::select! {
            biased;
            readable = wait::timeout(&shared.clock, rest, flow.socket.readable()) => {
                if readable.is_some() && !serving.pass_back(&socket, client, &flow) {
                    break;
                }
            }
            () = changed => {}
        }
    }
    carried.close(wait::now(&shared.clock));
}
