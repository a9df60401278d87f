//! One listening socket of each family for the TCP addresses of all services: to have ten thousand Services takes no
//! more descriptors than one. Where the kernel does not let us, or a service needs rules of its own at its socket, it
//! listens for itself (`tcp_port`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use kubecore_core::balance::{Picker, Protocol};
use kubecore_core::clock::Clock;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use socket2::{SockRef, Socket};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::one_entrance::everywhere;
use crate::pump::reset;
use crate::steering::{Steering, Verdict};
use crate::tcp::TcpVirtual;
use crate::tcp_port::{self, prepare};

struct Served {
    by: Arc<TcpVirtual>,
    picker: Picker,
}

/// Invariant: the kernel leads no connections here but for addresses that are `served`, or were when it did.
pub(crate) struct OneListener {
    runtime: Handle,
    steering: Arc<Steering>,
    listeners: Vec<TcpListener>,
    served: Mutex<FxHashMap<SocketAddr, Served>>,
    accepting: Mutex<Vec<AbortHandle>>,
}

impl std::fmt::Debug for OneListener {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("OneListener").field("steering", &self.steering).finish_non_exhaustive()
    }
}

impl OneListener {
    /// `sockets`, which `steering` leads connections to, become listening ones before anything is led there.
    pub(crate) fn new(
        runtime: &Handle,
        clock: &Clock,
        steering: Arc<Steering>,
        sockets: Vec<Socket>,
    ) -> io::Result<Arc<Self>> {
        let _context = runtime.enter();
        let listeners = sockets.into_iter().map(|socket| TcpListener::from_std(socket.into()));
        let one = Arc::new(Self {
            runtime: runtime.clone(),
            steering,
            listeners: listeners.collect::<io::Result<_>>()?,
            served: Mutex::default(),
            accepting: Mutex::default(),
        });
        let tasks =
            (0..one.listeners.len()).map(|at| runtime.spawn(accept(Arc::clone(&one), at, clock.clone())));
        *one.accepting.lock() = tasks.map(|task| task.abort_handle()).collect();
        Ok(one)
    }

    /// A socket that connections may be led to.
    pub(crate) fn listen(socket: &Socket) -> io::Result<()> {
        prepare(socket)?;
        socket.listen(tcp_port::BACKLOG)
    }

    /// Connections for `address` come to `service` from now on; unless `open` they are refused until `set_open`.
    ///
    /// Errors: E2BIG when there are too many addresses, EAFNOSUPPORT for a family that this host has not.
    pub(crate) fn join(&self, address: SocketAddr, service: &Arc<TcpVirtual>, open: bool) -> io::Result<()> {
        if address.is_ipv6() && self.listeners.len() < 2 {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        }
        let served = Served { by: Arc::clone(service), picker: service.picker() };
        self.served.lock().insert(address, served);
        self.set_open(address, open).inspect_err(|_| self.forget(address))
    }

    pub(crate) fn set_open(&self, address: SocketAddr, open: bool) -> io::Result<()> {
        self.steering.set(Protocol::Tcp, address, if open { Verdict::Lead } else { Verdict::Refuse })
    }

    /// Connections for it come here no more; its service gets those that the kernel has taken already and, until it is
    /// forgotten, those with whose clients it is shaking hands.
    pub(crate) fn leave(&self, address: SocketAddr) {
        self.steering.remove(Protocol::Tcp, address);
        let _context = self.runtime.enter();
        let mut served = self.served.lock();
        for listener in &self.listeners {
            while let Ok((client, _)) = SockRef::from(listener).accept() {
                if let Some((client, peer)) = tcp_port::adopt(client) {
                    give(&mut served, client, peer);
                }
            }
        }
    }

    /// Whoever still comes for it is reset.
    pub(crate) fn forget(&self, address: SocketAddr) {
        self.served.lock().remove(&address);
    }

    pub(crate) fn close(&self) {
        for task in self.accepting.lock().drain(..) {
            task.abort();
        }
    }

    /// Ends with an error alone. Between a connection's being accepted and given to its service nobody changes them.
    fn take_all(&self, at: usize, context: &mut Context<'_>) -> Poll<io::Error> {
        let mut served = self.served.lock();
        loop {
            match ready!(self.listeners[at].poll_accept(context)) {
                Ok((client, peer)) => give(&mut served, client, peer),
                Err(error) => return Poll::Ready(error),
            }
        }
    }
}

fn give(served: &mut FxHashMap<SocketAddr, Served>, client: TcpStream, peer: SocketAddr) {
    let address = client.local_addr().map(|address| SocketAddr::new(address.ip(), address.port()));
    let known =
        address.ok().map(|address| if served.contains_key(&address) { address } else { everywhere(address) });
    match known.and_then(|address| served.get_mut(&address)) {
        Some(Served { by, picker }) => by.take(picker, client, peer),
        // It was removed while the kernel shook hands, or the client came to this very socket's port.
        None => reset(&client),
    }
}

async fn accept(one: Arc<OneListener>, at: usize, clock: Clock) {
    loop {
        let error = std::future::poll_fn(|context| one.take_all(at, context)).await;
        tcp_port::rest_if_exhausted(&error, &clock).await;
    }
}
