//! Connections whose packets nobody sees here, since their carrier holds their sockets: it says what becomes of them.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::key::FlowKey;
use super::{Balancer, Connection, NEVER, State, Tracked};

/// What carries a connection; who made it knows its type.
pub type Carrier = Arc<dyn Any + Send + Sync>;

/// A connection that is in the table as long as this is held.
#[derive(Debug)]
pub struct Carried {
    balancer: Arc<Balancer>,
    tracked: Arc<Tracked>,
}

impl Carried {
    pub fn connection(&self) -> &Connection {
        &self.tracked.connection
    }

    /// Where it is carried to.
    pub fn destination(&self) -> SocketAddr {
        self.tracked.destination()
    }

    pub fn set_state(&self, state: State) {
        self.tracked.set(state, NEVER);
        self.tracked.connection.set_active(state.is_active());
    }

    /// It ends at `now`, in the state that it is in, and counts as inactive for as long as IPVS would remember that.
    pub fn close(self, now: u64) {
        self.close_idle(now, now);
    }

    /// As `close`; nothing has come since `last`.
    pub fn close_idle(self, now: u64, last: u64) {
        self.balancer.linger(&self.tracked, now, last);
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        let (table, own) =
            (self.balancer.connections(), |found: &Tracked| std::ptr::eq(found, &*self.tracked));
        table.tracked.remove_if(&self.tracked.key, own, &table.tracked.guard());
        // Of one that was closed the counts know already. Memory is freed some time later, they are not to wait for that.
        self.tracked.connection.release();
    }
}

impl Balancer {
    /// Enter a connection by its client and the virtual address. One of the same that was there is over by `now`: it goes.
    pub fn carry(
        self: &Arc<Self>,
        key: FlowKey,
        connection: Connection,
        state: State,
        carrier: Carrier,
        now: u64,
    ) -> Carried {
        let tracked = Arc::new(Tracked::new(key, connection, Some(carrier)));
        let carried = Carried { balancer: Arc::clone(self), tracked };
        carried.set_state(state);
        let table = self.connections();
        let guard = table.tracked.guard();
        let word = carried.tracked.word();
        if let (_, Some(old)) = table.tracked.enter(Arc::clone(&carried.tracked), word, |_| false, &guard) {
            self.linger(old, now, now);
        }
        carried
    }

    /// The carrier of a connection that is carried so.
    pub fn carrier(&self, key: &FlowKey) -> Option<Carrier> {
        let table = self.connections();
        let guard = table.tracked.guard();
        table.tracked.get(key, &guard)?.carrier.clone()
    }

    /// All connections that are carried so, each with its carrier.
    pub fn carried(&self) -> Vec<(super::TrackedConnection, Carrier)> {
        let table = self.connections();
        let guard = table.tracked.guard();
        let pair = |tracked: &Tracked| Some((tracked.copy(), tracked.carrier.clone()?));
        table.tracked.all(&guard).into_iter().filter_map(pair).collect()
    }

    /// What clients of those connections whose carrier is `ours` came to, each address once.
    pub fn carried_targets(&self, ours: impl Fn(&Carrier) -> bool) -> FxHashSet<SocketAddr> {
        let table = self.connections();
        let guard = table.tracked.guard();
        let found = table.tracked.all(&guard).into_iter();
        found.filter(|one| one.carrier.as_ref().is_some_and(&ours)).map(|one| one.key.target()).collect()
    }

    /// Take a carried connection out before its carrier lets go of it, if `carrier` is what carries it: it ends at `now`.
    pub fn uncarry(&self, key: &FlowKey, carrier: &Carrier, now: u64) {
        let same = |found: &Tracked| found.carrier.as_ref().is_some_and(|held| Arc::ptr_eq(held, carrier));
        let table = self.connections();
        let guard = table.tracked.guard();
        if let Some(gone) = table.tracked.remove_if(key, same, &guard) {
            self.linger(gone, now, now);
        }
    }

    /// A connection ends at `now` in the state that it is in; nothing has come since `last`.
    fn linger(&self, tracked: &Tracked, now: u64, last: u64) {
        let remembered = self.connections().timeouts.load().of(tracked.state());
        tracked.connection.linger(now, last.saturating_add(remembered));
    }
}
