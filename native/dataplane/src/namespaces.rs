//! Network namespaces of clients. A connection that is made from there has the client's own address, without any right to
//! borrow it and without packets that must be led back: the destination answers it as it answers the client.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use kubecore_sockets::Pool;
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use socket2::{Domain, Socket, Type};

use crate::access::Range;

/// Of sockets that a child must make: a pod has a few idle ones then, once it has asked a Service.
const TOGETHER: usize = 4;

/// By the client's address. Whoever makes a namespace says so, and says when it goes.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// What can be reached from each of them as it can from here.
    reached: Vec<Range>,
    known: RwLock<FxHashMap<IpAddr, Arc<Pool>>>,
}

impl Namespaces {
    pub fn new(reached: Vec<Range>) -> Self {
        Self { reached, known: RwLock::default() }
    }

    /// Errors: EPERM where nobody of ours may go, and what setns(2) says of a descriptor that is none of a network
    /// namespace.
    pub fn put(&self, client: IpAddr, namespace: OwnedFd) -> io::Result<()> {
        let sockets = Pool::new(namespace, TOGETHER);
        socket_in(&sockets, Domain::IPV4, Type::STREAM)?;
        self.known.write().insert(client, Arc::new(sockets));
        Ok(())
    }

    /// It is let go; connections that were made there live on.
    pub fn remove(&self, client: IpAddr) {
        self.known.write().remove(&client);
    }

    pub(crate) fn know(&self, client: IpAddr) -> bool {
        self.known.read().contains_key(&client)
    }

    /// Where a connection from `client` to `destination` is to be made; None: here.
    pub(crate) fn of(&self, client: IpAddr, destination: IpAddr) -> Option<Arc<Pool>> {
        let known = self.known.read().get(&client).cloned()?;
        self.reached.iter().any(|range| range.contains(destination)).then_some(known)
    }
}

/// A socket of a namespace. Errors: what setns(2) and socket(2) say.
pub(crate) fn socket_in(namespace: &Pool, domain: Domain, kind: Type) -> io::Result<Socket> {
    match within(namespace.namespace(), || Socket::new(domain, kind, None)) {
        // A thread of ours could not come back (CAP_SYS_ADMIN).
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => namespace.socket(domain, kind),
        made => made?,
    }
}

thread_local! {
    /// The calling thread's own namespace.
    static HOME: OnceCell<File> = const { OnceCell::new() };
}

fn within<R>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> R) -> io::Result<R> {
    HOME.with(|home| {
        let home = match home.get() {
            Some(home) => home,
            None => {
                let found = File::open("/proc/thread-self/ns/net")?;
                // Who may not enter it again does not leave.
                enter(found.as_fd())?;
                home.get_or_init(|| found)
            }
        };
        enter(namespace)?;
        let result = work();
        // What was allowed before is: all that can be missing is a little memory, for a moment.
        while enter(home.as_fd()).is_err() {
            std::thread::yield_now();
        }
        Ok(result)
    })
}

fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is involved.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
