//! The connections that are open: they stand in the balancer's table, each with the task that carries it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use kubecore_core::balance::{Balancer, Carrier, State};
use rustc_hash::FxHashSet;
use tokio::task::AbortHandle;

use crate::udp::UdpFlow;

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

/// The task of a connection, so that it can be ended from outside.
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

/// What carries a TCP connection.
#[derive(Debug)]
pub(crate) struct TcpCarrier {
    pub(crate) connections: Arc<Connections>,
    pub(crate) task: Task,
}

/// Those of one forwarder.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) balancer: Arc<Balancer>,
    open: AtomicUsize,
}

impl Connections {
    pub(crate) fn new(balancer: Arc<Balancer>) -> Self {
        Self { balancer, open: AtomicUsize::new(0) }
    }

    /// Counts one as open as long as what is returned is held.
    pub(crate) fn open(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Relaxed);
        Open(Arc::clone(self))
    }

    pub(crate) fn list(&self) -> Vec<ConnectionInfo> {
        let ours =
            self.balancer.carried().into_iter().filter(|(_, carrier)| self.task(carrier, |_| ()).is_some());
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
        self.balancer.carried_targets(|carrier| self.task(carrier, |_| ()).is_some())
    }

    pub(crate) fn len(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// End all; their sockets are closed when their tasks are dropped.
    pub(crate) fn end_all(&self) {
        for (_, carrier) in self.balancer.carried() {
            self.task(&carrier, Task::end);
        }
    }

    /// None: it is another forwarder's.
    fn task<R>(&self, carrier: &Carrier, with: impl FnOnce(&Task) -> R) -> Option<R> {
        let (owner, task) = if let Some(tcp) = carrier.downcast_ref::<TcpCarrier>() {
            (&tcp.connections, &tcp.task)
        } else {
            let udp = carrier.downcast_ref::<UdpFlow>()?;
            (&udp.connections, &udp.task)
        };
        std::ptr::eq(&raw const **owner, self).then(|| with(task))
    }
}

pub(crate) struct Open(Arc<Connections>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}
