//! The UDP side of a virtual service: one flow per client address, each with its own socket to its destination.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::{io, mem};

use arc_swap::ArcSwap;
use kubecore_core::balance::{Carried, Carrier, Destination, Flow, FlowKey, Protocol, State, VirtualService};
use parking_lot::Mutex;
use socket2::Socket;
use tokio::sync::Notify;

use crate::access::Access;
use crate::connections::{Connections, Open, Task};
use crate::datagrams;
use crate::flow_socket::{FlowSocket, HEADROOM, Heard};
use crate::forwarder::Shared;
use crate::one_receiver::OneReceiver;
use crate::udp_port::{UdpPort, bound_beside};
use crate::wait;

/// What carries the packets of one client.
#[derive(Debug)]
pub(crate) struct UdpFlow {
    pub(crate) connections: Arc<Connections>,
    pub(crate) task: Task,
    socket: FlowSocket,
    /// The address that the client asked.
    target: SocketAddr,
    service: Arc<VirtualService>,
    destination: Arc<Destination>,
}

/// Where packets for a virtual service come in.
#[derive(Debug)]
enum Entrance {
    Own(UdpPort),
    /// The kernel leads them to the one receiver.
    One(Arc<OneReceiver>, Answering),
    Closed,
}

/// What clients are answered from where packets do not come in: it is there as long as any flow is.
#[derive(Debug)]
enum Answering {
    /// A socket that packets came in by just now: who received from it may hold it a little longer, so that none with its
    /// address can be made at once.
    Held(Arc<Socket>),
    Shared(Weak<Socket>),
}

impl Answering {
    fn socket(&self) -> Option<Arc<Socket>> {
        match self {
            Self::Held(socket) => Some(Arc::clone(socket)),
            Self::Shared(socket) => socket.upgrade(),
        }
    }
}

/// The UDP side of a virtual service: packets are carried while it has destinations, else refused.
#[derive(Debug)]
pub(crate) struct UdpVirtual {
    address: SocketAddr,
    service: Arc<VirtualService>,
    shared: Arc<Shared>,
    /// What it may share with others, unless `access` has rules that only a socket of its own can keep.
    one: Option<Arc<OneReceiver>>,
    access: ArcSwap<Access>,
    entrance: Mutex<Entrance>,
    open: AtomicBool,
    /// The service's destinations are others now.
    changed: Notify,
}

