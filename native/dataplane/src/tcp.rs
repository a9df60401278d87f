//! The TCP side of a virtual service: accept, pick, connect, carry.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::{io, mem};

use arc_swap::ArcSwap;
use kubecore_core::balance::{
    Carried, Connection, Destination, Flow, FlowKey, Picker, Protocol, State, VirtualService,
};
use kubecore_core::clock::Clock;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::access::Access;
use crate::connecting;
use crate::connections::{Open, Task, TcpCarrier};
use crate::forwarder::Shared;
use crate::one_listener::OneListener;
use crate::pump::{Outcome, Pump, reset};
use crate::tcp_port::TcpPort;
use crate::wait;

/// Where connections of a virtual service come in.
#[derive(Debug)]
enum Entrance {
    Own(TcpPort),
    /// The kernel leads them to the one listener.
    One(Arc<OneListener>),
    Closed,
}

/// The TCP side of a virtual service: who comes is carried while it has destinations, else refused.
#[derive(Debug)]
pub(crate) struct TcpVirtual {
    address: SocketAddr,
    service: Arc<VirtualService>,
    shared: Arc<Shared>,
    /// What it may share with others, unless `access` has rules that only a socket of its own can keep.
    one: Option<Arc<OneListener>>,
    access: ArcSwap<Access>,
    entrance: Mutex<Entrance>,
    /// The service's destinations are others now.
    changed: Notify,
}

