//! Carries bytes both ways between two sockets until both have finished.
//!
//! What the client says first is kept until the destination answers, so that it can be said to another one if this one
//! turns out to have taken nothing of it. Small messages are copied through a buffer (one receive, one send each); a stream that fills the buffer again
//! and again is spliced through a pipe instead. Nothing is read that could not be passed on, so a slow reader slows
//! its writer. The end of one direction is passed on as such (half-close); an error ends both with a reset.

use std::future::poll_fn;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use kubecore_core::balance::{Carried, State};
use kubecore_core::clock::Clock;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::connecting::{keep_alive, progress};
use crate::splice::Pipe;
use crate::wait;

/// Received in one call. It lies on the stack: nothing is allocated or cleared for what can be sent on at once.
const BUFFER_BYTES: usize = 16 * 1024;
/// Full buffers in a row after which a direction is spliced, and small splices after which it no longer is.
const STREAK: u32 = 2;
const SMALL_STREAK: u32 = 8;
/// Of what a client has said, kept in case it must be said again.
const KEPT_BYTES: usize = 4096;
/// A connection that is as old as this stays where it is, and its destination is asked for signs of life: most are over
/// by then and need not pay for it.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// Why a direction cannot go on.
enum Stop {
    Failed,
    /// The source has finished before it has said anything.
    Unheard,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Failed
    }
}

/// One direction.
#[derive(Default)]
struct Direction {
    /// What the target has not taken yet, from `start` on.
    left: Vec<u8>,
    start: usize,
    pipe: Option<Pipe>,
    streak: u32,
    moved: u64,
    at_end: bool,
    finished: bool,
    /// What has been sent so far, while all of it is kept.
    kept: Option<Vec<u8>>,
    /// To stop at an end before the first byte.
    unheard: bool,
}

impl Direction {
    fn held(&self) -> usize {
        self.left.len() - self.start + self.pipe.as_ref().map_or(0, Pipe::held)
    }

    /// Ready when the source has finished and the target has been told; the `last` one leaves that to the closing of
    /// the sockets.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
        last: bool,
    ) -> Poll<Result<(), Stop>> {
        while !self.finished {
            if self.held() > 0 {
                self.unheard = false;
                if blocked(self.send(to))? {
                    ready!(to.poll_write_ready(context))?;
                }
            } else if self.at_end {
                if self.unheard {
                    return Poll::Ready(Err(Stop::Unheard));
                }
                self.finished = true;
                if !last {
                    // The target may have closed already; there is nothing left to tell it then.
                    let _ = socket2::SockRef::from(to).shutdown(std::net::Shutdown::Write);
                }
            } else {
                ready!(from.poll_read_ready(context))?;
                blocked(self.pass(from, to))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Receive, and send on what the target takes at once.
    fn pass(&mut self, from: &TcpStream, to: &TcpStream) -> io::Result<()> {
        if let Some(pipe) = &mut self.pipe {
            let moved = from.try_io(Interest::READABLE, || pipe.fill(from.as_raw_fd()))?;
            self.at_end = moved == 0;
            self.streak = if moved < BUFFER_BYTES { self.streak + 1 } else { 0 };
            return Ok(());
        }
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let received = receive(from, &mut buffer)?;
        self.at_end = received.is_empty();
        self.streak = if received.len() == BUFFER_BYTES { self.streak + 1 } else { 0 };
        if self.at_end {
            return Ok(());
        }
        self.unheard = false;
        let sent = send(to, received);
        let taken = *sent.as_ref().unwrap_or(&0);
        self.left.extend_from_slice(&received[taken..]);
        self.count(&received[..taken]);
        sent.map(|_| self.consider_splicing())
    }

    /// Send what is left.
    fn send(&mut self, to: &TcpStream) -> io::Result<()> {
        if let Some(pipe) = &mut self.pipe
            && pipe.held() > 0
        {
            let sent = to.try_io(Interest::WRITABLE, || pipe.drain(to.as_raw_fd()))?;
            self.moved += sent as u64;
            if pipe.held() == 0 && self.streak >= SMALL_STREAK {
                (self.pipe, self.streak) = (None, 0);
            }
            return Ok(());
        }
        let left = mem::take(&mut self.left);
        let sent = send(to, &left[self.start..]);
        let taken = *sent.as_ref().unwrap_or(&0);
        self.count(&left[self.start..self.start + taken]);
        self.start += taken;
        if self.start == left.len() {
            self.start = 0;
            self.consider_splicing();
        } else {
            self.left = left;
        }
        sent.map(|_| ())
    }

    /// The target has taken them.
    fn count(&mut self, sent: &[u8]) {
        self.moved += sent.len() as u64;
        match &mut self.kept {
            Some(kept) if kept.len() + sent.len() <= KEPT_BYTES => kept.extend_from_slice(sent),
            _ => self.kept = None,
        }
    }

    fn consider_splicing(&mut self) {
        if self.held() == 0 && self.streak >= STREAK {
            // Without a pipe (too many open files) copying goes on.
            (self.pipe, self.streak) = (Pipe::new().ok(), 0);
        }
    }

    /// What was sent is to be sent once more, before the rest.
    fn rewind(&mut self) {
        let mut bytes = self.kept.replace(Vec::new()).unwrap_or_default();
        bytes.extend_from_slice(&self.left[self.start..]);
        (self.left, self.start, self.moved, self.finished) = (bytes, 0, 0, false);
    }
}

/// As `TcpStream::try_read`, but a short read also tells tokio that the socket is empty (epoll(7), question 9), which
/// saves the call that would find that out.
fn receive<'a>(from: &TcpStream, buffer: &'a mut [MaybeUninit<u8>]) -> io::Result<&'a [u8]> {
    let room = buffer.len();
    let mut short: Option<&'a [u8]> = None;
    let result = from.try_io(Interest::READABLE, || {
        let ((received, _), _) = rustix::net::recv(from, buffer, RecvFlags::empty())?;
        if !received.is_empty() && received.len() < room {
            short = Some(received);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(&*received)
    });
    short.map_or(result, Ok)
}

/// By way of rustix and not of libc, whose calls ask each time whether their thread is to be cancelled.
fn send(to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    to.try_io(Interest::WRITABLE, || Ok(rustix::net::send(to, bytes, SendFlags::NOSIGNAL)?))
}

/// Whether it is to be tried again when the socket is ready.
fn blocked(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        other => other.map(|()| false),
    }
}

