//! The connection table: which destination each packet of a known connection goes to, and for how long it is known.
//!
//! The counts of the destinations follow the states of their connections as IPVS's do, and a connection that is over
//! leaves the table when `expire` is called, or when who carries it lets go of it (`carried`).

mod carried;
mod deadlines;
mod flows;
mod key;
mod state;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;

pub use self::carried::{Carried, Carrier};
use self::deadlines::{Deadlines, second};
use self::flows::{FlowTable, Keyed};
pub use self::key::FlowKey;
use self::key::Short;
pub use self::state::{Direction, Segment, State, Timeouts};
use super::connection::Connection;
use super::flow::{Flow, Protocol, ServiceKey};
use super::service::VirtualService;
use super::table::Balancer;

/// One packet as a hook on its way would see it.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub protocol: Protocol,
    pub client: SocketAddr,
    /// The address the client asked for: a service's, unless the packet has the firewall mark of one.
    pub target: SocketAddr,
    /// 0: none.
    pub mark: u32,
    pub direction: Direction,
    pub segment: Segment,
    pub bytes: u64,
}

/// What is to become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to this destination's connection (either direction).
    Carry(SocketAddr),
    /// No service's: none of our business.
    Pass,
    /// A service without a destination for it: to be answered with "port unreachable".
    Refuse,
    /// Its destination has been removed: IPVS drops it without a word, and the connection's time runs on.
    Drop,
}

/// A tracked connection, copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackedConnection {
    pub protocol: Protocol,
    pub client: SocketAddr,
    pub target: SocketAddr,
    pub destination: SocketAddr,
    pub state: State,
    /// Milliseconds of the clock that the packets came with; u64::MAX for a connection that is carried.
    pub expires: u64,
}

/// When a carried connection is over by itself.
const NEVER: u64 = u64::MAX >> 8;

struct Tracked {
    key: FlowKey,
    connection: Connection,
    /// The state's number in the low byte; the rest is when it is over.
    state_and_expiry: AtomicU64,
    /// The second it is filed under in the deadlines; entries for others are stale.
    filed: AtomicU64,
    carrier: Option<Carrier>,
}

impl std::fmt::Debug for Tracked {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.copy().fmt(out)
    }
}

impl Keyed for Tracked {
    fn key(&self) -> &FlowKey {
        &self.key
    }
}

impl Tracked {
    fn new(key: FlowKey, connection: Connection, carrier: Option<Carrier>) -> Self {
        let (state_and_expiry, filed) = (AtomicU64::default(), AtomicU64::new(u64::MAX));
        Self { key, connection, state_and_expiry, filed, carrier }
    }

    /// A connection that has a destination and has seen no packet.
    fn begin(key: FlowKey, service: &Arc<VirtualService>, packet: &Packet, now: u64) -> Option<Self> {
        let connection = service.connect(&Flow::new(packet.client, packet.target.ip()), now)?;
        connection.set_active(false);
        let tracked = Self::new(key, connection, None);
        tracked.set(State::None, now.saturating_add(1));
        Some(tracked)
    }

    fn set(&self, state: State, expires: u64) {
        self.state_and_expiry.store(expires << 8 | state as u64, Relaxed);
    }

    fn destination(&self) -> SocketAddr {
        self.connection.address_for(self.key.target().port())
    }

    /// The destination as the table keeps it beside the key, so that who asks for no more needs no more: 0 where it is
    /// not of IPv4.
    fn word(&self) -> u64 {
        match self.destination() {
            SocketAddr::V4(v4) => u64::from(u32::from(*v4.ip())) << 32 | u64::from(v4.port()) << 8 | 1,
            SocketAddr::V6(_) => 0,
        }
    }

    fn copy(&self) -> TrackedConnection {
        TrackedConnection {
            protocol: self.key.protocol(),
            client: self.key.client(),
            target: self.key.target(),
            destination: self.destination(),
            state: self.state(),
            expires: if self.expires() == NEVER { u64::MAX } else { self.expires() },
        }
    }

    fn state(&self) -> State {
        State::from_number(self.state_and_expiry.load(Relaxed) as u8)
    }

    fn expires(&self) -> u64 {
        self.state_and_expiry.load(Relaxed) >> 8
    }

    /// Tell the counts of a state. Another packet may have moved on meanwhile, and have told them before: the last one
    /// to tell sees to it that they are told of the last state.
    fn count(&self, moved: State) {
        let mut active = moved.is_active();
        loop {
            self.connection.set_active(active);
            let newest = self.state().is_active();
            if newest == active {
                return;
            }
            active = newest;
        }
    }

    /// A packet has come. Only who moves the state tells the counts of it.
    fn touch(&self, packet: &Packet, now: u64, timeouts: &Timeouts) {
        loop {
            let word = self.state_and_expiry.load(Relaxed);
            let old = State::from_number(word as u8);
            let new = old.after(packet.protocol, packet.direction, packet.segment);
            let expires = now.saturating_add(timeouts.of(new));
            let next = expires << 8 | new as u64;
            if next == word {
                return;
            }
            if self.state_and_expiry.compare_exchange_weak(word, next, Relaxed, Relaxed).is_ok() {
                if old != new {
                    self.count(new);
                }
                return;
            }
        }
    }
}

