//! A virtual service: its destinations and the scheduler that picks among them.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::cache::Cache;
use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};

use super::connection::Connection;
use super::destination::{Destination, DestinationSpec};
use super::flow::{Flow, ServiceKey};
use super::persistence::{Persistence, Template, TemplateTable};
use super::scheduler::{Schedule, SchedulerKind};
use super::statistics::{Rates, Statistics, Totals};

/// The flags of `sh` and `mh` (`ipvsadm -b sh-port,sh-fallback`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashOptions {
    /// Hash the client's port with its address.
    pub port: bool,
    /// When the hashed destination is unavailable, go on to another instead of refusing.
    pub fallback: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceOptions {
    pub scheduler: SchedulerKind,
    pub persistence: Option<Persistence>,
    pub hash: HashOptions,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self { scheduler: SchedulerKind::RoundRobin, persistence: None, hash: HashOptions::default() }
    }
}

/// How many destinations a change touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: usize,
    pub changed: usize,
    pub removed: usize,
}

/// What a pick reads: never changed, only replaced.
struct Snapshot {
    options: ServiceOptions,
    /// In IPVS's order: the destination added last comes first.
    destinations: Vec<Arc<Destination>>,
    scheduler: Box<dyn Schedule>,
}

impl Snapshot {
    #[inline]
    fn pick<R>(&self, flow: &Flow, read: impl FnOnce(&Arc<Destination>) -> R) -> Option<R> {
        let position = self.scheduler.pick(&self.destinations, flow)?;
        self.destinations.get(position).map(read)
    }

    fn choose(&self, flow: &Flow, tried: &[SocketAddr]) -> Option<Arc<Destination>> {
        if tried.is_empty() {
            return self.pick(flow, Arc::clone);
        }
        let untried = |destination: &Arc<Destination>| !tried.contains(&destination.address());
        // Schedulers with a cursor move on by themselves; the others are asked once and then stepped past.
        for _ in 0..=tried.len() {
            if let Some(destination) = self.pick(flow, Arc::clone).filter(untried) {
                return Some(destination);
            }
        }
        let excluded: FxHashSet<_> = tried.iter().copied().collect();
        let usable = |destination: &&Arc<Destination>| {
            destination.available() && !excluded.contains(&destination.address())
        };
        self.destinations.iter().filter(usable).min_by_key(|destination| destination.active()).cloned()
    }
}

type Observer = Box<dyn Fn(&VirtualService) + Send + Sync>;

/// A virtual service. Made by [`super::Balancer::put`], or on its own.
pub struct VirtualService {
    key: ServiceKey,
    snapshot: ArcSwap<Snapshot>,
    templates: TemplateTable,
    /// Destinations taken out that may still serve connections, or have closed ones that count: one that comes back
    /// keeps its counts (IPVS's trash). Its lock also makes changes one at a time.
    leaving: Mutex<FxHashMap<SocketAddr, Arc<Destination>>>,
    /// When the next of the closed connections that still count will do so no more; never later than that.
    next_over: AtomicU64,
    observer: ArcSwapOption<Observer>,
    statistics: Statistics,
    refused: AtomicU64,
}

impl std::fmt::Debug for VirtualService {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let snapshot = self.snapshot.load();
        out.debug_struct("VirtualService")
            .field("key", &self.key)
            .field("options", &snapshot.options)
            .field("destinations", &snapshot.destinations)
            .finish_non_exhaustive()
    }
}

/// Picks of one thread: it keeps the snapshot it saw last, so that a pick needs no more than to see that it still holds.
pub struct Picker {
    service: Arc<VirtualService>,
    seen: Cache<SnapshotOf, Arc<Snapshot>>,
}

struct SnapshotOf(Arc<VirtualService>);

impl Deref for SnapshotOf {
    type Target = ArcSwap<Snapshot>;

    fn deref(&self) -> &Self::Target {
        &self.0.snapshot
    }
}

impl Picker {
    /// As [`VirtualService::pick`].
    #[inline]
    pub fn pick<R>(&mut self, flow: &Flow, read: impl FnOnce(&Arc<Destination>) -> R) -> Option<R> {
        self.seen.load().pick(flow, read)
    }

    /// As [`VirtualService::connect`].
    pub fn connect(&mut self, flow: &Flow, now: u64) -> Option<Connection> {
        self.service.connect_by(self.seen.load(), flow, now, &[])
    }
}

impl VirtualService {
    pub fn new(key: ServiceKey, options: ServiceOptions) -> Self {
        let snapshot = Snapshot { options, destinations: Vec::new(), scheduler: options.build() };
        Self {
            key,
            snapshot: ArcSwap::from_pointee(snapshot),
            templates: TemplateTable::default(),
            leaving: Mutex::default(),
            next_over: AtomicU64::new(u64::MAX),
            observer: ArcSwapOption::empty(),
            statistics: Statistics::default(),
            refused: AtomicU64::new(0),
        }
    }

