//! Sockets of a network namespace that a child of ours makes: one for each would cost more than many a connection.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};

use crate::{make, only, socket_within};

/// Of those kinds that are asked for again and again some are kept that nobody has asked for yet.
#[derive(Debug)]
pub struct Pool {
    namespace: OwnedFd,
    together: usize,
    /// Non-blocking ones, by `KINDS`.
    spare: [Mutex<Vec<Socket>>; KINDS.len()],
}

const KINDS: [(Domain, Type); 4] = [
    (Domain::IPV4, Type::STREAM),
    (Domain::IPV4, Type::DGRAM),
    (Domain::IPV6, Type::STREAM),
    (Domain::IPV6, Type::DGRAM),
];

impl Pool {
    /// So many of a kind are made `together` when one is wanted and none is left.
    pub fn new(namespace: OwnedFd, together: usize) -> Self {
        Self { namespace, together, spare: Default::default() }
    }

    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// One that does not block is kept, so that who asks for it has it at once. Errors: see
    /// [`kubecore_launch::sockets_within`].
    pub fn fill(&self, domain: Domain, kind: Type) -> io::Result<()> {
        let made = self.socket(domain, kind.nonblocking())?;
        if let Some(spare) = self.spare(domain, kind.nonblocking()) {
            spare.lock().push(made);
        }
        Ok(())
    }

    /// Errors: see [`kubecore_launch::sockets_within`].
    pub fn socket(&self, domain: Domain, kind: Type) -> io::Result<Socket> {
        let Some(spare) = self.spare(domain, kind) else {
            return socket_within(self.namespace(), domain, kind);
        };
        if let Some(found) = spare.lock().pop() {
            return Ok(found);
        }
        let mut made = make(self.namespace(), domain, kind, None, self.together)?;
        let wanted = made.pop();
        spare.lock().append(&mut made);
        only(wanted.into_iter().collect())
    }

    /// None: of such there are none.
    fn spare(&self, domain: Domain, kind: Type) -> Option<&Mutex<Vec<Socket>>> {
        let known = KINDS.iter().position(|known| (known.0, known.1.nonblocking()) == (domain, kind));
        known.map(|at| &self.spare[at])
    }
}
