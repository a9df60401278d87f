//! Carries bytes both ways between two sockets until both have finished.
//!
//! What the client says first is kept until the destination answers, so that it can be said to another one if this one
//! turns out to have taken nothing of it. Small messages are copied through a buffer (one receive, one send each); a
//! stream that fills the buffer again and again is spliced through a pipe instead. Nothing is read that could not be
//! passed on, so a slow reader slows its writer. The end of one direction is passed on as such (half-close); an error
//! ends both with a reset. When there is something to do, `relays` finds out.

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use kubecore_core::balance::State;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{SockRef, Socket};

use crate::connecting::progress;
use crate::splice::Pipe;

/// Received in one call. It lies on the stack: nothing is allocated or cleared for what can be sent on at once.
const BUFFER_BYTES: usize = 16 * 1024;
/// Full buffers in a row after which a direction is spliced, and small splices after which it no longer is.
const STREAK: u32 = 2;
const SMALL_STREAK: u32 = 8;
/// Of what a client has said, kept in case it must be said again.
const KEPT_BYTES: usize = 4096;
/// What a direction may receive in one turn, before others have theirs.
const RECEIVES: u32 = 8;

/// One of the two sockets, and what is known of it. Invariant: what it is not ready for, epoll tells when it is (edge
/// by edge).
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) socket: Socket,
    readable: bool,
    writable: bool,
    /// Its peer has finished: there is something to receive until that has been received, too.
    finishing: bool,
    room_is_told: bool,
}

impl End {
    /// Of one that is connected. `room_is_told`: see `begins_to_wait_for_room`.
    pub(crate) fn new(socket: Socket, room_is_told: bool) -> Self {
        Self { socket, readable: false, writable: true, finishing: false, room_is_told }
    }

    /// What epoll says of it.
    pub(crate) fn is_ready(&mut self, flags: EventFlags) {
        self.finishing |= flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        self.readable |= self.finishing || flags.contains(EventFlags::IN);
        self.writable |= flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR);
    }

    /// True: nobody has asked epoll yet to tell when there is room.
    pub(crate) fn begins_to_wait_for_room(&mut self) -> bool {
        !self.writable && !mem::replace(&mut self.room_is_told, true)
    }

    /// None: there is nothing now.
    fn receive<'a>(&mut self, buffer: &'a mut [MaybeUninit<u8>]) -> io::Result<Option<&'a [u8]>> {
        let room = buffer.len();
        let result = rustix::net::recv(&self.socket, buffer, RecvFlags::empty());
        let Some(((received, _), _)) = self.received(result)? else { return Ok(None) };
        // A short receive tells that the socket is empty (epoll(7), question 9), which saves the call that would find
        // that out.
        if !received.is_empty() && received.len() < room {
            self.readable = self.finishing;
        }
        Ok(Some(received))
    }

    fn received<T>(&mut self, result: Result<T, Errno>) -> io::Result<Option<T>> {
        match result {
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(None)
            }
            Err(Errno::INTR) => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    /// By way of rustix and not of libc, whose calls ask each time whether their thread is to be cancelled.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL);
        self.sent(result)
    }

    fn sent(&mut self, result: Result<usize, Errno>) -> io::Result<usize> {
        match result {
            Err(Errno::AGAIN) => {
                self.writable = false;
                Ok(0)
            }
            Err(Errno::INTR) => Ok(0),
            other => Ok(other?),
        }
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

    /// As far as it goes now. True: the source has finished and the target has been told; the `last` one leaves that to
    /// the closing of the sockets.
    fn advance(
        &mut self,
        from: &mut End,
        to: &mut End,
        last: bool,
        receives: &mut u32,
    ) -> Result<bool, Stop> {
        while !self.finished {
            if self.held() > 0 {
                self.unheard = false;
                if !to.writable {
                    return Ok(false);
                }
                self.send(to)?;
            } else if self.at_end {
                if self.unheard {
                    return Err(Stop::Unheard);
                }
                self.finished = true;
                if !last {
                    // The target may have closed already; there is nothing left to tell it then.
                    let _ = to.socket.shutdown(std::net::Shutdown::Write);
                }
            } else {
                if !from.readable || *receives == 0 {
                    return Ok(false);
                }
                *receives -= 1;
                self.pass(from, to)?;
            }
        }
        Ok(true)
    }

    /// Receive, and send on what the target takes at once.
    fn pass(&mut self, from: &mut End, to: &mut End) -> io::Result<()> {
        if let Some(pipe) = &mut self.pipe {
            let result = pipe.fill(from.socket.as_raw_fd());
            let Some(moved) = from.received(result)? else { return Ok(()) };
            self.at_end = moved == 0;
            self.streak = if moved < BUFFER_BYTES { self.streak + 1 } else { 0 };
            return Ok(());
        }
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let Some(received) = from.receive(&mut buffer)? else { return Ok(()) };
        self.at_end = received.is_empty();
        self.streak = if received.len() == BUFFER_BYTES { self.streak + 1 } else { 0 };
        if self.at_end {
            return Ok(());
        }
        self.unheard = false;
        let sent = if to.writable { to.send(received) } else { Ok(0) };
        let taken = *sent.as_ref().unwrap_or(&0);
        self.left.extend_from_slice(&received[taken..]);
        self.count(&received[..taken]);
        sent.map(|_| self.consider_splicing())
    }

    /// Send what is left.
    fn send(&mut self, to: &mut End) -> io::Result<()> {
        if let Some(pipe) = &mut self.pipe
            && pipe.held() > 0
        {
            let result = pipe.drain(to.socket.as_raw_fd());
            self.moved += to.sent(result)? as u64;
            if pipe.held() == 0 && self.streak >= SMALL_STREAK {
                (self.pipe, self.streak) = (None, 0);
            }
            return Ok(());
        }
        let left = mem::take(&mut self.left);
        let sent = to.send(&left[self.start..]);
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

/// How carrying came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Over,
    /// The destination has reset the connection before it took or said anything.
    Refused,
    /// The destination has finished before it took or said anything; it may still take.
    Declined,
}

/// What comes of a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing is to be done until one of the sockets is ready.
    Waits,
    /// There is more to receive.
    GoesOn,
    Ended(Outcome),
}