/// How carrying came to an end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Over,
    /// The destination has reset the connection before it took or said anything.
    Refused,
    /// The destination has finished before it took or said anything; it may still take.
    Declined,
}

/// Both directions of a connection. It may go on with another server when one has refused or declined.
pub(crate) struct Pump {
    inward: Direction,
    outward: Direction,
    told: (u64, u64),
}

impl Pump {
    pub(crate) fn new() -> Self {
        let inward = Direction { kept: Some(Vec::new()), ..Direction::default() };
        let outward = Direction { unheard: true, ..Direction::default() };
        Self { inward, outward, told: (0, 0) }
    }

    /// Say to another server what the client has said so far.
    pub(crate) fn begin_again(&mut self) {
        self.inward.rewind();
        self.outward = Direction { unheard: true, ..Direction::default() };
        self.told = (0, 0);
    }

    /// There is no other server: this one it is, whatever it does.
    pub(crate) fn settle(&mut self) {
        (self.inward.kept, self.outward.unheard) = (None, false);
    }

    /// Carry bytes until both sides have finished, or one fails: then both are reset. `introduced` bytes that are not
    /// the client's have gone to the server before.
    pub(crate) async fn run(
        &mut self,
        client: &TcpStream,
        server: &TcpStream,
        carried: &Carried,
        clock: &Clock,
        introduced: u64,
    ) -> Outcome {
        let mut settling = pin!(wait::sleep(clock, SETTLED_AFTER));
        let mut settled = false;
        poll_fn(|context| {
            if !settled && settling.as_mut().poll(context).is_ready() {
                settled = true;
                self.settle();
                keep_alive(server);
            }
            self.poll(context, client, server, carried, introduced)
        })
        .await
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        client: &TcpStream,
        server: &TcpStream,
        carried: &Carried,
        introduced: u64,
    ) -> Poll<Outcome> {
        loop {
            let to_server = self.inward.poll(context, client, server, self.outward.finished);
            if self.inward.kept.is_none() || self.inward.at_end {
                self.outward.unheard = false;
            }
            let to_client = self.outward.poll(context, server, client, self.inward.finished);
            let (inward, outward) = (self.inward.moved, self.outward.moved);
            carried.connection().count_bytes(inward - self.told.0, outward - self.told.1);
            self.told = (inward, outward);
            if outward > 0 || self.outward.held() > 0 {
                self.inward.kept = None;
            }
            match (to_server, to_client) {
                (Poll::Ready(Err(stop)), _) | (_, Poll::Ready(Err(stop))) => {
                    if let Some(outcome) = self.stopped(&stop, server, introduced) {
                        if outcome == Outcome::Over {
                            reset(client);
                            reset(server);
                        }
                        carried.set_state(if outcome == Outcome::Declined {
                            State::FinWait
                        } else {
                            State::Close
                        });
                        return Poll::Ready(outcome);
                    }
                }
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                    carried.set_state(State::TimeWait);
                    return Poll::Ready(Outcome::Over);
                }
                (Poll::Pending, Poll::Pending) => return Poll::Pending,
                (Poll::Ready(Ok(())), Poll::Pending) => {
                    carried.set_state(State::CloseWait);
                    return Poll::Pending;
                }
                (Poll::Pending, Poll::Ready(Ok(()))) => {
                    carried.set_state(State::FinWait);
                    return Poll::Pending;
                }
            }
        }
    }

    /// What becomes of the connection; None: it goes on.
    ///
    /// A reset loses nothing while the server's kernel has acknowledged nothing of what the client said: what a program
    /// reads has been acknowledged before (Linux does so at once at the beginning of a connection). Behind an
    /// acknowledgement the program may have read and acted: only the client can know what that means.
    fn stopped(&mut self, stop: &Stop, server: &TcpStream, introduced: u64) -> Option<Outcome> {
        let Some(kept) = &self.inward.kept else {
            return Some(Outcome::Over);
        };
        let untouched = progress(server).is_some_and(|seen| seen.closed && seen.acknowledged <= introduced);
        match stop {
            _ if untouched => Some(Outcome::Refused),
            Stop::Failed => Some(Outcome::Over),
            Stop::Unheard if kept.is_empty() => Some(Outcome::Declined),
            Stop::Unheard => {
                self.settle();
                None
            }
        }
    }
}

/// Carry bytes both ways where there is no other server, until both sides have finished, or one fails: then both are
/// reset.
pub(crate) async fn relay(client: &TcpStream, server: &TcpStream) {
    let (mut inward, mut outward) = (Direction::default(), Direction::default());
    poll_fn(|context| {
        let to_server = inward.poll(context, client, server, outward.finished);
        let to_client = outward.poll(context, server, client, inward.finished);
        match (to_server, to_client) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => {
                reset(client);
                reset(server);
                Poll::Ready(())
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
}

/// Closing a socket with zero linger sends RST.
pub(crate) fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
