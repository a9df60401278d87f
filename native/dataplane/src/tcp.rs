//! The TCP side of a virtual service: accept, pick, connect, carry.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::{io, mem};

use arc_swap::ArcSwap;
use kubecore_core::balance::{
    Carried, Connection, Destination, Flow, FlowKey, Picker, Protocol, State, VirtualService,
};
use parking_lot::Mutex;
use socket2::Socket;
use tokio::sync::Notify;

use crate::access::Access;
use crate::connecting;
use crate::connections::{Open, Stage, TcpCarrier};
use crate::forwarder::Shared;
use crate::one_listener::OneListener;
use crate::pump::{Carries, Outcome, Pump, reset};
use crate::tcp_port::{HANDSHAKE, Lingering, TcpPort};
use crate::wait;

/// Where connections of a virtual service come in.
#[derive(Debug)]
enum Entrance {
    Own(TcpPort),
    /// The kernel leads them to the one listener. What was there before may listen a while longer.
    One(Arc<OneListener>, Option<Lingering>),
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
    /// A task looks for what has lingered long enough; changed with the `entrance` locked alone.
    ends_lingering: AtomicBool,
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
        let (access, entrance) = (ArcSwap::default(), Mutex::new(Entrance::Own(port)));
        let (ends_lingering, changed) = (AtomicBool::new(false), Notify::new());
        Ok(Arc::new(Self { address, service, shared, one, access, entrance, ends_lingering, changed }))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn picker(&self) -> Picker {
        self.service.picker()
    }

