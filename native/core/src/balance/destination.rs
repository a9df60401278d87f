//! A real server behind a virtual service, with its counts.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use super::lingering::Lingering;
use super::statistics::{Rates, Statistics, Totals};

/// IPVS's limit (`IP_VS_WEIGHT_MAX`): the exactness of the load keys in `scheduler::least` rests on it.
pub const MAX_WEIGHT: u32 = 65535;

/// What a destination is wanted to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationSpec {
    pub address: SocketAddr,
    /// 0 drains: no new connection, existing ones live on. At most [`MAX_WEIGHT`].
    pub weight: u32,
    /// Connections at which it counts as overloaded; 0 is no limit.
    pub upper_threshold: u32,
    /// Connections below which it is no longer overloaded; 0 is three quarters of the upper threshold.
    pub lower_threshold: u32,
}

impl DestinationSpec {
    pub fn new(address: SocketAddr, weight: u32) -> Self {
        Self { address, weight, upper_threshold: 0, lower_threshold: 0 }
    }
}

/// A real server. Shared by the snapshots that contain it and by the connections it serves.
#[derive(Debug)]
pub struct Destination {
    address: SocketAddr,
    weight: AtomicU32,
    /// The weight before it was set to 0: hash tables keep their shape while a server drains.
    last_weight: AtomicU32,
    upper_threshold: AtomicU32,
    lower_threshold: AtomicU32,
    active: AtomicU32,
    inactive: AtomicU32,
    /// Those of the inactive that are closed.
    lingering: Lingering,
    overloaded: AtomicBool,
    removed: AtomicBool,
    /// Where it stands in its service's current list; readers verify it.
    position: AtomicU32,
    statistics: Statistics,
}

impl Destination {
    pub(super) fn new(spec: &DestinationSpec) -> Self {
        let destination = Self {
            address: spec.address,
            weight: AtomicU32::new(0),
            last_weight: AtomicU32::new(0),
            upper_threshold: AtomicU32::new(0),
            lower_threshold: AtomicU32::new(0),
            active: AtomicU32::new(0),
            inactive: AtomicU32::new(0),
            lingering: Lingering::default(),
            overloaded: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            position: AtomicU32::new(0),
            statistics: Statistics::default(),
        };
        destination.configure(spec);
        destination
    }

    /// Take over weight and thresholds; the counts stay. Returns whether anything changed.
    pub(super) fn configure(&self, spec: &DestinationSpec) -> bool {
        let weight = spec.weight.min(MAX_WEIGHT);
        let changed = self.weight.swap(weight, Relaxed) != weight;
        if weight > 0 {
            self.last_weight.store(weight, Relaxed);
        }
        let old_upper = self.upper_threshold.swap(spec.upper_threshold, Relaxed);
        let lower = self.lower_threshold.swap(spec.lower_threshold, Relaxed);
        // A raised limit ends the overload at once, a lowered one is felt at the next connection, as in IPVS.
        if spec.upper_threshold == 0 || spec.upper_threshold > old_upper {
            self.overloaded.store(false, Relaxed);
        }
        changed || old_upper != spec.upper_threshold || lower != spec.lower_threshold
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    pub(super) fn last_weight(&self) -> u32 {
        self.last_weight.load(Relaxed)
    }

    /// Connections that carry data or are being set up.
    pub fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// Connections that are on their way out: half closed, or closed and not yet forgotten.
    pub fn inactive(&self) -> u32 {
        self.inactive.load(Relaxed)
    }

    /// Counts since it was made.
    pub fn totals(&self) -> Totals {
        self.statistics.totals()
    }

    pub fn rates(&self) -> Rates {
        self.statistics.rates()
    }

    pub(super) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Where a connection to this port of the service goes: port 0 stands for the same one.
    pub fn address_for(&self, port: u16) -> SocketAddr {
        let mut address = self.address;
        if address.port() == 0 {
            address.set_port(port);
        }
        address
    }

    pub fn overloaded(&self) -> bool {
        self.overloaded.load(Relaxed)
    }

    /// May it get new connections?
    pub fn available(&self) -> bool {
        self.weight() > 0 && !self.overloaded()
    }

    /// Has it been taken out of its service?
    pub fn removed(&self) -> bool {
        self.removed.load(Relaxed)
    }

    pub(super) fn set_removed(&self, removed: bool) {
        self.removed.store(removed, Relaxed);
    }

    pub(super) fn position(&self) -> usize {
        self.position.load(Relaxed) as usize
    }

    pub(super) fn set_position(&self, position: usize) {
        self.position.store(u32::try_from(position).unwrap_or(u32::MAX), Relaxed);
    }

    pub(super) fn opened(&self, active: bool) {
        let count = if active { &self.active } else { &self.inactive };
        count.fetch_add(1, Relaxed);
        self.statistics.count_connection();
        let upper = self.upper_threshold.load(Relaxed);
        if upper != 0 && self.total() >= u64::from(upper) {
            self.overloaded.store(true, Relaxed);
        }
    }

    /// A connection changes from one count to the other.
    pub(super) fn set_active(&self, active: bool) {
        let (more, less) =
            if active { (&self.active, &self.inactive) } else { (&self.inactive, &self.active) };
        more.fetch_add(1, Relaxed);
        less.fetch_sub(1, Relaxed);
    }

    pub(super) fn closed(&self, was_active: bool) {
        let count = if was_active { &self.active } else { &self.inactive };
        count.fetch_sub(1, Relaxed);
        self.relieve();
    }

    /// A connection is closed, and counts as inactive until `over`. Returns when it counts no more.
    pub(super) fn linger(&self, was_active: bool, over: u64) -> u64 {
        if was_active {
            self.set_active(false);
        }
        self.lingering.add(over)
    }

    /// Count those no more that were closed and are over at `now`: whether there were any, and when the next ones are.
    pub(super) fn age(&self, now: u64) -> (bool, u64) {
        let (over, next) = self.lingering.take(now);
        if over > 0 {
            self.inactive.fetch_sub(over, Relaxed);
            self.relieve();
        }
        (over > 0, next)
    }

    pub(super) fn lingers(&self) -> bool {
        !self.lingering.is_empty()
    }

    fn relieve(&self) {
        if self.overloaded() && self.relieved() {
            self.overloaded.store(false, Relaxed);
        }
    }

    fn total(&self) -> u64 {
        u64::from(self.active()) + u64::from(self.inactive())
    }

    /// Thresholds with hysteresis, as `ip_vs_unbind_dest` applies them.
    fn relieved(&self) -> bool {
        let upper = u64::from(self.upper_threshold.load(Relaxed));
        match u64::from(self.lower_threshold.load(Relaxed)) {
            0 => upper == 0 || self.total() * 4 < upper * 3,
            lower => self.total() < lower,
        }
    }
}
