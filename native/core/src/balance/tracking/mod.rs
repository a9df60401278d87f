//! The connection table: which destination each packet of a known connection goes to, and for how long it is known.
//!
//! A look-up takes no lock (papaya's map is read in epochs). The counts of the destinations follow the states of their
//! connections as IPVS's do, and a connection that is over leaves the table when `expire` is called.

mod deadlines;
mod key;
mod state;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use papaya::HashMap;
use rustc_hash::FxBuildHasher;

use self::deadlines::{Deadlines, second};
use self::key::FlowKey;
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
    /// Milliseconds of the clock that the packets came with.
    pub expires: u64,
}

#[derive(Debug)]
struct Tracked {
    connection: Connection,
    /// The state's number in the low byte; the rest is when it is over.
    state_and_expiry: AtomicU64,
    /// The second it is filed under in the deadlines; entries for others are stale.
    filed: AtomicU64,
}

impl Tracked {
    /// A connection that has a destination and has seen no packet.
    fn begin(service: &Arc<VirtualService>, packet: &Packet, now: u64) -> Option<Self> {
        let connection = service.connect(&Flow::new(packet.client, packet.target.ip()), now)?;
        connection.set_active(false);
        let word = AtomicU64::new(now.saturating_add(1) << 8 | State::None as u64);
        Some(Self { connection, state_and_expiry: word, filed: AtomicU64::new(u64::MAX) })
    }

    fn state(&self) -> State {
        State::from_number(self.state_and_expiry.load(Relaxed) as u8)
    }

    fn expires(&self) -> u64 {
        self.state_and_expiry.load(Relaxed) >> 8
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
                    self.connection.set_active(new.is_active());
                }
                return;
            }
        }
    }
}

/// The connections of one balancer.
#[derive(Debug, Default)]
pub(super) struct ConnectionTable {
    tracked: HashMap<FlowKey, Tracked, FxBuildHasher>,
    deadlines: Deadlines,
    timeouts: ArcSwap<Timeouts>,
}

impl ConnectionTable {
    fn file(&self, key: FlowKey, tracked: &Tracked) {
        let due = second(tracked.expires());
        // Later is found out when the time has come; only sooner must be told now.
        if tracked.filed.fetch_min(due, Relaxed) > due {
            self.deadlines.file(due, key);
        }
    }

    /// Drop a connection if it is over.
    fn end(&self, key: &FlowKey, now: u64) {
        let tracked = self.tracked.pin();
        // Only one remover gets it, and gives its count back at once: memory is freed some time later.
        if let Ok(Some((_, ended))) = tracked.remove_if(key, |_, tracked| tracked.expires() <= now) {
            ended.connection.end(now);
        }
    }
}

impl Balancer {
    /// Where a packet goes. The first of a connection (TCP: a SYN) has a destination picked for it.
    pub fn forward(&self, packet: &Packet, now: u64) -> Verdict {
        let table = self.connections();
        let key = FlowKey::new(packet.protocol, packet.client, packet.target);
        let map = table.tracked.pin();
        let tracked = match map.get(&key).filter(|tracked| tracked.expires() > now) {
            Some(tracked) => tracked,
            None => {
                let Some(service) = self.service_of(packet) else { return Verdict::Pass };
                let Some(fresh) = Tracked::begin(&service, packet, now) else { return Verdict::Refuse };
                // One that is over but has not been swept away yet.
                table.end(&key, now);
                // Where two first packets race, the one entered first counts.
                map.get_or_insert(key, fresh)
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
        let map = table.tracked.pin();
        for (due, keys) in table.deadlines.due(second(now)) {
            for key in keys {
                let Some(tracked) = map.get(&key).filter(|tracked| tracked.filed.load(Relaxed) == due) else {
                    continue;
                };
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
        map.len()
    }

    /// A look-up that changes nothing: the destination of a tracked connection.
    pub fn tracked_destination(
        &self,
        protocol: Protocol,
        client: SocketAddr,
        target: SocketAddr,
    ) -> Option<SocketAddr> {
        let map = self.connections().tracked.pin();
        let tracked = map.get(&FlowKey::new(protocol, client, target))?;
        Some(tracked.connection.address_for(target.port()))
    }

    /// All tracked connections, in no order.
    pub fn tracked(&self) -> Vec<TrackedConnection> {
        let map = self.connections().tracked.pin();
        let copy = |(key, tracked): (&FlowKey, &Tracked)| TrackedConnection {
            protocol: key.protocol(),
            client: key.client(),
            target: key.target(),
            destination: tracked.connection.address_for(key.target().port()),
            state: tracked.state(),
            expires: tracked.expires(),
        };
        map.iter().map(copy).collect()
    }

    pub fn timeouts(&self) -> Timeouts {
        **self.connections().timeouts.load()
    }

    /// Hold for packets to come.
    pub fn set_timeouts(&self, timeouts: Timeouts) {
        self.connections().timeouts.store(Arc::new(timeouts));
    }
}
