//! The socket of one flow of UDP, and how long that is quiet.

use std::cell::RefCell;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use kubecore_core::clock::Clock;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::connecting::{Origin, connected};
use crate::wait;

pub(crate) const PACKET_BYTES: usize = 65_536;
/// Before a packet that was received, for whoever puts UDP's header there.
pub(crate) const HEADROOM: usize = 8;

thread_local! {
    /// Flows are many and packets short-lived: one buffer for each worker thread.
    static PACKET: RefCell<Box<[u8]>> = RefCell::new(vec![0; HEADROOM + PACKET_BYTES].into_boxed_slice());
}

/// What comes back.
pub(crate) enum Heard {
    Packet,
    /// What the network has said of a packet that was sent.
    Error(io::Error),
}

/// Connected to whom the packets are for.
#[derive(Debug)]
pub(crate) struct FlowSocket {
    socket: UdpSocket,
    /// Milliseconds of the clock.
    used: AtomicU64,
}

impl FlowSocket {
    /// Errors: what connect(2) says.
    pub(crate) fn connected(address: SocketAddr, origin: &Origin, now: u64) -> io::Result<Self> {
        Ok(Self { socket: connected(address, origin)?, used: AtomicU64::new(now) })
    }

    /// When a packet last went either way.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    pub(crate) fn use_now(&self, now: u64) {
        self.used.store(now, Relaxed);
    }

    /// How much is left of the time that it may be quiet for.
    pub(crate) fn rest(&self, quiet: Duration, now: u64) -> Duration {
        quiet.saturating_sub(Duration::from_millis(now.saturating_sub(self.used())))
    }

    /// Straight to the socket: tokio does not know yet that a new one takes packets. Errors: what send(2) says, of a
    /// packet before this one, too.
    pub(crate) fn send(&self, packet: &[u8]) -> io::Result<usize> {
        SockRef::from(&self.socket).send(packet)
    }

    /// None: nothing for so long.
    pub(crate) async fn hear(&self, clock: &Clock, rest: Duration) -> Option<Heard> {
        wait::timeout(clock, rest, self.heard()).await
    }

    async fn heard(&self) -> Heard {
        loop {
            // An error alone does not make a socket readable.
            let Ok(ready) = self.socket.ready(Interest::READABLE | Interest::ERROR).await else {
                return pending().await; // the runtime is about to end
            };
            if ready.is_error()
                && let Ok(error) = self.take_error()
            {
                return Heard::Error(error);
            }
            if ready.is_readable() {
                return Heard::Packet;
            }
        }
    }

    /// Errors: there is none.
    fn take_error(&self) -> io::Result<io::Error> {
        let socket = SockRef::from(&self.socket);
        let taken = || socket.take_error()?.ok_or_else(|| io::ErrorKind::WouldBlock.into());
        self.socket.try_io(Interest::ERROR, taken)
    }

    /// The packet that has come, behind `HEADROOM`. Errors: what recv(2) says, WouldBlock where there is none.
    pub(crate) fn receive<R>(&self, clock: &Clock, take: impl FnOnce(&mut [u8]) -> R) -> io::Result<R> {
        PACKET.with_borrow_mut(|packet| {
            let length = self.socket.try_recv(&mut packet[HEADROOM..])?;
            self.use_now(wait::now(clock));
            Ok(take(&mut packet[..HEADROOM + length]))
        })
    }
}