    /// The destinations have changed, or who may come to them.
    pub(crate) fn follow(self: &Arc<Self>) {
        let mut entrance = self.entrance.lock();
        let access = self.access.load();
        let opens = access.opens(&self.service);
        let other = self.other_entrance(&mut entrance, &access, opens);
        let before = other.map(|other| mem::replace(&mut *entrance, other));
        match &mut *entrance {
            Entrance::Own(port) => {
                access.guard(&port.socket, &self.service, self.address.is_ipv4());
                port.set_open(opens, self);
            }
            // What cannot be kept out is not let in.
            Entrance::One(one, _) => {
                let _ = one.set_open(self.address, opens && !access.needs_socket(&self.service));
            }
            Entrance::Closed => {}
        }
        // Only now: nobody is to stand between two doors.
        match before {
            Some(Entrance::Own(port)) if port.is_open() => self.linger(&mut entrance, port),
            Some(before) => self.leave(before),
            None => {}
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
        entrance: &mut Entrance,
        access: &Access,
        opens: bool,
    ) -> Option<Entrance> {
        let alone = access.needs_socket(&self.service);
        match (entrance, &self.one) {
            (Entrance::Own(_), Some(one)) if !alone => {
                one.join(self.address, self, opens).ok().map(|()| Entrance::One(Arc::clone(one), None))
            }
            (Entrance::One(_, lingering), _) if alone => {
                let ahead = self.shared.binds_ahead(self.address);
                let port = match lingering.take() {
                    Some(there) => Some(there.port),
                    None => TcpPort::bind(self.address, true, ahead).ok().map(|(port, _)| port),
                };
                port.map(Entrance::Own)
            }
            _ => None,
        }
    }

    fn leave(self: &Arc<Self>, entrance: Entrance) {
        match entrance {
            Entrance::Own(mut port) => port.set_open(false, self),
            Entrance::One(one, lingering) => {
                one.leave(self.address);
                if let Some(mut lingering) = lingering {
                    lingering.port.set_open(false, self);
                }
            }
            Entrance::Closed => {}
        }
    }

    fn linger(self: &Arc<Self>, entrance: &mut Entrance, port: TcpPort) {
        let Entrance::One(_, lingering) = entrance else { return self.leave(Entrance::Own(port)) };
        *lingering = Some(Lingering { port, since: self.shared.clock.monotonic() });
        if !self.ends_lingering.swap(true, Relaxed) {
            self.shared.runtime.spawn(Arc::clone(self).end_lingering());
        }
    }

    async fn end_lingering(self: Arc<Self>) {
        loop {
            wait::sleep(&self.shared.clock, HANDSHAKE).await;
            let mut entrance = self.entrance.lock();
            let now = self.shared.clock.monotonic();
            if let Entrance::One(_, lingering) = &mut *entrance
                && let Some(there) = lingering
            {
                if now.saturating_sub(there.since) < HANDSHAKE {
                    continue;
                }
                there.port.set_open(false, &self);
                *lingering = None;
            }
            self.ends_lingering.store(false, Relaxed);
            return;
        }
    }

    /// A connection has come: pick its destination, and have it carried there. Most destinations on this host take it at
    /// once; a task waits for the others.
    pub(crate) fn take(self: &Arc<Self>, picker: &mut Picker, client: Socket, peer: SocketAddr) {
        let shared = &self.shared;
        shared.counters.accepted.fetch_add(1, Relaxed);
        let target = if self.address.ip().is_unspecified() { client.local_addr().ok() } else { None };
        let target = target.and_then(|target| target.as_socket()).unwrap_or(self.address);
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
        // Before the destination hears of it.
        let open = shared.connections.open();
        let carrier = TcpCarrier::new(Arc::clone(&shared.connections));
        let service = Arc::clone(first.service());
        let mut search =
            Search { peer, target, service, carrier, failed: Vec::new(), timeouts: 0, removed: false };
        let first = if shared.connects_elsewhere(peer, &first) {
            Attempt::Picked(first)
        } else {
            self.attempt(&mut search, first)
        };
        let session = Session { listener: Arc::clone(self), search, client, _open: open };
        match first {
            Attempt::Reached(reached) => session.carry(reached, Pump::new()),
            other => session.look_on(move |session| session.serve(other)),
        }
    }

    fn refuse(&self, client: &Socket) {
        self.shared.counters.refused.fetch_add(1, Relaxed);
        reset(client);
    }

    /// The service whose destinations a client gets.
    fn leading(&self, peer: SocketAddr, target: SocketAddr) -> Arc<VirtualService> {
        Arc::clone(self.access.load().other_for(peer, target).unwrap_or(&self.service))
    }

    /// Have a destination take the connection, as `first` has tried already: others are tried when one cannot be reached.
    async fn reach(&self, search: &mut Search, first: Option<Attempt>) -> Option<Reached> {
        let Shared { clock, options, counters, .. } = &*self.shared;
        let (flow, mut first) = (Flow::new(search.peer, search.target.ip()), first);
        while first.is_some() || search.failed.len() < options.attempts && search.timeouts < options.timeouts
        {
            let attempt = match first.take() {
                Some(Attempt::Picked(connection)) => self.attempt(search, connection),
                Some(attempt) => attempt,
                None => match search.service.connect_excluding(&flow, wait::now(clock), &search.failed) {
                    Some(connection) => self.attempt(search, connection),
                    None => {
                        // Whom this service led another one may lead by now.
                        let leading = self.leading(search.peer, search.target);
                        if Arc::ptr_eq(&leading, &search.service) {
                            return None;
                        }
                        search.service = leading;
                        continue;
                    }
                },
            };
            match attempt {
                Attempt::Reached(reached) => return Some(reached),
                Attempt::Waits(carried, server) => {
                    let waited = self.wait_for(&server, carried.connection().destination()).await;
                    match waited.and_then(|()| self.introduce_to(search, &carried, &server)) {
                        Ok(introduced) => return Some(Reached::new(server, carried, introduced)),
                        Err(miss) => self.missed(search, carried, &miss),
                    }
                }
                Attempt::Picked(_) | Attempt::Missed => {}
            }
            // It has not failed and may come back. Whoever removes it may still be at it.
            if search.removed {
                search.removed = false;
                tokio::task::yield_now().await;
            }
            counters.retried.fetch_add(1, Relaxed);
        }
        None
    }

    /// As far as it comes without waiting.
    fn attempt(&self, search: &mut Search, connection: Connection) -> Attempt {
        let carrier = Arc::clone(&search.carrier);
        let now = wait::now(&self.shared.clock);
        let key = FlowKey::new(Protocol::Tcp, search.peer, search.target);
        let balancer = &self.shared.connections.balancer;
        let carried = balancer.carry(key, connection, State::SynReceived, carrier, now);
        let begun = self.begin(search, &carried);
        let introduced = match &begun {
            // Most are connected by then, those on this host: who waits and a timer are for the others only.
            Ok(server) if connecting::connected_already(server) => {
                self.introduce_to(search, &carried, server).map(Some)
            }
            Ok(_) => Ok(None),
            Err(_) => Err(Miss::Failed),
        };
        match (begun, introduced) {
            (Ok(server), Ok(Some(introduced))) => Attempt::Reached(Reached::new(server, carried, introduced)),
            (Ok(server), Ok(None)) => Attempt::Waits(carried, server),
            (Err(miss), _) | (_, Err(miss)) => {
                self.missed(search, carried, &miss);
                Attempt::Missed
            }
        }
    }

    fn begin(&self, search: &Search, carried: &Carried) -> Result<Socket, Miss> {
        if carried.connection().destination().removed() {
            return Err(Miss::Removed);
        }
        let to = carried.destination();
        let origin = self.shared.origin(&self.access.load(), search.peer, search.target, to);
        connecting::begin(to, &origin).map_err(|_| Miss::Failed)
    }

    fn missed(&self, search: &mut Search, carried: Carried, miss: &Miss) {
        let address = carried.connection().destination().address();
        match miss {
            Miss::Failed => {
                search.failed.push(address);
                carried.set_state(State::Close);
                carried.close(wait::now(&self.shared.clock));
            }
            Miss::TimedOut => {
                search.timeouts += 1;
                search.failed.push(address);
                carried.close(wait::now(&self.shared.clock));
            }
            Miss::Removed => search.removed = true,
        }
    }

    /// A destination that is removed meanwhile is left at once: whoever hangs on it is to go elsewhere.
    async fn wait_for(&self, server: &Socket, destination: &Destination) -> Result<(), Miss> {
        let Shared { clock, options, .. } = &*self.shared;
        let mut connected = pin!(connecting::connected_later(server));
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

    fn introduce_to(&self, search: &Search, carried: &Carried, server: &Socket) -> Result<u64, Miss> {
        if carried.connection().destination().removed() {
            return Err(Miss::Removed);
        }
        self.introduce(search, server).map_err(|_| Miss::Failed)
    }

    /// Tell the destination who the client is, if it wants to know: there is always room for the first bytes. Returns
    /// how many.
    fn introduce(&self, search: &Search, server: &Socket) -> io::Result<u64> {
        let Some(protocol) = self.access.load().proxy_protocol else { return Ok(0) };
        let header = protocol.header(search.peer, search.target);
        let sent = server.send(&header)?;
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
    /// The destination that was tried last was taken away meanwhile.
    removed: bool,
}

/// A destination that has taken the connection.
struct Reached {
    server: Socket,
    carried: Carried,
    introduced: u64,
}

impl Reached {
    fn new(server: Socket, carried: Carried, introduced: u64) -> Self {
        carried.set_state(State::Established);
        Self { server, carried, introduced }
    }
}

enum Attempt {
    /// It has not begun.
    Picked(Connection),
    Reached(Reached),
    /// For the destination's answer.
    Waits(Carried, Socket),
    Missed,
}

/// Why an attempt to reach a destination came to nothing.
enum Miss {
    Failed,
    TimedOut,
    Removed,
}

/// A client's connection that is taken.
struct Session {
    listener: Arc<TcpVirtual>,
    search: Search,
    client: Socket,
    _open: Open,
}

impl Session {
    /// Bytes go both ways from here on, until both sides have finished.
    fn carry(self, reached: Reached, pump: Pump) {
        let Session { listener, search, client, _open } = self;
        let Reached { server, carried, introduced } = reached;
        let (carrier, shared) = (Arc::clone(&search.carrier), Arc::clone(&listener.shared));
        let relayed = Relayed { listener, search, carried, introduced, _open };
        carrier.pass_on(|| match shared.relays().add(client, server, pump, Box::new(relayed)) {
            Some(place) => {
                shared.connections.is_at(place, shared.clock.monotonic());
                Stage::Relayed(place)
            }
            None => Stage::Over,
        });
    }

    /// A task looks for a destination from here on.
    fn look_on<F: Future<Output = ()> + Send + 'static>(self, look: impl FnOnce(Self) -> F) {
        let (carrier, runtime) = (Arc::clone(&self.search.carrier), self.listener.shared.runtime.clone());
        carrier.pass_on(|| Stage::Task(runtime.spawn(look(self)).abort_handle()));
    }

    async fn serve(mut self, first: Attempt) {
        match self.listener.reach(&mut self.search, Some(first)).await {
            Some(reached) => self.carry(reached, Pump::new()),
            None => self.listener.refuse(&self.client),
        }
    }

    /// A destination has had it and took nothing: another one is to.
    async fn serve_anew(mut self, before: Reached, mut pump: Pump, outcome: Outcome) {
        self.search.failed.push(before.carried.connection().destination().address());
        self.listener.shared.counters.retried.fetch_add(1, Relaxed);
        match self.listener.reach(&mut self.search, None).await {
            Some(other) => {
                pump.begin_again();
                self.carry(other, pump);
            }
            None if outcome == Outcome::Declined => {
                pump.settle();
                self.carry(before, pump);
            }
            None => {
                self.listener.refuse(&self.client);
                before.carried.close(wait::now(&self.listener.shared.clock));
            }
        }
    }
}

/// As its bytes are carried.
struct Relayed {
    listener: Arc<TcpVirtual>,
    search: Search,
    carried: Carried,
    introduced: u64,
    _open: Open,
}

impl Carries for Relayed {
    fn passed(&self, from_client: u64, to_client: u64) {
        self.carried.connection().count_bytes(from_client, to_client);
    }

    fn enter(&self, state: State) {
        self.carried.set_state(state);
    }

    fn introduced(&self) -> u64 {
        self.introduced
    }

    fn ended(self: Box<Self>, client: Socket, server: Socket, pump: Pump, outcome: Outcome) {
        let Relayed { listener, search, carried, introduced, _open } = *self;
        if outcome == Outcome::Over {
            carried.close(wait::now(&listener.shared.clock));
            return;
        }
        let before = Reached { server, carried, introduced };
        let session = Session { listener, search, client, _open };
        session.look_on(move |session| session.serve_anew(before, pump, outcome));
    }
}
