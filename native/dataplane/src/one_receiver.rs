//! One socket of each family for the packets of UDP that come to all services, as `one_listener` is for connections.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use kubecore_core::balance::Protocol;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use socket2::Socket;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::datagrams::{self, Arrived};
use crate::flow_socket::PACKET_BYTES;
use crate::one_entrance::everywhere;
use crate::steering::{Steering, Verdict};
use crate::udp::UdpVirtual;

/// What the kernel keeps while we are busy; it is for all services.
const RECEIVE_BUFFER: libc::c_int = 8 * 1024 * 1024;

/// Invariant: the kernel leads no packets here but for addresses that are `served`, or were when it did.
pub(crate) struct OneReceiver {
    steering: Arc<Steering>,
    sockets: Vec<UdpSocket>,
    served: RwLock<FxHashMap<SocketAddr, Arc<UdpVirtual>>>,
    receiving: Mutex<Vec<AbortHandle>>,
}

impl std::fmt::Debug for OneReceiver {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("OneReceiver").field("steering", &self.steering).finish_non_exhaustive()
    }
}

impl OneReceiver {
    /// Receives until `close` from `sockets`, of one family each, which `steering` leads packets to.
    pub(crate) fn new(
        runtime: &Handle,
        steering: Arc<Steering>,
        sockets: Vec<Socket>,
    ) -> io::Result<Arc<Self>> {
        for socket in &sockets {
            enlarge(socket);
            datagrams::tell_targets(socket, socket.local_addr()?.is_ipv4())?;
        }
        let _context = runtime.enter();
        let sockets = sockets.into_iter().map(|socket| UdpSocket::from_std(socket.into()));
        let one = Arc::new(Self {
            steering,
            sockets: sockets.collect::<io::Result<_>>()?,
            served: RwLock::default(),
            receiving: Mutex::default(),
        });
        let tasks = (0..one.sockets.len()).map(|at| runtime.spawn(receive(Arc::clone(&one), at)));
        *one.receiving.lock() = tasks.map(|task| task.abort_handle()).collect();
        Ok(one)
    }

    /// Packets for `address` come to `service` from now on; unless `open` they are refused until `set_open`.
    ///
    /// Errors: E2BIG when there are too many addresses, EAFNOSUPPORT for a family that this host has not.
    pub(crate) fn join(&self, address: SocketAddr, service: &Arc<UdpVirtual>, open: bool) -> io::Result<()> {
        if address.is_ipv6() && self.sockets.len() < 2 {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        }
        self.served.write().insert(address, Arc::clone(service));
        self.set_open(address, open).inspect_err(|_| drop(self.served.write().remove(&address)))
    }

    pub(crate) fn set_open(&self, address: SocketAddr, open: bool) -> io::Result<()> {
        self.steering.set(Protocol::Udp, address, if open { Verdict::Lead } else { Verdict::Refuse })
    }

    /// Packets for it come here no more. Those that the kernel has led here already are lost, as any may be.
    pub(crate) fn leave(&self, address: SocketAddr) {
        self.steering.remove(Protocol::Udp, address);
        self.served.write().remove(&address);
    }

    pub(crate) fn close(&self) {
        for task in self.receiving.lock().drain(..) {
            task.abort();
        }
        self.served.write().clear();
    }

    fn give(&self, arrived: Arrived, packet: &[u8]) {
        // A packet to this very socket's port was led by nobody.
        let Some(target) = arrived.target else { return };
        let service = {
            let served = self.served.read();
            served.get(&target).or_else(|| served.get(&everywhere(target))).cloned()
        };
        if let Some(service) = service {
            service.forward(arrived.client, target, &packet[..arrived.length]);
        }
    }
}

async fn receive(one: Arc<OneReceiver>, at: usize) {
    let mut packet = vec![0; PACKET_BYTES];
    let socket = &one.sockets[at];
    loop {
        // Errors here are about packets sent before; the socket itself stays good.
        let arrived =
            socket.async_io(tokio::io::Interest::READABLE, || datagrams::receive(socket, &mut packet)).await;
        if let Ok(arrived) = arrived {
            one.give(arrived, &packet);
        }
    }
}

/// Beyond what is allowed to others, where we may (CAP_NET_ADMIN).
fn enlarge(socket: &Socket) {
    let size = RECEIVE_BUFFER;
    // SAFETY: the value is a live int of the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const size).cast(),
            size_of_val(&size) as u32,
        )
    };
    if result != 0 {
        let _ = socket.set_recv_buffer_size(size as usize);
    }
}
