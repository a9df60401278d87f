//! What listens for virtual services; adding or removing one never touches the others.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use kubecore_core::balance::{Balancer, Connection, Protocol, ServiceKey, VirtualService};
use kubecore_core::clock::Clock;
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::access::Access;
use crate::connecting::Origin;
pub use crate::connections::ConnectionInfo;
use crate::connections::Connections;
use crate::namespaces::Namespaces;
use crate::one_entrance::OneEntrance;
use crate::relays::Relays;
use crate::tcp::TcpVirtual;
use crate::udp::UdpVirtual;
use crate::wait;

#[cfg(test)]
mod tests;

#[derive(Clone, Copy, Debug)]
pub struct ForwarderOptions {
    /// For one attempt to reach a destination, before another one is tried.
    pub connect_timeout: Duration,
    /// Destinations tried for one connection.
    pub attempts: usize,
    /// Those of them that may let it wait for `connect_timeout`: to be refused costs no time.
    pub timeouts: usize,
    /// A UDP flow without packets for this long is forgotten.
    pub udp_timeout: Duration,
    /// One socket for the addresses of all services, for each of TCP and UDP, where the kernel lets us (CAP_BPF and
    /// CAP_NET_ADMIN).
    pub one_listener: bool,
    /// Services' addresses of IPv6 are this host's by routes alone, or are to be.
    pub freebind: bool,
}

impl Default for ForwarderOptions {
    fn default() -> Self {
        let (connect_timeout, udp_timeout) = (Duration::from_secs(2), Duration::from_secs(60));
        let (attempts, timeouts) = (32, 6);
        Self { connect_timeout, attempts, timeouts, udp_timeout, one_listener: false, freebind: false }
    }
}

/// Counts since the forwarder was made.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

/// What all listeners share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) runtime: Handle,
    pub(crate) clock: Clock,
    pub(crate) options: ForwarderOptions,
    pub(crate) counters: Counters,
    pub(crate) connections: Arc<Connections>,
    namespaces: Arc<Namespaces>,
}

impl Shared {
    pub(crate) fn relays(&self) -> &Arc<Relays> {
        &self.connections.relays
    }

    /// Whether the socket is to be made in another network namespace, which may take a child of ours and its time.
    pub(crate) fn connects_elsewhere(&self, client: SocketAddr, to: &Connection) -> bool {
        self.namespaces.know(client.ip())
            || kubecore_sockets::network_of(to.destination().address().ip()).is_some()
    }

    /// Whether a socket is to be bound though no link has its address.
    pub(crate) fn binds_ahead(&self, address: SocketAddr) -> bool {
        self.options.freebind && address.is_ipv6()
    }

    pub(crate) fn origin(
        &self,
        access: &Access,
        client: SocketAddr,
        target: SocketAddr,
        destination: SocketAddr,
    ) -> Origin {
        if access.borrows(client, target, destination) {
            return Origin::Borrowed(client);
        }
        self.namespaces.of(client.ip(), destination.ip()).map_or(Origin::Own, Origin::Inside)
    }
}

/// A copy of the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwarderStatistics {
    /// Connections (or UDP flows) taken from clients.
    pub accepted: u64,
    /// Those of them that were reset because no destination could be reached.
    pub refused: u64,
    /// Further attempts after one that failed.
    pub retried: u64,
    /// UDP packets lost here.
    pub dropped: u64,
    /// Open now.
    pub open: usize,
}

enum Listener {
    Tcp(Arc<TcpVirtual>),
    Udp(Arc<UdpVirtual>),
}

impl Listener {
    fn set_access(&self, access: Access) {
        let others = access.led.iter().filter_map(|led| led.service.as_ref());
        match self {
            Self::Tcp(listener) => {
                others.for_each(|other| observe(other, listener, TcpVirtual::follow));
                listener.set_access(access);
            }
            Self::Udp(listener) => {
                others.for_each(|other| observe(other, listener, UdpVirtual::follow));
                listener.set_access(access);
            }
        }
    }

