//! Keeps the bytes of a request's head until its request is answered, for the one question hyper's parser cannot answer:
//! whether Content-Length came together with Transfer-Encoding. hyper drops the former, so that nothing ambiguous is
//! ever passed on; but who sends both tries to smuggle, and is refused (RFC 9112, 6.1 and 6.3).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use memchr::memmem;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What has been read since the last request began. A client that pipelines may have sent more than a head.
#[derive(Debug, Default)]
pub struct RawHead {
    bytes: Vec<u8>,
    /// While a body is read nothing is kept.
    closed: bool,
}

pub type SharedHead = Arc<Mutex<RawHead>>;

/// Heads are limited to this; more is not kept.
const MOST: usize = 128 << 10;

impl RawHead {
    /// Whether the head of this request line has both headers.
    pub fn is_ambiguous(&self, method: &str, target: &str) -> bool {
        let line = format!("{method} {target} HTTP/1.1");
        memmem::find_iter(&self.bytes, line.as_bytes()).any(|at| {
            let head = &self.bytes[at..];
            let end = memmem::find(head, b"\r\n\r\n").or_else(|| memmem::find(head, b"\n\n"));
            let head = &head[..end.unwrap_or(head.len())];
            has_header(head, b"content-length") && has_header(head, b"transfer-encoding")
        })
    }

    /// The head has been understood: forget it. Nothing is kept of the body, if there is one.
    pub fn understood(&mut self, has_body: bool) {
        self.closed = has_body;
        match memmem::find(&self.bytes, b"\r\n\r\n") {
            // Of one that pipelines.
            Some(end) if !has_body && end + 4 < self.bytes.len() => drop(self.bytes.drain(..end + 4)),
            _ => self.bytes.clear(),
        }
    }

    /// The body is over: what comes next is a head again.
    pub fn body_is_over(&mut self) {
        self.closed = false;
    }

    fn keep(&mut self, bytes: &[u8]) {
        if !self.closed && self.bytes.len() + bytes.len() <= MOST {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

fn has_header(head: &[u8], name: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n').skip(1).any(|line| {
        line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
            && line.get(name.len()) == Some(&b':')
    })
}

/// A client's stream that shows what is read to a `RawHead`.
pub struct HeadGuard<S> {
    stream: S,
    /// Comes before all that the stream still has.
    read: Vec<u8>,
    head: SharedHead,
}

impl<S> HeadGuard<S> {
    /// `read`: what has been taken from the stream already.
    pub fn new(stream: S, read: Vec<u8>) -> (Self, SharedHead) {
        let head = SharedHead::default();
        (Self { stream, read, head: head.clone() }, head)
    }

    fn read_again(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read[..length]);
        self.read.drain(..length);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadGuard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = if this.read.is_empty() {
            Pin::new(&mut this.stream).poll_read(cx, buf)
        } else {
            this.read_again(buf);
            Poll::Ready(Ok(()))
        };
        if read.is_ready() && buf.filled().len() > before {
            this.head.lock().keep(&buf.filled()[before..]);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeadGuard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ambiguous(read: &str) -> bool {
        let mut head = RawHead::default();
        // However the bytes arrive.
        read.as_bytes().chunks(7).for_each(|piece| head.keep(piece));
        head.is_ambiguous("POST", "/a")
    }

    #[test]
    fn both_headers_in_one_head_are_ambiguous_in_either_order_and_case() {
        assert!(ambiguous(
            "POST /a HTTP/1.1\r\nContent-Length: 6\r\ntransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"
        ));
        assert!(ambiguous(
            "POST /a HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\nHost: x\r\ncontent-length: 6\r\n\r\n"
        ));
        assert!(ambiguous("POST /a HTTP/1.1\nContent-Length:6\nTransfer-Encoding:chunked\n\n"));
    }

    #[test]
    fn one_of_them_or_one_in_a_body_is_not() {
        assert!(!ambiguous(
            "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n13\r\nContent-Length: 1\r\n\r\n0\r\n\r\n"
        ));
        assert!(!ambiguous("POST /a HTTP/1.1\r\nContent-Length: 6\r\n\r\nabcdef"));
        assert!(!ambiguous("POST /a HTTP/1.1\r\nX-Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n"));
    }

    #[test]
    fn a_pipelined_head_is_looked_at_too() {
        let first = "GET /b HTTP/1.1\r\nHost: x\r\n\r\n";
        assert!(ambiguous(&format!(
            "{first}POST /a HTTP/1.1\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n"
        )));
    }

    #[test]
    fn what_follows_a_head_without_body_is_the_next_head() {
        let mut head = RawHead::default();
        head.keep(b"GET / HTTP/1.1\r\n\r\nPOST /a HTTP/1.1\r\nContent-Length:");
        head.understood(false);
        head.keep(b"3\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert!(head.is_ambiguous("POST", "/a"));
        head.understood(false);
        assert!(head.bytes.is_empty());
    }

    #[test]
    fn bodies_are_not_kept() {
        let mut head = RawHead::default();
        head.keep(b"POST /a HTTP/1.1\r\n\r\n");
        head.understood(true);
        head.keep(b"body");
        assert!(head.bytes.is_empty());
        head.body_is_over();
        head.keep(b"GET");
        assert_eq!(head.bytes, b"GET");
    }
}
