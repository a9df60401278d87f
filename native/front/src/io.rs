//! A socket whose writer is not kept waiting for ever by a client that has stopped reading.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// A TCP stream that breaks with `TimedOut` when nothing could be written for `limit`, unless it is `unhurried`.
pub struct StallGuard {
    socket: TcpStream,
    limit: Duration,
    /// Set once the connection speaks another protocol: a terminal's user may stop reading for as long as they like.
    unhurried: Arc<AtomicBool>,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl StallGuard {
    pub fn new(socket: TcpStream, limit: Duration) -> Self {
        Self { socket, limit, unhurried: Arc::default(), stalled: None, waiting: false }
    }

    pub fn unhurried(&self) -> Arc<AtomicBool> {
        self.unhurried.clone()
    }

    fn judge(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() || self.unhurried.load(Ordering::Relaxed) {
            self.waiting = false;
            return written;
        }
        if !self.waiting {
            self.waiting = true;
            let deadline = Instant::now() + self.limit;
            match &mut self.stalled {
                Some(sleep) => sleep.as_mut().reset(deadline),
                None => self.stalled = Some(Box::pin(tokio::time::sleep_until(deadline))),
            }
        }
        if let Some(sleep) = &mut self.stalled {
            ready!(sleep.as_mut().poll(cx));
            self.waiting = false;
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")));
        }
        Poll::Pending
    }
}

impl AsyncRead for StallGuard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for StallGuard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // TLS has all of an answer in one piece, for which the kernel's plain call costs less.
        let written = match slices {
            [slice] => Pin::new(&mut self.socket).poll_write(cx, slice),
            _ => Pin::new(&mut self.socket).poll_write_vectored(cx, slices),
        };
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
