//! One listening socket of each family for the TCP addresses of all services: to have ten thousand Services takes no
//! more descriptors than one. Where the kernel does not let us, or a service needs rules of its own at its socket, it
//! listens for itself (`tcp_port`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use kubecore_core::balance::{Picker, Protocol};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use socket2::Socket;

use crate::forwarder::Shared;
use crate::one_entrance::everywhere;
use crate::pump::reset;
use crate::relays::{Door, Place};
use crate::steering::{Steering, Verdict};
use crate::tcp::TcpVirtual;
use crate::tcp_port::{self, accept, prepare};

struct Served {
    by: Arc<TcpVirtual>,
    picker: Picker,
}

/// Invariant: the kernel leads no connections here but for addresses that are `served`, or were when it did.
pub(crate) struct OneListener {
    shared: Arc<Shared>,
    steering: Arc<Steering>,
    listeners: Vec<Socket>,
    served: Mutex<FxHashMap<SocketAddr, Served>>,
    open: Mutex<Vec<Place>>,
}

impl std::fmt::Debug for OneListener {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("OneListener").field("steering", &self.steering).finish_non_exhaustive()
    }
}

impl OneListener {
    /// `listeners`, which `steering` leads connections to, become listening ones before anything is led there.
    pub(crate) fn new(
        shared: Arc<Shared>,
        steering: Arc<Steering>,
        listeners: Vec<Socket>,
    ) -> io::Result<Arc<Self>> {
        let (served, open) = (Mutex::default(), Mutex::default());
        let one = Arc::new(Self { shared, steering, listeners, served, open });
        for at in 0..one.listeners.len() {
            let place = one.shared.relays().open(Arc::new(SharedDoor { one: Arc::clone(&one), at }))?;
            one.open.lock().push(place);
        }
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
        let mut served = self.served.lock();
        for listener in &self.listeners {
            while let Ok((client, peer)) = accept(listener) {
                give(&mut served, client, peer);
            }
        }
    }

    /// Whoever still comes for it is reset.
    pub(crate) fn forget(&self, address: SocketAddr) {
        self.served.lock().remove(&address);
    }

    pub(crate) fn close(&self) {
        for place in self.open.lock().drain(..) {
            self.shared.relays().remove(place);
        }
    }
}

/// One of the sockets.
struct SharedDoor {
    one: Arc<OneListener>,
    at: usize,
}

impl Door for SharedDoor {
    fn socket(&self) -> &Socket {
        &self.one.listeners[self.at]
    }

    /// Between a connection's being accepted and given to its service nobody changes them.
    fn take_one(&self, place: Place) {
        let mut served = self.one.served.lock();
        match accept(self.socket()) {
            Ok((client, peer)) => give(&mut served, client, peer),
            Err(error) => tcp_port::rest_door_if_exhausted(&error, &self.one.shared, place),
        }
    }
}

fn give(served: &mut FxHashMap<SocketAddr, Served>, client: Socket, peer: SocketAddr) {
    let address = client.local_addr().ok().and_then(|address| address.as_socket());
    let address = address.map(|address| SocketAddr::new(address.ip(), address.port()));
    let known =
        address.map(|address| if served.contains_key(&address) { address } else { everywhere(address) });
    match known.and_then(|address| served.get_mut(&address)) {
        Some(Served { by, picker }) => by.take(picker, client, peer),
        // It was removed while the kernel shook hands, or the client came to this very socket's port.
        None => reset(&client),
    }
}
