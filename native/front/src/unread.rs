//! Requests that hyper refuses before anybody sees them: a URI that is too long, a head that is too large or no HTTP at
//! all. It answers them with nothing but a status line; here the answer gets a Status, and time to arrive. And those that
//! it would refuse for more fields than it has room for: they are kept from it (see `heads`).

use std::io::{self, IoSlice};
use std::mem::take;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use kubecore_core::status::Status;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use crate::connection::Connection;
use crate::heads::Heads;
use crate::outflow::Outflow;

/// How long, and how much, is read and thrown away behind a refusal: a socket that is closed while something is unread
/// is reset, and the client loses the answer.
const LINGER: Duration = Duration::from_secs(1);
/// How long somebody who says nothing more is thought to wait for the answer: to hyper he has gone, and what he asked for
/// with him.
const ATTENTION: Duration = Duration::from_secs(1);
const MOST_DISCARDED: usize = 16 << 20;

/// A connection of HTTP/1.1, on its way to the client.
pub struct Answering<I> {
    /// None: somebody else goes on with it.
    io: Option<I>,
    connection: Arc<Connection>,
    /// The bytes that a head may have.
    limit: usize,
    /// What is left to write of a refusal.
    refusal: Option<Bytes>,
    /// The refusal has had its time.
    is_over: bool,
    linger: Option<Pin<Box<Sleep>>>,
    discarded: usize,
    heads: Heads,
    /// The client says nothing more.
    silent: Option<Pin<Box<Sleep>>>,
    /// Some of an answer has been written, and not all.
    is_amid_answer: bool,
    /// A head has come for which hyper has no room.
    outgrown: bool,
    /// What comes before all that is read: such a head, as far as it has come.
    ahead: Bytes,
    left: Option<oneshot::Sender<Self>>,
}

/// A connection that hyper has let go of in the middle of a refusal, or before a head for which it has no room.
pub type Left<I> = oneshot::Receiver<Answering<I>>;

impl<I> Answering<I> {
    pub fn new(io: I, connection: Arc<Connection>, limit: usize) -> (Self, Left<I>) {
        Self::with(Some(io), connection, limit, Heads::default()).watched()
    }

    fn with(io: Option<I>, connection: Arc<Connection>, limit: usize, heads: Heads) -> Self {
        Self {
            io,
            connection,
            limit,
            refusal: None,
            is_over: false,
            linger: None,
            discarded: 0,
            heads,
            silent: None,
            is_amid_answer: false,
            outgrown: false,
            ahead: Bytes::new(),
            left: None,
        }
    }

    fn watched(mut self) -> (Self, Left<I>) {
        let (sender, left) = oneshot::channel();
        self.left = Some(sender);
        (self, left)
    }

    /// Whether a head has come for which hyper has to have more room than it had.
    pub fn has_outgrown(&self) -> bool {
        self.outgrown
    }

    /// For a hyper that has room.
    pub fn again(mut self) -> (Self, Left<I>) {
        self.outgrown = false;
        self.watched()
    }
}

impl<I> Drop for Answering<I> {
    /// hyper waits for no refusal to be written where a request before it asked for another protocol (its
    /// `proto/h1/dispatch.rs`, `poll_inner`).
    fn drop(&mut self) {
        let is_left = self.outgrown || (self.refusal.is_some() && !self.is_over);
        if let (true, Some(left)) = (is_left, self.left.take()) {
            // Where nobody waits for it, the connection has come to its end.
            let mut rest = Self::with(self.io.take(), self.connection.clone(), self.limit, Heads::roomy());
            rest.refusal = self.refusal.take();
            (rest.outgrown, rest.ahead) = (self.outgrown, take(&mut self.ahead));
            let _ = left.send(rest);
        }
    }
}

impl<I: Unpin> Answering<I> {
    fn io(&mut self) -> io::Result<Pin<&mut I>> {
        self.io.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Answering<I> {
    /// Whether these are hyper's own words, which are taken instead of it.
    fn takes(&mut self, head: &[u8]) -> bool {
        if self.refusal.is_none() && self.connection.outflow.as_ref().is_some_and(Outflow::is_hypers_own) {
            self.refusal = refusal(head, self.limit);
        }
        self.refusal.is_some()
    }

    /// Writes what is left, says that nothing more comes, and waits until the client has gone.
    fn poll_refuse(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Ok(())) };
        while let Some(left) = self.refusal.as_mut().filter(|left| !left.is_empty()) {
            let written = ready!(Pin::new(&mut *io).poll_write(cx, left))?;
            left.advance(written);
        }
        ready!(Pin::new(&mut *io).poll_flush(cx))?;
        if self.linger.is_none() {
            ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
        }
        let linger = self.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        let mut scratch = [0; 8192];
        while self.discarded < MOST_DISCARDED && linger.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.discarded += buffer.filled().len(),
                _ => break,
            }
        }
        self.is_over = true;
        Poll::Ready(Ok(()))
    }
}

/// Whether hyper says more than that it wants the body.
fn is_of_answer(said: &[u8]) -> bool {
    !said.starts_with(b"HTTP/1.1 100 ")
}