impl UdpVirtual {
    /// `beside`: others of this forwarder have the port, at other addresses. Errors: what bind(2) says.
    pub(crate) fn bind(
        bind: SocketAddr,
        service: Arc<VirtualService>,
        shared: Arc<Shared>,
        one: Option<Arc<OneReceiver>>,
        beside: bool,
    ) -> io::Result<Arc<Self>> {
        // Also where it is to be led elsewhere at once: a port that somebody else has is his.
        let (port, address) = UdpPort::bind(bind, beside, shared.binds_ahead(bind))?;
        let (access, entrance, open, changed) =
            (ArcSwap::default(), Mutex::new(Entrance::Own(port)), AtomicBool::new(false), Notify::new());
        Ok(Arc::new(Self { address, service, shared, one, access, entrance, open, changed }))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The destinations have changed, or who may come to them. A UDP flow has no end of its own: it leaves a destination
    /// when that is removed.
    pub(crate) fn follow(self: &Arc<Self>) {
        let mut entrance = self.entrance.lock();
        let access = self.access.load();
        let opens = access.opens(&self.service) && !matches!(*entrance, Entrance::Closed);
        let other = self.other_entrance(&entrance, &access, opens);
        let before = other.map(|other| mem::replace(&mut *entrance, other));
        self.open.store(opens, Relaxed);
        match &mut *entrance {
            Entrance::Own(port) => {
                let guard = |socket: &Socket| access.guard(socket, &self.service, self.address.is_ipv4());
                if opens {
                    port.open(guard, self, &self.shared.runtime, &self.shared.clock);
                } else {
                    port.close();
                }
            }
            // What cannot be kept out is not let in.
            Entrance::One(one, _) => {
                let _ = one.set_open(self.address, opens && !access.needs_socket(&self.service));
            }
            Entrance::Closed => {}
        }
        // Only now: nobody is to find no door at all.
        if let Some(before) = before {
            self.leave(before);
        }
        drop(entrance);
        self.changed.notify_waiters();
    }

    pub(crate) fn set_access(self: &Arc<Self>, access: Access) {
        self.access.store(Arc::new(access));
        self.follow();
    }

    /// Its flows end.
    pub(crate) fn close(self: &Arc<Self>) {
        let before = mem::replace(&mut *self.entrance.lock(), Entrance::Closed);
        self.open.store(false, Relaxed);
        self.leave(before);
        self.changed.notify_waiters();
    }

    /// None: packets are to come in where they do.
    fn other_entrance(
        self: &Arc<Self>,
        entrance: &Entrance,
        access: &Access,
        opens: bool,
    ) -> Option<Entrance> {
        let alone = access.needs_socket(&self.service);
        match (entrance, &self.one) {
            (Entrance::Own(port), Some(one)) if !alone => {
                let answering = if port.is_open() {
                    Answering::Held(Arc::clone(&port.socket))
                } else {
                    Answering::Shared(Arc::downgrade(&port.socket))
                };
                one.join(self.address, self, opens).ok().map(|()| Entrance::One(Arc::clone(one), answering))
            }
            (Entrance::One(_, answering), _) if alone => {
                let ahead = self.shared.binds_ahead(self.address);
                let socket =
                    answering.socket().map_or_else(|| bound_beside(self.address, ahead).map(Arc::new), Ok);
                socket.ok().map(|socket| Entrance::Own(UdpPort::new(socket, self.address, ahead)))
            }
            _ => None,
        }
    }

    fn leave(self: &Arc<Self>, entrance: Entrance) {
        match entrance {
            Entrance::Own(mut port) => port.close(),
            Entrance::One(one, _) => one.leave(self.address),
            Entrance::Closed => {}
        }
    }

    /// None while there is no way in.
    fn answering(&self) -> Option<Arc<Socket>> {
        match &mut *self.entrance.lock() {
            Entrance::Own(port) => Some(Arc::clone(&port.socket)),
            Entrance::One(_, answering) => {
                let made = || {
                    Some(Arc::new(bound_beside(self.address, self.shared.binds_ahead(self.address)).ok()?))
                };
                let socket = answering.socket().or_else(made)?;
                *answering = Answering::Shared(Arc::downgrade(&socket));
                Some(socket)
            }
            Entrance::Closed => None,
        }
    }

    /// Is the flow to go on?
    fn holds(&self, flow: &UdpFlow) -> bool {
        !flow.destination.removed() && self.open.load(Relaxed)
    }

    /// A packet has come: to the destination of its flow, which begins with the first one.
    pub(crate) fn forward(self: &Arc<Self>, client: SocketAddr, target: SocketAddr, packet: &[u8]) {
        // Twice: a destination that has just refused is left for another one.
        for _ in 0..2 {
            let Some(flow) = self.flow(client, target) else { break };
            flow.socket.use_now(wait::now(&self.shared.clock));
            match flow.socket.send(packet) {
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

    fn flow(self: &Arc<Self>, client: SocketAddr, target: SocketAddr) -> Option<Arc<UdpFlow>> {
        let connections = &self.shared.connections;
        let key = FlowKey::new(Protocol::Udp, client, target);
        let present = connections.balancer.carrier(&key);
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
        let service = access.other_for(client, target).unwrap_or(&self.service);
        let connection = service.connect(&Flow::new(client, target.ip()), now)?;
        let destination = connection.destination();
        let to = destination.address_for(target.port());
        let answering = self.answering()?;
        let flow = Arc::new(UdpFlow {
            connections: Arc::clone(connections),
            task: Task::default(),
            socket: FlowSocket::connected(to, &self.shared.origin(&access, client, target, to), now).ok()?,
            target,
            service: Arc::clone(connection.service()),
            destination: Arc::clone(destination),
        });
        self.shared.counters.accepted.fetch_add(1, Relaxed);
        let carrier: Carrier = Arc::clone(&flow) as Carrier;
        let carried = connections.balancer.carry(key, connection, State::Untracked, carrier, now);
        let task =
            answer(connections.open(), Arc::clone(self), client, Arc::clone(&flow), answering, carried);
        flow.task.began(self.shared.runtime.spawn(task).abort_handle());
        Some(flow)
    }

    /// What comes from the destination, to its client. False: the destination refuses.
    fn pass_back(&self, client: SocketAddr, flow: &UdpFlow, answering: &Socket, heard: Heard) -> bool {
        let passed = match heard {
            Heard::Error(error) => Err(error),
            Heard::Packet => flow.socket.receive(&self.shared.clock, |packet| {
                let packet = &packet[HEADROOM..];
                flow.service.count_out(&flow.destination, 1, packet.len() as u64);
                // Who asked one of many addresses is to be answered by that one.
                let source = self.address.ip().is_unspecified().then_some(flow.target.ip());
                if datagrams::send(answering, packet, client, source).is_err() {
                    self.shared.counters.dropped.fetch_add(1, Relaxed);
                }
            }),
        };
        passed.err().is_none_or(|error| error.kind() != io::ErrorKind::ConnectionRefused)
    }

    /// A flow whose destination refuses leaves the table before its task ends.
    fn forget(&self, client: SocketAddr, flow: &Arc<UdpFlow>) {
        let (key, carrier) = (FlowKey::new(Protocol::Udp, client, flow.target), Arc::clone(flow) as Carrier);
        self.shared.connections.balancer.uncarry(&key, &carrier, wait::now(&self.shared.clock));
        flow.task.end();
    }
}

/// Packets back to one client, until the flow is idle for too long, is refused or has lost its destination. It counts as
/// open until its sockets are closed.
async fn answer(
    _open: Open,
    serving: Arc<UdpVirtual>,
    client: SocketAddr,
    flow: Arc<UdpFlow>,
    answering: Arc<Socket>,
    carried: Carried,
) {
    let shared = &serving.shared;
    loop {
        let mut changed = pin!(serving.changed.notified());
        // From here on no change is missed.
        changed.as_mut().enable();
        let rest = flow.socket.rest(shared.options.udp_timeout, wait::now(&shared.clock));
        if rest.is_zero() || !serving.holds(&flow) {
            break;
        }
        tokio::select! {
            biased;
            heard = flow.socket.hear(&shared.clock, rest) => {
                if let Some(heard) = heard && !serving.pass_back(client, &flow, &answering, heard) {
                    break;
                }
            }
            () = changed => {}
        }
    }
    carried.close_idle(wait::now(&shared.clock), flow.socket.used());
}
