//! Connections whose packets nobody sees here, since their carrier holds their sockets: it says what becomes of them.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use super::key::FlowKey;
use super::{Balancer, Connection, NEVER, Protocol, State, Tracked};

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

    /// It ends at `now`.
    pub fn close(self, now: u64) {
        self.tracked.connection.end(now);
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.balancer.take_out(&self.tracked.key, |found| std::ptr::eq(found, &*self.tracked));
        // Memory is freed some time later, the counts are not to wait for that.
        self.tracked.connection.release();
    }
}

impl Balancer {
    /// Enter a connection from `client` to the virtual address `target`. One with the same addresses that was there has
    /// ended without a word: it goes.
    pub fn carry(
        self: &Arc<Self>,
        client: SocketAddr,
        target: SocketAddr,
        connection: Connection,
        state: State,
        carrier: Carrier,
    ) -> Carried {
        let key = FlowKey::new(connection.protocol(), client, target);
        let tracked = Arc::new(Tracked::new(key, connection, Some(carrier)));
        let carried = Carried { balancer: Arc::clone(self), tracked };
        carried.set_state(state);
        let table = self.connections();
        let guard = table.tracked.guard();
        let word = carried.tracked.word();
        if let (_, Some(old)) = table.tracked.enter(Arc::clone(&carried.tracked), word, |_| false, &guard) {
            old.connection.release();
        }
        carried
    }

    /// The carrier of a connection that is carried so.
    pub fn carrier(&self, protocol: Protocol, client: SocketAddr, target: SocketAddr) -> Option<Carrier> {
        let table = self.connections();
        let guard = table.tracked.guard();
        table.tracked.get(&FlowKey::new(protocol, client, target), &guard)?.carrier.clone()
    }

    /// All connections that are carried so, each with its carrier.
    pub fn carried(&self) -> Vec<(super::TrackedConnection, Carrier)> {
        let table = self.connections();
        let guard = table.tracked.guard();
        let pair = |tracked: &Tracked| Some((tracked.copy(), tracked.carrier.clone()?));
        table.tracked.all(&guard).into_iter().filter_map(pair).collect()
    }

    /// Take a carried connection out before its carrier lets go of it, if `carrier` is what carries it.
    pub fn uncarry(&self, protocol: Protocol, client: SocketAddr, target: SocketAddr, carrier: &Carrier) {
        let key = FlowKey::new(protocol, client, target);
        let same = |found: &Tracked| found.carrier.as_ref().is_some_and(|held| Arc::ptr_eq(held, carrier));
        self.take_out(&key, same);
    }

    fn take_out(&self, key: &FlowKey, which: impl FnOnce(&Tracked) -> bool) {
        let table = self.connections();
        let guard = table.tracked.guard();
        if let Some(gone) = table.tracked.remove_if(key, which, &guard) {
            gone.connection.release();
        }
    }
}