/// Whose bytes are carried.
pub(crate) trait Carries: Send {
    /// So many have been passed on since this was called last.
    fn passed(&self, from_client: u64, to_client: u64);

    fn enter(&self, state: State);

    /// How many that are not the client's went to the server before.
    fn introduced(&self) -> u64;

    /// Nothing is carried from here on.
    fn ended(self: Box<Self>, client: Socket, server: Socket, pump: Pump, outcome: Outcome);
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

    /// Where there is no other server from the beginning.
    pub(crate) fn settled() -> Self {
        let mut pump = Self::new();
        pump.settle();
        pump
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

    /// Whether there is something to do before either socket has something to say.
    pub(crate) fn is_under_way(&self) -> bool {
        [&self.inward, &self.outward].iter().any(|one| one.held() > 0 || one.at_end)
    }

    /// Carry what can be carried now. Both sides are reset when one fails.
    pub(crate) fn turn(&mut self, client: &mut End, server: &mut End, of: &dyn Carries) -> Turn {
        loop {
            let (mut receives, mut answers) = (RECEIVES, RECEIVES);
            let to_server = self.inward.advance(client, server, self.outward.finished, &mut receives);
            if self.inward.kept.is_none() || self.inward.at_end {
                self.outward.unheard = false;
            }
            let to_client = self.outward.advance(server, client, self.inward.finished, &mut answers);
            self.tell(of);
            let waits = if receives == 0 || answers == 0 { Turn::GoesOn } else { Turn::Waits };
            match (to_server, to_client) {
                (Err(stop), _) | (_, Err(stop)) => {
                    if let Some(outcome) = self.stopped(&stop, &server.socket, of.introduced()) {
                        if outcome == Outcome::Over {
                            reset(&client.socket);
                            reset(&server.socket);
                        }
                        let declined = outcome == Outcome::Declined;
                        of.enter(if declined { State::FinWait } else { State::Close });
                        return Turn::Ended(outcome);
                    }
                }
                (Ok(true), Ok(true)) => {
                    of.enter(State::TimeWait);
                    return Turn::Ended(Outcome::Over);
                }
                (Ok(false), Ok(false)) => return waits,
                (Ok(true), Ok(false)) => {
                    of.enter(State::CloseWait);
                    return waits;
                }
                (Ok(false), Ok(true)) => {
                    of.enter(State::FinWait);
                    return waits;
                }
            }
        }
    }

    fn tell(&mut self, of: &dyn Carries) {
        let (inward, outward) = (self.inward.moved, self.outward.moved);
        if self.told != (inward, outward) {
            of.passed(inward - self.told.0, outward - self.told.1);
            self.told = (inward, outward);
        }
        if outward > 0 || self.outward.held() > 0 {
            self.inward.kept = None;
        }
    }

    /// What becomes of the connection; None: it goes on.
    ///
    /// A reset loses nothing while the server's kernel has acknowledged nothing of what the client said: what a program
    /// reads has been acknowledged before (Linux does so at once at the beginning of a connection). Behind an
    /// acknowledgement the program may have read and acted: only the client can know what that means.
    fn stopped(&mut self, stop: &Stop, server: &Socket, introduced: u64) -> Option<Outcome> {
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

/// Closing a socket with zero linger sends RST.
pub(crate) fn reset(socket: &impl AsFd) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}