    fn close(&self, service: &VirtualService) {
        service.forget_observer();
        match self {
            Self::Tcp(listener) => listener.close(),
            Self::Udp(listener) => listener.close(),
        };
    }
}

/// How often connections are looked for that have become old.
const TICK: Duration = Duration::from_secs(5);

async fn settle(shared: Arc<Shared>) {
    loop {
        wait::sleep(&shared.clock, TICK).await;
        shared.connections.settle(shared.clock.monotonic());
    }
}

/// Listens on virtual services' addresses and carries connections to their destinations.
pub struct Forwarder {
    shared: Arc<Shared>,
    listeners: Mutex<Listeners>,
    one: io::Result<OneEntrance>,
    settling: AbortHandle,
}

impl Forwarder {
    /// The connections stand in the table of `balancer`, whose services these are to be. Clients of `namespaces` are seen
    /// by destinations with their own addresses.
    pub fn new(
        runtime: Handle,
        relays: Arc<Relays>,
        clock: Clock,
        options: ForwarderOptions,
        balancer: Arc<Balancer>,
        namespaces: Arc<Namespaces>,
    ) -> Self {
        let (counters, connections) = (Counters::default(), Arc::new(Connections::new(balancer, relays)));
        let shared = Arc::new(Shared { runtime, clock, options, counters, connections, namespaces });
        let settling = shared.runtime.spawn(settle(Arc::clone(&shared))).abort_handle();
        let one = if options.one_listener {
            OneEntrance::new(&shared)
        } else {
            Err(io::Error::new(io::ErrorKind::Unsupported, "each service is to have a listener of its own"))
        };
        Self { shared, listeners: Mutex::default(), one, settling }
    }

    /// Why each service has a listener of its own; None: those that can share one do.
    pub fn listens_apart(&self) -> Option<&io::Error> {
        self.one.as_ref().err()
    }

    /// Bind `bind` (usually the service's own address; port 0 picks one) and serve it. While the service has no
    /// destination the port stays bound but refuses connections. Returns the bound address.
    ///
    /// Errors: what bind(2) says; InvalidInput for a protocol that cannot be forwarded or a service listened for
    /// already, or for the PROXY protocol over another than TCP.
    pub fn listen(
        &self,
        service: &Arc<VirtualService>,
        bind: SocketAddr,
        access: Access,
    ) -> io::Result<SocketAddr> {
        let ServiceKey::Address { protocol, .. } = service.key() else {
            return Err(invalid("a service by firewall mark has no address to listen on".into()));
        };
        let mut listeners = self.listeners.lock();
        if listeners.contains_key(&service.key()) {
            return Err(invalid(format!("{} is listened for already", service.key())));
        }
        suits(&access, protocol)?;
        let (address, listener) = match self.open(protocol, bind, service, false) {
            Err(error) if is_taken(&error) && is_in_our_way(&listeners, protocol, bind) => {
                self.open(protocol, bind, service, true)?
            }
            opened => opened?,
        };
        listener.set_access(access);
        listeners.insert(service.key(), (Arc::clone(service), listener));
        Ok(address)
    }

    /// `beside`: others of ours have the port.
    fn open(
        &self,
        protocol: Protocol,
        bind: SocketAddr,
        service: &Arc<VirtualService>,
        beside: bool,
    ) -> io::Result<(SocketAddr, Listener)> {
        // Sharing is for who comes for a port of a known number.
        let one = self.one.as_ref().ok().filter(|_| bind.port() != 0);
        let (own, shared) = (Arc::clone(service), Arc::clone(&self.shared));
        match protocol {
            Protocol::Tcp => {
                let one = one.map(|one| Arc::clone(&one.listener));
                let listener = TcpVirtual::bind(bind, own, shared, one, beside)?;
                observe(service, &listener, TcpVirtual::follow);
                Ok((listener.address(), Listener::Tcp(listener)))
            }
            Protocol::Udp => {
                let one = one.map(|one| Arc::clone(&one.receiver));
                let listener = UdpVirtual::bind(bind, own, shared, one, beside)?;
                observe(service, &listener, UdpVirtual::follow);
                Ok((listener.address(), Listener::Udp(listener)))
            }
            Protocol::Sctp => Err(invalid("SCTP cannot be forwarded in user space".into())),
        }
    }