    pub fn key(&self) -> ServiceKey {
        self.key
    }

    pub fn options(&self) -> ServiceOptions {
        self.snapshot.load().options
    }

    /// The destinations, the one added last first.
    pub fn destinations(&self) -> Vec<Arc<Destination>> {
        self.snapshot.load().destinations.clone()
    }

    /// Those that were taken out while connections to them are open.
    pub fn leaving(&self) -> Vec<Arc<Destination>> {
        let leaving = self.leaving.lock();
        leaving.values().filter(|found| found.active() > 0).cloned().collect()
    }

    /// Is there a destination with a weight? Without one, connections are to be refused.
    pub fn serving(&self) -> bool {
        self.snapshot.load().destinations.iter().any(|destination| destination.weight() > 0)
    }

    /// Counts since it was made.
    pub fn totals(&self) -> Totals {
        self.statistics.totals()
    }

    pub fn rates(&self) -> Rates {
        self.statistics.rates()
    }

    /// Connections for which no destination could be had.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Reckon the rates of the service and its destinations anew, every [`super::ESTIMATION_PERIOD`].
    pub fn estimate(&self, now: u64) {
        self.statistics.estimate(now);
        for destination in &self.snapshot.load().destinations {
            destination.statistics().estimate(now);
        }
    }

    /// Something went from a client to `destination`.
    pub fn count_in(&self, destination: &Destination, packets: u64, bytes: u64) {
        self.statistics.count_in(packets, bytes);
        destination.statistics().count_in(packets, bytes);
    }

    /// Something went from `destination` to a client.
    pub fn count_out(&self, destination: &Destination, packets: u64, bytes: u64) {
        self.statistics.count_out(packets, bytes);
        destination.statistics().count_out(packets, bytes);
    }

    /// Have `observer` called after every change of the destinations.
    pub fn observe(&self, observer: impl Fn(&VirtualService) + Send + Sync + 'static) {
        self.observer.store(Some(Arc::new(Box::new(observer))));
    }

    pub fn forget_observer(&self) {
        self.observer.store(None);
    }

    /// New options; destinations and their counts stay. A scheduler of another kind starts afresh.
    pub fn reconfigure(&self, options: ServiceOptions) {
        let _changing = self.leaving.lock();
        let old = self.snapshot.load_full();
        if old.options == options {
            return;
        }
        if old.options.persistence != options.persistence {
            self.templates.clear();
        }
        let destinations = old.destinations.clone();
        let same = old.options.scheduler == options.scheduler && old.options.hash == options.hash;
        let scheduler = if same {
            old.scheduler.successor(&old.destinations, &destinations)
        } else {
            options.build().successor(&[], &destinations)
        };
        self.publish(Snapshot { options, destinations, scheduler });
    }

    /// Make the destinations those of `wanted`: what is missing goes, what is there is kept with its counts and
    /// gets its new weight, what is new is added in the order given. A later duplicate address is ignored.
    pub fn set_destinations(&self, wanted: &[DestinationSpec]) -> Changes {
        let mut leaving = self.leaving.lock();
        leaving.retain(|_, destination| counts(destination));
        let old = self.snapshot.load_full();
        let mut specs: FxHashMap<SocketAddr, &DestinationSpec> = FxHashMap::default();
        for spec in wanted {
            specs.entry(spec.address).or_insert(spec);
        }
        let mut changes = Changes::default();
        let mut kept = Vec::with_capacity(specs.len());
        for destination in &old.destinations {
            let Some(spec) = specs.remove(&destination.address()) else {
                destination.set_removed(true);
                leaving.insert(destination.address(), Arc::clone(destination));
                changes.removed += 1;
                continue;
            };
            changes.changed += usize::from(destination.configure(spec));
            kept.push(Arc::clone(destination));
        }
        let mut added = Vec::with_capacity(specs.len());
        for spec in wanted {
            if specs.remove(&spec.address).is_some() {
                let back = leaving.remove(&spec.address);
                added.push(back.map_or_else(
                    || Arc::new(Destination::new(spec)),
                    |destination| {
                        destination.configure(spec);
                        destination.set_removed(false);
                        destination
                    },
                ));
            }
        }
        changes.added = added.len();
        if changes == Changes::default() {
            return changes;
        }
        let destinations: Vec<_> = added.into_iter().rev().chain(kept).collect();
        let scheduler = old.scheduler.successor(&old.destinations, &destinations);
        self.publish(Snapshot { options: old.options, destinations, scheduler });
        drop(leaving);
        if let Some(observer) = self.observer.load_full() {
            observer(self);
        }
        changes
    }