/// The whole answer in place of a `head` that hyper has made by itself, which no content follows.
fn refusal(head: &[u8], limit: usize) -> Option<Bytes> {
    let status = head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let said = match status {
        b"400" => Status::failure(400, "BadRequest", "the request is no valid HTTP"),
        b"414" => {
            Status::failure(414, "RequestURITooLong", "the URI of the request is too long: limit is 65534")
        }
        b"431" => crate::status::headers_too_large(limit),
        _ => return None,
    };
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut body = said.to_json();
    body.push(b'\n');
    let mut answer = line.to_vec();
    answer.extend_from_slice(b"\r\nContent-Type: application/json\r\nCache-Control: no-cache, private\r\n");
    answer
        .extend_from_slice(format!("Connection: close\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes());
    answer.append(&mut body);
    Some(answer.into())
}

impl<I: AsyncRead + Unpin> AsyncRead for Answering<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let this = &mut *self;
        let before = buf.filled().len();
        if this.silent.is_none() {
            match ready!(this.io()?.poll_read(cx, buf)) {
                // Of TLS, from who does not say that it ends.
                Err(error)
                    if error.kind() == io::ErrorKind::UnexpectedEof && this.connection.owes_an_answer() => {}
                read => read?,
            }
            if buf.filled().len() == before && buf.remaining() > 0 {
                this.silent = Some(Box::pin(tokio::time::sleep(ATTENTION)));
            }
        }
        if let Some(attention) = &mut this.silent {
            let has_patience = this.is_amid_answer || attention.as_mut().poll(cx).is_pending();
            let waits = has_patience && this.connection.owes_an_answer();
            return if waits { Poll::Pending } else { Poll::Ready(Ok(())) };
        }
        if let Some(outflow) = &this.connection.outflow {
            let read = &buf.filled()[before..];
            if this.heads.come(read, outflow) {
                (this.outgrown, this.ahead) = (true, this.heads.held(read).into());
                buf.set_filled(before);
                return Poll::Ready(Err(io::Error::other("more fields than there is room for")));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Answering<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.takes(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        self.is_amid_answer |= is_of_answer(buf);
        self.io()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.first().is_some_and(|first| self.takes(first)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        self.is_amid_answer |= slices.first().is_some_and(|first| is_of_answer(first));
        self.io()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.refusal.is_some() {
            return self.poll_refuse(cx);
        }
        let flushed = self.io()?.poll_flush(cx);
        self.is_amid_answer &= flushed.is_pending() || self.connection.activity.is_busy();
        // hyper flushes when it has written all it holds. Until that is through it has not done with the request.
        if let Some(outflow) = &self.connection.outflow {
            let did_owe = outflow.owes_an_answer();
            outflow.written(flushed.is_ready() && !self.connection.activity.is_busy(), cx);
            if self.silent.is_some() && did_owe && !outflow.owes_an_answer() {
                // hyper may hear of it now, and would not ask by itself.
                cx.waker().wake_by_ref();
            }
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outgrown {
            // It goes on, without who says this.
            return Poll::Ready(Ok(()));
        }
        if self.refusal.is_some() {
            return self.poll_refuse(cx);
        }
        self.io()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// What was written is on its way in there.
    struct Slow {
        is_through: bool,
    }

    impl AsyncRead for Slow {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            // As TLS has it from who ends without a word.
            Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.is_through { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_request_is_done_with_when_its_answer_is_through() {
        let connection = Connection::new(([127, 0, 0, 1], 1).into(), true, None, false, Arc::default());
        let outflow = connection.outflow.as_ref().unwrap();
        let (mut answering, _left) = Answering::new(Slow { is_through: false }, connection.clone(), 1 << 20);
        outflow.asked(Some(0));
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut answering).poll_flush(cx).is_pending() && !outflow.is_hypers_own());
        answering.io.as_mut().unwrap().is_through = true;
        assert!(Pin::new(&mut answering).poll_flush(cx).is_ready() && outflow.is_hypers_own());
    }

    #[tokio::test]
    async fn who_ends_without_a_word_is_heard_of_behind_the_answer() {
        let connection = Connection::new(([127, 0, 0, 1], 1).into(), true, None, false, Arc::default());
        let (mut answering, _left) = Answering::new(Slow { is_through: true }, connection.clone(), 1 << 20);
        let mut ends = |cx: &mut Context<'_>| {
            let mut scratch = [0; 8];
            Pin::new(&mut answering)
                .poll_read(cx, &mut ReadBuf::new(&mut scratch))
                .map_err(|error| error.kind())
        };
        let cx = &mut Context::from_waker(Waker::noop());
        let outflow = connection.outflow.as_ref().unwrap();
        outflow.asked(Some(0));
        assert_eq!(ends(cx), Poll::Pending);
        outflow.written(true, cx);
        assert_eq!(ends(cx), Poll::Ready(Ok(())));
    }

    #[test]
    fn what_hyper_refuses_by_itself_gets_a_status() {
        let head = b"HTTP/1.1 414 URI Too Long\r\ncontent-length: 0\r\ndate: now\r\n\r\n";
        let answer = String::from_utf8(refusal(head, 1 << 20).unwrap().to_vec()).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 414 URI Too Long\r\nContent-Type: application/json\r\n"),
            "{answer}"
        );
        assert!(answer.contains(r#""reason":"RequestURITooLong""#), "{answer}");
    }

    #[test]
    fn what_is_no_refusal_is_left_alone() {
        assert!(refusal(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 1 << 20).is_none());
        assert!(refusal(b"chunk of a body", 1 << 20).is_none());
    }
}