/// The connections of one balancer.
#[derive(Default)]
pub(super) struct ConnectionTable {
    tracked: FlowTable<Tracked>,
    deadlines: Deadlines,
    timeouts: ArcSwap<Timeouts>,
}

impl std::fmt::Debug for ConnectionTable {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ConnectionTable").field("connections", &self.tracked.len()).finish_non_exhaustive()
    }
}

impl ConnectionTable {
    fn file(&self, key: FlowKey, tracked: &Tracked) {
        let due = second(tracked.expires());
        // Later is found out when the time has come; only sooner must be told now.
        if tracked.filed.fetch_min(due, Relaxed) > due {
            self.deadlines.file(due, key);
        }
    }

    #[inline(never)]
    fn destination(&self, key: &FlowKey) -> Option<SocketAddr> {
        self.tracked.get(key, &self.tracked.guard()).map(Tracked::destination)
    }

    /// Drop a connection if it is over.
    fn end(&self, key: &FlowKey, now: u64) {
        let guard = self.tracked.guard();
        // Only one remover gets it, and gives its count back at once: memory is freed some time later.
        if let Some(ended) = self.tracked.remove_if(key, |tracked| tracked.expires() <= now, &guard) {
            ended.connection.end(now);
        }
    }
}

impl Balancer {
    /// Where a packet goes. The first of a connection (TCP: a SYN) has a destination picked for it.
    pub fn forward(&self, packet: &Packet, now: u64) -> Verdict {
        let table = self.connections();
        let key = FlowKey::new(packet.protocol, packet.client, packet.target);
        let guard = table.tracked.guard();
        let tracked = match table.tracked.get(&key, &guard).filter(|tracked| tracked.expires() > now) {
            Some(tracked) => tracked,
            None => {
                let Some(service) = self.service_of(packet) else { return Verdict::Pass };
                let Some(fresh) = Tracked::begin(key, &service, packet, now) else { return Verdict::Refuse };
                let word = fresh.word();
                // Where two first packets race, the one entered first counts; one that is over only waits to be swept.
                let stays = |found: &Tracked| found.expires() > now;
                let (tracked, ended) = table.tracked.enter(Arc::new(fresh), word, stays, &guard);
                if let Some(ended) = ended {
                    ended.connection.end(now);
                }
                tracked
            }
        };
        let destination = tracked.connection.destination();
        if destination.removed() {
            return Verdict::Drop;
        }
        tracked.touch(packet, now, &table.timeouts.load());
        table.file(key, tracked);
        let service = tracked.connection.service();
        match packet.direction {
            Direction::FromClient => service.count_in(destination, 1, packet.bytes),
            Direction::ToClient => service.count_out(destination, 1, packet.bytes),
        }
        Verdict::Carry(tracked.connection.address_for(packet.target.port()))
    }

    /// The service that a packet may begin a connection to.
    fn service_of(&self, packet: &Packet) -> Option<Arc<VirtualService>> {
        let begins = packet.protocol != Protocol::Tcp || packet.segment == Segment::Syn;
        if !begins || packet.direction == Direction::ToClient {
            return None;
        }
        let marked = if packet.mark == 0 { None } else { self.get(&ServiceKey::Mark(packet.mark)) };
        marked.or_else(|| self.get(&ServiceKey::new(packet.protocol, packet.target)))
    }

    /// Drop what is over at `now`, so that the counts no longer have it; returns how many connections are left.
    pub fn expire(&self, now: u64) -> usize {
        let table = self.connections();
        let guard = table.tracked.guard();
        for (due, keys) in table.deadlines.due(second(now)) {
            for key in keys {
                let filed_so = |tracked: &&Tracked| tracked.filed.load(Relaxed) == due;
                let Some(tracked) = table.tracked.get(&key, &guard).filter(filed_so) else { continue };
                if tracked.expires() <= now {
                    table.end(&key, now);
                } else {
                    tracked.filed.store(u64::MAX, Relaxed);
                    table.file(key, tracked);
                }
            }
        }
        for service in self.services() {
            service.expire(now);
        }
        table.tracked.len()
    }

    /// A look-up that changes nothing: the destination of a tracked connection.
    pub fn tracked_destination(
        &self,
        protocol: Protocol,
        client: SocketAddr,
        target: SocketAddr,
    ) -> Option<SocketAddr> {
        if let (SocketAddr::V4(client), SocketAddr::V4(target)) = (client, target) {
            let word = self.connections().tracked.word(Short::v4(protocol, client, target))?;
            if word != 0 {
                let (ip, port) = (((word >> 32) as u32).into(), (word >> 8) as u16);
                return Some(SocketAddr::new(IpAddr::V4(ip), port));
            }
        }
        self.connections().destination(&FlowKey::new(protocol, client, target))
    }

    /// All tracked connections, in no order.
    pub fn tracked(&self) -> Vec<TrackedConnection> {
        let table = self.connections();
        let guard = table.tracked.guard();
        table.tracked.all(&guard).into_iter().map(Tracked::copy).collect()
    }

    pub fn timeouts(&self) -> Timeouts {
        **self.connections().timeouts.load()
    }

    /// Hold for packets to come.
    pub fn set_timeouts(&self, timeouts: Timeouts) {
        self.connections().timeouts.store(Arc::new(timeouts));
    }
}
