//! The TCP side of a virtual service: accept, pick, connect, carry.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use kubecore_core::balance::{Carried, Connection, Flow, Picker, State, VirtualService};
use parking_lot::Mutex;
use socket2::{SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::access::Access;
use crate::binding;
use crate::connecting::{KEEPALIVE, connect};
use crate::connections::{Open, Task, TcpCarrier};
use crate::forwarder::Shared;
use crate::proxy_protocol::ProxyProtocol;
use crate::pump::{Outcome, Pump, reset};
use crate::wait;

const BACKLOG: i32 = 4096;
/// How long accepting rests when the process has no file descriptor or memory left.
const EXHAUSTED_REST: Duration = Duration::from_millis(20);
/// A bound port that listens while its service has destinations. Bound but not listening, the kernel itself refuses
/// connections, and nobody else can take the port meanwhile.
#[derive(Debug)]
pub(crate) struct TcpVirtual {
    socket: Socket,
    address: SocketAddr,
    service: Arc<VirtualService>,
    shared: Arc<Shared>,
    proxy_protocol: Option<ProxyProtocol>,
    access: ArcSwap<Access>,
    accepting: Mutex<Option<AbortHandle>>,
    /// The service's destinations are others now.
    changed: Notify,
}

impl TcpVirtual {
    pub(crate) fn bind(
        bind: SocketAddr,
        service: Arc<VirtualService>,
        shared: Arc<Shared>,
        proxy_protocol: Option<ProxyProtocol>,
    ) -> io::Result<Arc<Self>> {
        let (socket, address) = binding::bind(bind, Type::STREAM)?;
        // Handed down to the connections that are accepted.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&KEEPALIVE)?;
        let (access, accepting, changed) = (ArcSwap::default(), Mutex::default(), Notify::new());
        Ok(Arc::new(Self { socket, address, service, shared, proxy_protocol, access, accepting, changed }))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The destinations have changed, or who may come to them.
    pub(crate) fn follow(self: &Arc<Self>) {
        let access = self.access.load();
        access.guard(&self.socket, &self.service, self.address.is_ipv4());
        self.set_open(access.opens(&self.service));
        self.changed.notify_waiters();
    }

    pub(crate) fn set_access(self: &Arc<Self>, access: Access) {
        self.access.store(Arc::new(access));
        self.follow();
    }

    /// Begin or cease to listen.
    pub(crate) fn set_open(self: &Arc<Self>, open: bool) {
        let mut accepting = self.accepting.lock();
        if open == accepting.is_some() {
            return;
        }
        if let Some(task) = accepting.take() {
            task.abort();
            self.take_waiting();
            // On a listening socket this undoes listen(2) and keeps the port (see inet_shutdown in Linux).
            let _ = self.socket.shutdown(std::net::Shutdown::Read);
        } else if let Ok(listener) = self.listener() {
            let serving = Arc::clone(self);
            *accepting = Some(self.shared.runtime.spawn(accept(listener, serving)).abort_handle());
        }
    }

    /// Connections that the kernel has taken and nobody has accepted yet are not to be lost.
    fn take_waiting(self: &Arc<Self>) {
        let (_context, mut picker) = (self.shared.runtime.enter(), self.service.picker());
        while let Ok((client, _)) = self.socket.accept() {
            let client = client.set_nonblocking(true).and_then(|()| TcpStream::from_std(client.into()));
            if let Ok(client) = client
                && let Ok(peer) = client.peer_addr()
            {
                self.take(&mut picker, client, peer);
            }
        }
    }

    fn listener(&self) -> io::Result<TcpListener> {
        self.socket.listen(BACKLOG)?;
        let _context = self.shared.runtime.enter();
        TcpListener::from_std(self.socket.try_clone()?.into())
    }

    /// A connection has come: pick its destination, and have a task carry it there.
    fn take(self: &Arc<Self>, picker: &mut Picker, client: TcpStream, peer: SocketAddr) {
        let shared = &self.shared;
        shared.counters.accepted.fetch_add(1, Relaxed);
        let target = if self.address.ip().is_unspecified() { client.local_addr().ok() } else { None };
        let target = target.unwrap_or(self.address);
        let access = self.access.load();
        if !access.allows(peer.ip()) {
            self.refuse(&client);
            return;
        }
        let (flow, now) = (Flow::new(peer, target.ip()), wait::now(&shared.clock));
        let first = match access.inside_for(peer, target) {
            Some(inside) => inside.connect(&flow, now),
            None => picker.connect(&flow, now),
        };
        let Some(first) = first else {
            self.refuse(&client);
            return;
        };
        let carrier =
            Arc::new(TcpCarrier { connections: Arc::clone(&shared.connections), task: Task::default() });
        let service = Arc::clone(first.service());
        let search = Search { peer, target, service, carrier: Arc::clone(&carrier), failed: Vec::new() };
        let open = shared.connections.open();
        let task = shared.runtime.spawn(Arc::clone(self).serve(client, search, first, open));
        carrier.task.began(task.abort_handle());
    }

    fn refuse(&self, client: &TcpStream) {
        self.shared.counters.refused.fetch_add(1, Relaxed);
        reset(client);
    }

    async fn serve(self: Arc<Self>, client: TcpStream, mut search: Search, first: Connection, _open: Open) {
        let Some(mut reached) = self.reach(&mut search, Some(first)).await else {
            self.refuse(&client);
            return;
        };
        let (clock, mut pump) = (&self.shared.clock, Pump::new());
        loop {
            let Reached { server, carried, introduced } = &reached;
            let outcome = pump.run(&client, server, carried, clock, *introduced).await;
            if outcome == Outcome::Over {
                break;
            }
            search.failed.push(carried.connection().destination().address());
            self.shared.counters.retried.fetch_add(1, Relaxed);
            match self.reach(&mut search, None).await {
                Some(other) => {
                    reached = other;
                    pump.begin_again();
                }
                None if outcome == Outcome::Declined => pump.settle(),
                None => {
                    self.refuse(&client);
                    break;
                }
            }
        }
        reached.carried.close(wait::now(clock));
    }

    /// Have a destination take the connection, `first` if given: others are tried when one cannot be reached.
    async fn reach(&self, search: &mut Search, first: Option<Connection>) -> Option<Reached> {
        let Shared { clock, options, counters, connections, .. } = &*self.shared;
        let (flow, mut first) = (Flow::new(search.peer, search.target.ip()), first);
        while search.failed.len() < options.attempts {
            let connection = match first.take() {
                Some(connection) => connection,
                None => search.service.connect_excluding(&flow, wait::now(clock), &search.failed)?,
            };
            let carrier = Arc::clone(&search.carrier);
            let Search { peer, target, .. } = *search;
            let carried = connections.balancer.carry(peer, target, connection, State::SynReceived, carrier);
            match self.attempt(&carried, search).await {
                Ok((server, introduced)) => {
                    carried.set_state(State::Established);
                    return Some(Reached { server, carried, introduced });
                }
                Err(Miss::Failed) => search.failed.push(carried.connection().destination().address()),
                // It has not failed and may come back. Whoever removes it may still be at it.
                Err(Miss::Removed) => tokio::task::yield_now().await,
            }
            counters.retried.fetch_add(1, Relaxed);
        }
        None
    }

    /// A destination that is removed meanwhile is left at once: whoever hangs on it is to go elsewhere.
    async fn attempt(&self, carried: &Carried, search: &Search) -> Result<(TcpStream, u64), Miss> {
        let Shared { clock, options, .. } = &*self.shared;
        let destination = carried.connection().destination();
        let to = carried.destination();
        let borrowed = self.access.load().borrows(search.peer, search.target, to).then_some(search.peer);
        let (mut connecting, mut over) =
            (pin!(connect(to, borrowed)), pin!(wait::sleep(clock, options.connect_timeout)));
        // Most are there by the time the kernel has been asked once more: a timer is for the others only.
        let mut once_more = pin!(tokio::task::yield_now());
        let mut waited = false;
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if destination.removed() {
                return Err(Miss::Removed);
            }
            tokio::select! {
                biased;
                stream = &mut connecting => return match stream {
                    _ if destination.removed() => Err(Miss::Removed),
                    Ok(stream) => match self.introduce(search, &stream) {
                        Ok(introduced) => Ok((stream, introduced)),
                        Err(_) => Err(Miss::Failed),
                    },
                    Err(_) => Err(Miss::Failed),
                },
                () = &mut once_more, if !waited => waited = true,
                () = &mut over, if waited => return Err(Miss::Failed),
                () = changed => {}
            }
        }
    }

    /// Tell the destination who the client is, if it wants to know: there is always room for the first bytes. Returns
    /// how many.
    fn introduce(&self, search: &Search, server: &TcpStream) -> io::Result<u64> {
        let Some(protocol) = self.proxy_protocol else { return Ok(0) };
        let header = protocol.header(search.peer, search.target);
        let sent = SockRef::from(server).send(&header)?;
        if sent == header.len() { Ok(sent as u64) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// What a connection brings to the search for a destination.
struct Search {
    peer: SocketAddr,
    target: SocketAddr,
    /// Whose destinations are tried: the listener's, or those for clients from inside.
    service: Arc<VirtualService>,
    carrier: Arc<TcpCarrier>,
    failed: Vec<SocketAddr>,
}

/// A destination that has taken the connection.
struct Reached {
    server: TcpStream,
    carried: Carried,
    introduced: u64,
}

/// Why an attempt to reach a destination came to nothing.
enum Miss {
    Failed,
    Removed,
}

async fn accept(listener: TcpListener, serving: Arc<TcpVirtual>) {
    let (shared, mut picker) = (Arc::clone(&serving.shared), serving.service.picker());
    loop {
        match listener.accept().await {
            Ok((client, peer)) => serving.take(&mut picker, client, peer),
            Err(error) => match error.raw_os_error() {
                // No longer listening: the task is about to be aborted.
                Some(libc::EINVAL | libc::EBADF) => return,
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    wait::sleep(&shared.clock, EXHAUSTED_REST).await;
                }
                // The client gave up before it was accepted, or its network did.
                _ => {}
            },
        }
    }
}
