//! The connections that are open: they stand in the balancer's table, each with what carries it.

use std::collections::VecDeque;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kubecore_core::balance::{Balancer, Carrier, State};
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use tokio::task::AbortHandle;

use crate::relays::{Place, Relays};
use crate::udp::UdpFlow;

/// A connection that is as old as this stays where it is, and its destination is asked for signs of life: most are over
/// by then and need not pay for it.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// One open connection or UDP flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    pub client: SocketAddr,
    /// The virtual address the client asked for.
    pub target: SocketAddr,
    /// Where it is carried to, or is to be.
    pub destination: SocketAddr,
    pub state: State,
}

/// The task of a flow, so that it can be ended from outside.
#[derive(Debug, Default)]
pub(crate) struct Task {
    handle: OnceLock<AbortHandle>,
    ended: AtomicBool,
}

impl Task {
    /// It runs; it may be over already.
    pub(crate) fn began(&self, handle: AbortHandle) {
        let handle = self.handle.get_or_init(|| handle);
        if self.ended.load(Relaxed) {
            handle.abort();
        }
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Relaxed);
        if let Some(handle) = self.handle.get() {
            handle.abort();
        }
    }
}

/// Who has a TCP connection at the moment.
#[derive(Debug, Default)]
pub(crate) enum Stage {
    #[default]
    Begun,
    /// A task of the runtime, which looks for a destination.
    Task(AbortHandle),
    Relayed(Place),
    Over,
}

/// What carries a TCP connection.
#[derive(Debug)]
pub(crate) struct TcpCarrier {
    pub(crate) connections: Arc<Connections>,
    stage: Mutex<Stage>,
}

impl TcpCarrier {
    pub(crate) fn new(connections: Arc<Connections>) -> Arc<Self> {
        Arc::new(Self { connections, stage: Mutex::default() })
    }

    /// It is passed on, unless it has been ended: whoever gets it comes by here, too, before he passes it on in turn.
    pub(crate) fn pass_on(&self, begin: impl FnOnce() -> Stage) {
        let mut stage = self.stage.lock();
        if !matches!(*stage, Stage::Over) {
            *stage = begin();
        }
    }

    /// Nobody carries it from here on.
    fn end(&self) {
        let before = mem::replace(&mut *self.stage.lock(), Stage::Over);
        match before {
            Stage::Task(task) => task.abort(),
            Stage::Relayed(place) => self.connections.relays.remove(place),
            Stage::Begun | Stage::Over => {}
        }
    }
}

/// Those of one forwarder.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) balancer: Arc<Balancer>,
    pub(crate) relays: Arc<Relays>,
    open: AtomicUsize,
    /// Those that may still go to another destination, and since when they are where they are.
    unsettled: Mutex<VecDeque<(Duration, Place)>>,
}

impl Connections {
    pub(crate) fn new(balancer: Arc<Balancer>, relays: Arc<Relays>) -> Self {
        Self { balancer, relays, open: AtomicUsize::new(0), unsettled: Mutex::default() }
    }

    /// It is where it is since `now`.
    pub(crate) fn is_at(&self, place: Place, now: Duration) {
        self.unsettled.lock().push_back((now, place));
    }

    /// Those that have been where they are for long stay there.
    pub(crate) fn settle(&self, now: Duration) {
        loop {
            let mut unsettled = self.unsettled.lock();
            let Some(&(since, place)) = unsettled.front() else { return };
            if now.saturating_sub(since) < SETTLED_AFTER {
                return;
            }
            unsettled.pop_front();
            drop(unsettled);
            self.relays.settle(place);
        }
    }

    /// Counts one as open as long as what is returned is held.
    pub(crate) fn open(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Relaxed);
        Open(Arc::clone(self))
    }

    pub(crate) fn list(&self) -> Vec<ConnectionInfo> {
        let ours = self.balancer.carried().into_iter().filter(|(_, carrier)| self.is_ours(carrier));
        ours.map(|(found, _)| ConnectionInfo {
            client: found.client,
            target: found.target,
            destination: found.destination,
            state: found.state,
        })
        .collect()
    }

    /// Virtual addresses that clients came to, each once.
    pub(crate) fn targets(&self) -> FxHashSet<SocketAddr> {
        self.balancer.carried_targets(|carrier| self.is_ours(carrier))
    }

    pub(crate) fn len(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// End all; their sockets are closed when their tasks are dropped.
    pub(crate) fn end_all(&self) {
        for (_, carrier) in self.balancer.carried() {
            match self.one(&carrier) {
                Some(One::Tcp(tcp)) => tcp.end(),
                Some(One::Udp(udp)) => udp.task.end(),
                None => {}
            }
        }
    }

    fn is_ours(&self, carrier: &Carrier) -> bool {
        self.one(carrier).is_some()
    }

    /// None: it is another forwarder's.
    fn one<'a>(&self, carrier: &'a Carrier) -> Option<One<'a>> {
        let (owner, one) = if let Some(tcp) = carrier.downcast_ref::<TcpCarrier>() {
            (&tcp.connections, One::Tcp(tcp))
        } else {
            let udp = carrier.downcast_ref::<UdpFlow>()?;
            (&udp.connections, One::Udp(udp))
        };
        std::ptr::eq(&raw const **owner, self).then_some(one)
    }
}

enum One<'a> {
    Tcp(&'a TcpCarrier),
    Udp(&'a UdpFlow),
}

pub(crate) struct Open(Arc<Connections>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}