    /// From now on `access` says who may come to a service. False: it is not listened for. Errors: InvalidInput for the
    /// PROXY protocol over another than TCP.
    pub fn set_access(&self, key: &ServiceKey, access: Access) -> io::Result<bool> {
        let listeners = self.listeners.lock();
        let Some((_, listener)) = listeners.get(key) else { return Ok(false) };
        if let ServiceKey::Address { protocol, .. } = key {
            suits(&access, *protocol)?;
        }
        listener.set_access(access);
        Ok(true)
    }

    /// Stop listening for a service and free its port; its open connections live on. False: it was not listened for.
    pub fn close(&self, key: &ServiceKey) -> bool {
        let Some((service, listener)) = self.listeners.lock().remove(key) else { return false };
        listener.close(&service);
        true
    }

    /// Stop listening for all services and end all connections.
    pub fn shutdown(&self) {
        let listeners: Vec<_> = self.listeners.lock().drain().collect();
        for (_, (service, listener)) in &listeners {
            listener.close(service);
        }
        self.shared.connections.end_all();
    }

    /// The services listened for and the addresses that are bound.
    pub fn listening(&self) -> Vec<(ServiceKey, SocketAddr)> {
        let address = |listener: &Listener| match listener {
            Listener::Tcp(listener) => listener.address(),
            Listener::Udp(listener) => listener.address(),
        };
        self.listeners.lock().iter().map(|(key, (_, listener))| (*key, address(listener))).collect()
    }

    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.shared.connections.list()
    }

    /// Virtual addresses that open connections came to, each once.
    pub fn targets(&self) -> FxHashSet<SocketAddr> {
        self.shared.connections.targets()
    }

    pub fn statistics(&self) -> ForwarderStatistics {
        let counters = &self.shared.counters;
        ForwarderStatistics {
            accepted: counters.accepted.load(Relaxed),
            refused: counters.refused.load(Relaxed),
            retried: counters.retried.load(Relaxed),
            dropped: counters.dropped.load(Relaxed),
            open: self.shared.connections.len(),
        }
    }
}

type Listeners = FxHashMap<ServiceKey, (Arc<VirtualService>, Listener)>;

/// Whether listeners of ours have the port at an address that is also this one's: if none has, somebody else has it.
fn is_in_our_way(listeners: &Listeners, protocol: Protocol, bind: SocketAddr) -> bool {
    let meets = |other: SocketAddr| {
        let alike = other.ip() == bind.ip() || other.ip().is_unspecified() || bind.ip().is_unspecified();
        other.port() == bind.port() && other.is_ipv4() == bind.is_ipv4() && alike
    };
    listeners.values().any(|(_, listener)| match listener {
        Listener::Tcp(tcp) => protocol == Protocol::Tcp && meets(tcp.address()),
        Listener::Udp(udp) => protocol == Protocol::Udp && meets(udp.address()),
    })
}

fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn suits(access: &Access, protocol: Protocol) -> io::Result<()> {
    if access.proxy_protocol.is_some() && protocol != Protocol::Tcp {
        return Err(invalid(format!("the PROXY protocol is for TCP, not {}", protocol.as_str())));
    }
    Ok(())
}

/// Have a listener follow the changes of a service for as long as it lives.
fn observe<L: Send + Sync + 'static>(service: &VirtualService, listener: &Arc<L>, follow: fn(&Arc<L>)) {
    let weak = Arc::downgrade(listener);
    service.observe(move |_| {
        if let Some(listener) = weak.upgrade() {
            follow(&listener);
        }
    });
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.settling.abort();
        self.shutdown();
        if let Ok(one) = &self.one {
            one.close();
        }
    }
}
