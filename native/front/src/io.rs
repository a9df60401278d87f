//! A socket whose writer is not kept waiting for ever by a client that has stopped reading.

use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::cork::Cork;

/// How what is written to a connection is to leave, as whoever serves its requests knows.
#[derive(Debug, Default)]
pub struct Pace {
    /// The connection speaks another protocol: a terminal's user may stop reading for as long as they like.
    is_unhurried: AtomicBool,
    /// With what other connections have to say.
    is_together: AtomicBool,
}

impl Pace {
    /// Another protocol is spoken from now on.
    pub fn switched(&self) {
        self.is_unhurried.store(true, Ordering::Relaxed);
        self.answers(false);
    }

    /// `at_once`: an answer is there as soon as its request is, as those of others that are readable now will be.
    pub fn answers(&self, at_once: bool) {
        self.is_together.store(at_once, Ordering::Relaxed);
    }
}

/// A TCP stream that breaks with `TimedOut` when nothing could be written for `limit`, unless it is unhurried.
pub struct StallGuard {
    socket: TcpStream,
    /// Since something was kept.
    cork: Option<Arc<Cork>>,
    limit: Duration,
    pace: Arc<Pace>,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl StallGuard {
    pub fn new(socket: TcpStream, limit: Duration) -> Self {
        Self { socket, cork: None, limit, pace: Arc::default(), stalled: None, waiting: false }
    }

    pub fn pace(&self) -> Arc<Pace> {
        self.pace.clone()
    }

    #[cfg(test)]
    pub(crate) fn limit_stalls(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// As `Cork::keep`.
    fn keep(&mut self, cx: &Context<'_>, slices: &[IoSlice<'_>]) -> Option<usize> {
        if !self.pace.is_together.load(Ordering::Relaxed) {
            return None;
        }
        self.cork.get_or_insert_with(|| Cork::new(self.socket.as_raw_fd())).keep(cx, slices)
    }

    /// Sends what is kept.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(cork) = self.cork.clone() else { return Poll::Ready(Ok(())) };
        loop {
            let mut kept = cork.take();
            if kept.bytes.is_empty() {
                cork.sent(kept);
                return Poll::Ready(Ok(()));
            }
            let written = Pin::new(&mut self.socket).poll_write(cx, &kept.bytes);
            kept.bytes.drain(..ready!(self.judge(cx, written))?);
        }
    }

    fn judge(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() || self.pace.is_unhurried.load(Ordering::Relaxed) {
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
        if let Some(kept) = self.keep(cx, &[IoSlice::new(buf)]) {
            return Poll::Ready(Ok(kept));
        }
        ready!(self.poll_kept(cx))?;
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(kept) = self.keep(cx, slices) {
            return Poll::Ready(Ok(kept));
        }
        ready!(self.poll_kept(cx))?;
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is kept is as good as sent, unless nobody else can.
        if self.cork.as_ref().is_some_and(|cork| cork.is_stuck()) {
            ready!(self.poll_kept(cx))?;
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_kept(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl Drop for StallGuard {
    fn drop(&mut self) {
        if let Some(cork) = &self.cork {
            cork.close();
        }
    }
}
