//! Carries bytes both ways between two sockets until both have finished.
//!
//! What the client says first is kept until the destination answers, so that it can be said to another one if this one
//! turns out to have taken nothing of it. Small messages are copied through a buffer (one receive, one send each); a stream that fills the buffer again
//! and again is spliced through a pipe instead. Nothing is read that could not be passed on, so a slow reader slows
//! its writer. The end of one direction is passed on as such (half-close); an error ends both with a reset.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use kubecore_core::balance::{Carried, State};
use kubecore_core::clock::Clock;
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::connecting::{keep_alive, progress};
use crate::splice::Pipe;
use crate::wait;

const BUFFER_BYTES: usize = 16 * 1024;
/// Full buffers in a row after which a direction is spliced, and small splices after which it no longer is.
const STREAK: u32 = 2;
const SMALL_STREAK: u32 = 8;
const SPARE_BUFFERS: usize = 256;
/// Of what a client has said, kept in case it must be said again.
const KEPT_BYTES: usize = 4096;
/// A connection that is as old as this stays where it is, and its destination is asked for signs of life: most are over
/// by then and need not pay for it.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

static SPARE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// Held only while bytes are in it, so that idle connections cost no buffers.
fn take_buffer() -> Box<[u8]> {
    SPARE.lock().pop().unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice())
}

fn give_back(buffer: Box<[u8]>) {
    let mut spare = SPARE.lock();
    if spare.len() < SPARE_BUFFERS && buffer.len() == BUFFER_BYTES {
        spare.push(buffer);
    }
}

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
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
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
        self.end - self.start + self.pipe.as_ref().map_or(0, Pipe::held)
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
                ready!(to.poll_write_ready(context))?;
                retry(self.send(to))?;
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
                let ready = from.poll_read_ready(context);
                if ready.is_pending()
                    && let Some(buffer) = self.buffer.take()
                {
                    give_back(buffer);
                }
                ready!(ready)?;
                retry(self.receive(from))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn receive(&mut self, from: &TcpStream) -> io::Result<()> {
        if let Some(pipe) = &mut self.pipe {
            let moved = from.try_io(Interest::READABLE, || pipe.fill(from.as_raw_fd()))?;
            self.at_end = moved == 0;
            self.streak = if moved < BUFFER_BYTES { self.streak + 1 } else { 0 };
            return Ok(());
        }
        let buffer = self.buffer.get_or_insert_with(take_buffer);
        let received = receive(from, buffer)?;
        (self.start, self.end) = (0, received);
        self.at_end = received == 0;
        self.streak = if received == buffer.len() { self.streak + 1 } else { 0 };
        Ok(())
    }

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
        let Some(buffer) = &self.buffer else { return Ok(()) };
        let sent = to.try_write(&buffer[self.start..self.end])?;
        if let Some(kept) = &mut self.kept {
            if kept.len() + sent <= KEPT_BYTES {
                kept.extend_from_slice(&buffer[self.start..self.start + sent]);
            } else {
                self.kept = None;
            }
        }
        self.start += sent;
        self.moved += sent as u64;
        if self.start == self.end && self.streak >= STREAK {
            // Without a pipe (too many open files) copying goes on.
            (self.pipe, self.streak) = (Pipe::new().ok(), 0);
            self.buffer = None;
        }
        Ok(())
    }

    /// What was sent is to be sent once more, before the rest.
    fn rewind(&mut self) {
        let mut bytes = self.kept.replace(Vec::new()).unwrap_or_default();
        if let Some(buffer) = self.buffer.take() {
            bytes.extend_from_slice(&buffer[self.start..self.end]);
            give_back(buffer);
        }
        (self.start, self.end, self.moved, self.finished) = (0, bytes.len(), 0, false);
        if !bytes.is_empty() {
            self.buffer = Some(bytes.into_boxed_slice());
        }
    }
}

/// As `TcpStream::try_read`, but a short read also tells tokio that the socket is empty (epoll(7), question 9), which
/// saves the call that would find that out.
fn receive(from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut short = None;
    let result = from.try_io(Interest::READABLE, || {
        // SAFETY: the pointer and length are those of a live, exclusive slice.
        let received = unsafe { libc::recv(from.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        if received > 0 && received < buffer.len() {
            short = Some(received);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(received)
    });
    short.map_or(result, Ok)
}

/// A call that would have blocked is tried again when the socket is ready.
fn retry(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(())
        }
        other => other,
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