impl TcpVirtual {
    /// `beside`: others of this forwarder have the port, at other addresses. Errors: what bind(2) says.
    pub(crate) fn bind(
        bind: SocketAddr,
        service: Arc<VirtualService>,
        shared: Arc<Shared>,
        one: Option<Arc<OneListener>>,
        beside: bool,
    ) -> io::Result<Arc<Self>> {
        // Also where it is to be led elsewhere at once: a port that somebody else has is his.
        let (port, address) = TcpPort::bind(bind, beside, shared.binds_ahead(bind))?;
        let (access, entrance, changed) =
            (ArcSwap::default(), Mutex::new(Entrance::Own(port)), Notify::new());
        Ok(Arc::new(Self { address, service, shared, one, access, entrance, changed }))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    pub(crate) fn picker(&self) -> Picker {
        self.service.picker()
    }

    /// The destinations have changed, or who may come to them.
    pub(crate) fn follow(self: &Arc<Self>) {
        let mut entrance = self.entrance.lock();
        let access = self.access.load();
        let opens = access.opens(&self.service);
        let other = self.other_entrance(&entrance, &access, opens);
        let before = other.map(|other| mem::replace(&mut *entrance, other));
        match &mut *entrance {
            Entrance::Own(port) => {
                access.guard(&port.socket, &self.service, self.address.is_ipv4());
                port.set_open(opens, self, &self.shared.runtime);
            }
            // What cannot be kept out is not let in.
            Entrance::One(one) => {
                let _ = one.set_open(self.address, opens && !access.needs_socket(&self.service));
            }
            Entrance::Closed => {}
        }
        // Only now: nobody is to stand between two doors.
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

    pub(crate) fn close(self: &Arc<Self>) {
        let before = mem::replace(&mut *self.entrance.lock(), Entrance::Closed);
        self.leave(before);
        if let Some(one) = &self.one {
            one.forget(self.address);
        }
    }

    /// None: connections are to come in where they do.
    fn other_entrance(
        self: &Arc<Self>,
        entrance: &Entrance,
        access: &Access,
        opens: bool,
    ) -> Option<Entrance> {
        let alone = access.needs_socket(&self.service);
        match (entrance, &self.one) {
            (Entrance::Own(_), Some(one)) if !alone => {
                one.join(self.address, self, opens).ok().map(|()| Entrance::One(Arc::clone(one)))
            }
            (Entrance::One(_), _) if alone => {
                let ahead = self.shared.binds_ahead(self.address);
                TcpPort::bind(self.address, true, ahead).ok().map(|(port, _)| Entrance::Own(port))
            }
            _ => None,
        }
    }

    fn leave(self: &Arc<Self>, entrance: Entrance) {
        match entrance {
            Entrance::Own(mut port) => port.set_open(false, self, &self.shared.runtime),
            Entrance::One(one) => one.leave(self.address),
            Entrance::Closed => {}
        }
    }

    /// A connection has come: pick its destination, and have a task carry it there.
    pub(crate) fn take(self: &Arc<Self>, picker: &mut Picker, client: TcpStream, peer: SocketAddr) {
        let shared = &self.shared;
        shared.counters.accepted.fetch_add(1, Relaxed);
        let target = if self.address.ip().is_unspecified() { client.local_addr().ok() } else { None };
        let target = target.unwrap_or(self.address);
        let access = self.access.load();
        if !access.allows(peer.ip()) {
            self.refuse(&client);
            return;
        }
        let (flow, now) = (Flow::new(peer, target.ip()), wait::now(&shared.clock));
        let first = match access.other_for(peer, target) {
            Some(other) => other.connect(&flow, now),
            None => picker.connect(&flow, now),
        };
        let Some(first) = first else {
            self.refuse(&client);
            return;
        };
        let carrier =
            Arc::new(TcpCarrier { connections: Arc::clone(&shared.connections), task: Task::default() });
        let service = Arc::clone(first.service());
        let carrying = Arc::clone(&carrier);
        let search = Search { peer, target, service, carrier: carrying, failed: Vec::new(), timeouts: 0 };
        let open = shared.connections.open();
        let task = shared.runtime.spawn(Arc::clone(self).serve(client, search, first, open));
        carrier.task.began(task.abort_handle());
    }

    fn refuse(&self, client: &TcpStream) {
        self.shared.counters.refused.fetch_add(1, Relaxed);
        reset(client);
    }

    async fn serve(self: Arc<Self>, client: TcpStream, mut search: Search, first: Connection, _open: Open) {
        let Some(mut reached) = self.reach(&mut search, Some(first)).await else {
            self.refuse(&client);
            return;
        };
        let (clock, mut pump) = (&self.shared.clock, Pump::new());
        loop {
            let Reached { server, carried, introduced } = &reached;
            let outcome = pump.run(&client, server, carried, clock, *introduced).await;
            if outcome == Outcome::Over {
                break;
            }
            search.failed.push(carried.connection().destination().address());
            self.shared.counters.retried.fetch_add(1, Relaxed);
            match self.reach(&mut search, None).await {
                Some(other) => {
                    reached = other;
                    pump.begin_again();
                }
                None if outcome == Outcome::Declined => pump.settle(),
                None => {
                    self.refuse(&client);
                    break;
                }
            }
        }
        reached.carried.close(wait::now(clock));
    }

    /// The service whose destinations a client gets.
    fn leading(&self, peer: SocketAddr, target: SocketAddr) -> Arc<VirtualService> {
        Arc::clone(self.access.load().other_for(peer, target).unwrap_or(&self.service))
    }

    /// Have a destination take the connection, `first` if given: others are tried when one cannot be reached.
    async fn reach(&self, search: &mut Search, first: Option<Connection>) -> Option<Reached> {
        let Shared { clock, options, counters, connections, .. } = &*self.shared;
        let (flow, mut first) = (Flow::new(search.peer, search.target.ip()), first);
        while search.failed.len() < options.attempts && search.timeouts < options.timeouts {
            let next = first
                .take()
                .or_else(|| search.service.connect_excluding(&flow, wait::now(clock), &search.failed));
            let Some(connection) = next else {
                // Whom this service led another one may lead by now.
                let leading = self.leading(search.peer, search.target);
                if Arc::ptr_eq(&leading, &search.service) {
                    return None;
                }
                search.service = leading;
                continue;
            };
            let carrier = Arc::clone(&search.carrier);
            let (key, now) = (FlowKey::new(Protocol::Tcp, search.peer, search.target), wait::now(clock));
            let carried = connections.balancer.carry(key, connection, State::SynReceived, carrier, now);
            match self.attempt(&carried, search).await {
                Ok((server, introduced)) => {
                    carried.set_state(State::Established);
                    return Some(Reached { server, carried, introduced });
                }
                Err(Miss::Failed) => {
                    search.failed.push(carried.connection().destination().address());
                    carried.set_state(State::Close);
                    carried.close(wait::now(clock));
                }
                Err(Miss::TimedOut) => {
                    search.timeouts += 1;
                    search.failed.push(carried.connection().destination().address());
                    carried.close(wait::now(clock));
                }
                // It has not failed and may come back. Whoever removes it may still be at it.
                Err(Miss::Removed) => tokio::task::yield_now().await,
            }
            counters.retried.fetch_add(1, Relaxed);
        }
        None
    }

    async fn attempt(&self, carried: &Carried, search: &Search) -> Result<(TcpStream, u64), Miss> {
        let destination = carried.connection().destination();
        if destination.removed() {
            return Err(Miss::Removed);
        }
        let to = carried.destination();
        let origin = self.shared.origin(&self.access.load(), search.peer, search.target, to);
        let stream = connecting::begin(to, &origin).map_err(|_| Miss::Failed)?;
        // Most are by then, those on this host: who waits and a timer are for the others only.
        if !connecting::connected_already(&stream) {
            self.wait_for(&stream, destination).await?;
        }
        if destination.removed() {
            return Err(Miss::Removed);
        }
        let introduced = self.introduce(search, &stream).map_err(|_| Miss::Failed)?;
        Ok((stream, introduced))
    }

    /// A destination that is removed meanwhile is left at once: whoever hangs on it is to go elsewhere.
    async fn wait_for(&self, stream: &TcpStream, destination: &Destination) -> Result<(), Miss> {
        let Shared { clock, options, .. } = &*self.shared;
        let mut connected = pin!(connecting::connected_later(stream));
        let mut over = pin!(wait::sleep(clock, options.connect_timeout));
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if destination.removed() {
                return Err(Miss::Removed);
            }
            tokio::select! {
                biased;
                connected = &mut connected => return connected.map_err(|_| Miss::Failed),
                () = &mut over => return Err(Miss::TimedOut),
                () = changed => {}
            }
        }
    }

    /// Tell the destination who the client is, if it wants to know: there is always room for the first bytes. Returns
    /// how many.
    fn introduce(&self, search: &Search, server: &TcpStream) -> io::Result<u64> {
        let Some(protocol) = self.access.load().proxy_protocol else { return Ok(0) };
        let header = protocol.header(search.peer, search.target);
        let sent = SockRef::from(server).send(&header)?;
        if sent == header.len() { Ok(sent as u64) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// What a connection brings to the search for a destination.
struct Search {
    peer: SocketAddr,
    target: SocketAddr,
    /// Whose destinations are tried: the listener's, or the one that leads this client.
    service: Arc<VirtualService>,
    carrier: Arc<TcpCarrier>,
    failed: Vec<SocketAddr>,
    timeouts: usize,
}

/// A destination that has taken the connection.
struct Reached {
    server: TcpStream,
    carried: Carried,
    introduced: u64,
}

/// Why an attempt to reach a destination came to nothing.
enum Miss {
    Failed,
    TimedOut,
    Removed,
}
