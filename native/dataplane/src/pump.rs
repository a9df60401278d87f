//! Carries bytes both ways between two sockets until both have finished.
//!
//! Small messages are copied through a buffer (one receive, one send each); a stream that fills the buffer again
//! and again is spliced through a pipe instead. Nothing is read that could not be passed on, so a slow reader slows
//! its writer. The end of one direction is passed on as such (half-close); an error ends both with a reset.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};

use kubecore_core::balance::Connection;
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::splice::Pipe;

const BUFFER_BYTES: usize = 16 * 1024;
/// Full buffers in a row after which a direction is spliced, and small splices after which it no longer is.
const STREAK: u32 = 2;
const SMALL_STREAK: u32 = 8;
const SPARE_BUFFERS: usize = 256;

static SPARE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// Held only while bytes are in it, so that idle connections cost no buffers.
fn take_buffer() -> Box<[u8]> {
    SPARE.lock().pop().unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice())
}

fn give_back(buffer: Box<[u8]>) {
    let mut spare = SPARE.lock();
    if spare.len() < SPARE_BUFFERS {
        spare.push(buffer);
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
}

impl Direction {
    fn held(&self) -> usize {
        self.end - self.start + self.pipe.as_ref().map_or(0, Pipe::held)
    }

    /// Ready when the source has finished and the target has been told.
    fn poll(&mut self, context: &mut Context<'_>, from: &TcpStream, to: &TcpStream) -> Poll<io::Result<()>> {
        while !self.finished {
            if self.held() > 0 {
                ready!(to.poll_write_ready(context))?;
                retry(self.send(to))?;
            } else if self.at_end {
                self.finished = true;
                // The target may have closed already; there is nothing left to tell it then.
                let _ = socket2::SockRef::from(to).shutdown(std::net::Shutdown::Write);
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
        self.start += sent;
        self.moved += sent as u64;
        if self.start == self.end && self.streak >= STREAK {
            // Without a pipe (too many open files) copying goes on.
            (self.pipe, self.streak) = (Pipe::new().ok(), 0);
            self.buffer = None;
        }
        Ok(())
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

/// Carry bytes until both sides have finished, or one fails: then both are reset.
pub(crate) async fn pump(client: TcpStream, server: TcpStream, connection: Connection) -> Connection {
    let (mut inward, mut outward) = (Direction::default(), Direction::default());
    let (mut told_in, mut told_out) = (0, 0);
    let result = poll_fn(|context| {
        let to_server = inward.poll(context, &client, &server);
        let to_client = outward.poll(context, &server, &client);
        connection.count_bytes(inward.moved - told_in, outward.moved - told_out);
        (told_in, told_out) = (inward.moved, outward.moved);
        match (to_server, to_client) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            _ => {
                connection.closing();
                Poll::Pending
            }
        }
    })
    .await;
    if result.is_err() {
        reset(&client);
        reset(&server);
    }
    connection
}

/// Closing a socket with zero linger sends RST.
pub(crate) fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