    fn publish(&self, snapshot: Snapshot) {
        for (position, destination) in snapshot.destinations.iter().enumerate() {
            destination.set_position(position);
        }
        self.snapshot.store(Arc::new(snapshot));
        // Counts that changed between building and storing were reported to the old snapshot only.
        let current = self.snapshot.load();
        for position in 0..current.destinations.len() {
            current.scheduler.load_changed(&current.destinations, position);
        }
    }

    pub(super) fn load_changed(&self, destination: &Arc<Destination>) {
        let snapshot = self.snapshot.load();
        let position = destination.position();
        if snapshot.destinations.get(position).is_some_and(|found| Arc::ptr_eq(found, destination)) {
            snapshot.scheduler.load_changed(&snapshot.destinations, position);
        }
    }

    /// A connection to `destination` is closed, and counts as inactive until `over`.
    pub(super) fn linger(&self, destination: &Arc<Destination>, was_active: bool, over: u64) {
        let over = destination.linger(was_active, over);
        self.next_over.fetch_min(over, Relaxed);
        if was_active {
            self.load_changed(destination);
        }
    }

    /// Count closed connections no more that are over at `now`. Whoever looks at counts does so first: nearly always
    /// there are none, which costs one comparison.
    #[inline]
    pub fn age(&self, now: u64) {
        if now >= self.next_over.load(Relaxed) {
            self.forget_closed(now);
        }
    }

    #[cold]
    fn forget_closed(&self, now: u64) {
        let mut leaving = self.leaving.lock();
        if now < self.next_over.load(Relaxed) {
            return;
        }
        // Before their counts are looked at: who closes one meanwhile is seen there, or comes after this.
        self.next_over.store(u64::MAX, Relaxed);
        let (snapshot, mut next) = (self.snapshot.load(), u64::MAX);
        for (position, destination) in snapshot.destinations.iter().enumerate() {
            let (changed, then) = destination.age(now);
            if changed {
                snapshot.scheduler.load_changed(&snapshot.destinations, position);
            }
            next = next.min(then);
        }
        leaving.retain(|_, destination| {
            next = next.min(destination.age(now).1);
            counts(destination)
        });
        self.next_over.fetch_min(next, Relaxed);
    }

    /// What the scheduler picks for a flow, uncounted and without persistence; `read` sees it in place.
    pub fn pick<R>(&self, flow: &Flow, read: impl FnOnce(&Arc<Destination>) -> R) -> Option<R> {
        self.snapshot.load().pick(flow, read)
    }

    /// A way in for one thread that picks often.
    pub fn picker(self: &Arc<Self>) -> Picker {
        Picker { service: Arc::clone(self), seen: Cache::new(SnapshotOf(Arc::clone(self))) }
    }

    /// Send a connection to a destination and count it there. None: no destination is available.
    pub fn connect(self: &Arc<Self>, flow: &Flow, now: u64) -> Option<Connection> {
        self.connect_excluding(flow, now, &[])
    }

    /// As `connect`, but not to a destination in `tried`: for another attempt after one that failed.
    pub fn connect_excluding(
        self: &Arc<Self>,
        flow: &Flow,
        now: u64,
        tried: &[SocketAddr],
    ) -> Option<Connection> {
        self.connect_by(&self.snapshot.load(), flow, now, tried)
    }

    fn connect_by(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        flow: &Flow,
        now: u64,
        tried: &[SocketAddr],
    ) -> Option<Connection> {
        self.age(now);
        let chosen = match snapshot.options.persistence {
            Some(persistence) => self.choose_persistent(snapshot, flow, now, &persistence, tried),
            None => snapshot.choose(flow, tried).map(|destination| (destination, None)),
        };
        let Some((destination, template)) = chosen else {
            self.refused.fetch_add(1, Relaxed);
            return None;
        };
        self.statistics.count_connection();
        Some(Connection::open(Arc::clone(self), destination, template))
    }

    fn choose_persistent(
        &self,
        snapshot: &Snapshot,
        flow: &Flow,
        now: u64,
        persistence: &Persistence,
        tried: &[SocketAddr],
    ) -> Option<(Arc<Destination>, Option<Arc<Template>>)> {
        let client = persistence.mask(flow.source.ip());
        if tried.is_empty()
            && let Some(template) = self.templates.find(client, now, persistence)
        {
            return Some((Arc::clone(template.destination()), Some(template)));
        }
        let destination = snapshot.choose(flow, tried)?;
        // A client whose destination has just failed is moved for good.
        let template = self.templates.insert(client, &destination, now, persistence, !tried.is_empty());
        Some((Arc::clone(template.destination()), Some(template)))
    }

    /// Forget persistent clients whose time is up; returns how many are still remembered.
    pub fn expire(&self, now: u64) -> usize {
        self.age(now);
        self.templates.expire(now)
    }
}

/// Has a destination that was taken out anything to count? Who serves a connection holds it.
fn counts(destination: &Arc<Destination>) -> bool {
    Arc::strong_count(destination) > 1 || destination.lingers()
}
