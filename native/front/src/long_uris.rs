//! URIs of HTTP/2 that are longer than the type of URIs can hold.
//!
//! To h2 they are a breach of the protocol: it resets the stream, and Go's clients ask again at once, and again. HTTP/1.1
//! has an answer for them, 414; here the reset becomes that answer. It is h2 that judges: what is looked for is which
//! streams its reset may be for, and that is known from the length alone that a head gives of its path.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a connection begins with.
const PREFACE: usize = 24;
const HEAD: usize = 9;
/// A path of 65,534 bytes in the shortest of codes, which have 5 bits (RFC 7541, appendix B).
const SHORTEST: usize = 65_534 / 8 * 5;
/// Of a block: more stands before no path. Those headers come first that HTTP/2 itself has.
const LOOKED_AT: usize = 1 << 10;
/// Whoever asks for more at once has his connection reset as before.
const MOST_SUSPECTED: usize = 256;

/// A reset is a head and a code.
const BEHIND_RESET: usize = HEAD + 4;

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];

/// The head of a frame.
#[derive(Clone, Copy)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&u32::try_from(self.length).unwrap_or(u32::MAX).to_be_bytes()[1..]);
        out.extend_from_slice(&[self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
    }
}

/// Walks what one side says, from frame to frame.
#[derive(Clone)]
struct Frames {
    head: [u8; HEAD],
    filled: usize,
    /// Before the next head.
    left: usize,
}

impl Frames {
    fn after(left: usize) -> Self {
        Self { head: [0; HEAD], filled: 0, left }
    }

    /// At most so much of the frame that is under way, or before the first one.
    fn pass<'b>(&mut self, bytes: &mut &'b [u8], most: usize) -> &'b [u8] {
        let (passed, rest) = bytes.split_at(most.min(self.left).min(bytes.len()));
        self.left -= passed.len();
        *bytes = rest;
        passed
    }

    /// The next frame's head; `bytes` are those behind it, then. None: it is not there yet.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Head> {
        self.pass(bytes, self.left);
        let more = (HEAD - self.filled).min(bytes.len());
        bytes.copy_to_slice(&mut self.head[self.filled..self.filled + more]);
        self.filled += more;
        if self.filled < HEAD {
            return None;
        }
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        (self.filled, self.left) = (0, length);
        Some(Head { length, kind, flags, stream: u32::from_be_bytes(stream) & (u32::MAX >> 1) })
    }
}

/// A connection of HTTP/2 on its way to h2.
pub struct LongUris<I> {
    io: I,
    asked: Frames,
    said: Frames,
    /// The stream that was opened last.
    newest: u32,
    /// A head that is looked at, and as much of its block as has come.
    begun: Option<(Head, Vec<u8>)>,
    /// Streams that may have been opened with a URI that is too long, and have not been answered.
    suspected: Vec<u32>,
    /// What is left to write in the place of a reset.
    answer: Bytes,
}

impl<I> LongUris<I> {
    pub fn new(io: I) -> Self {
        Self {
            io,
            asked: Frames::after(PREFACE),
            said: Frames::after(0),
            newest: 0,
            begun: None,
            suspected: Vec::new(),
            answer: Bytes::new(),
        }
    }

    fn come(&mut self, mut read: &[u8]) {
        loop {
            if let Some((head, block)) = &mut self.begun {
                let enough = head.length.min(LOOKED_AT);
                block.extend_from_slice(self.asked.pass(&mut read, enough - block.len()));
                if block.len() < enough {
                    return;
                }
                let may_be_too_long = path_length(*head, block).is_some_and(|length| length > SHORTEST);
                if may_be_too_long && self.suspected.len() < MOST_SUSPECTED {
                    self.suspected.push(head.stream);
                }
                self.begun = None;
            }
            let Some(head) = self.asked.next(&mut read) else { return };
            if head.kind == HEADERS && head.stream > self.newest {
                self.newest = head.stream;
                // Such a path is longer than a frame may be.
                if head.flags & END_HEADERS == 0 {
                    self.begun = Some((head, Vec::new()));
                }
            }
        }
    }

    /// Where the first frame of a stream under suspicion begins, if that is in what is about to be `said`.
    fn suspect(&self, said: &[u8]) -> Option<(usize, Head)> {
        let (mut frames, mut rest) = (self.said.clone(), said);
        loop {
            let head = frames.next(&mut rest)?;
            let begins = (said.len() - rest.len()).checked_sub(HEAD);
            if let (Some(begins), true) = (begins, self.suspected.contains(&head.stream)) {
                return Some((begins, head));
            }
        }
    }

    fn has_said(&mut self, mut said: &[u8]) {
        while self.said.next(&mut said).is_some() {}
    }
}

/// How long a block says that its path is, in bytes as they are sent.
fn path_length(head: Head, mut block: &[u8]) -> Option<usize> {
    block.advance(usize::from(head.flags & PADDED != 0).min(block.len()));
    block.advance(if head.flags & PRIORITY == 0 { 0 } else { 5 }.min(block.len()));
    loop {
        // RFC 7541, section 6.
        let (prefix, is_literal) = match block.first()? {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let name = integer(&mut block, prefix)?;
        if !is_literal {
            continue;
        }
        if name == 0 {
            let length = integer(&mut block, 7)?;
            block = block.get(length..)?;
        }
        let length = integer(&mut block, 7)?;
        // Both of the static table's.
        if matches!(name, 4 | 5) {
            return Some(length);
        }
        block = block.get(length..)?;
    }
}

/// RFC 7541, section 5.1. None, too, beyond what there is any use for.
fn integer(block: &mut &[u8], prefix: u8) -> Option<usize> {
    let mask = u8::MAX >> (8 - prefix);
    let first = block.try_get_u8().ok()? & mask;
    let mut value = usize::from(first);
    if first < mask {
        return Some(value);
    }
    for shift in [0, 7, 14] {
        let next = block.try_get_u8().ok()?;
        value += usize::from(next & 0x7f) << shift;
        if next < 0x80 {
            return Some(value);
        }
    }
    None
}

/// All of it: a body would have to be counted in h2's windows.
fn too_long(stream: u32) -> Bytes {
    // Fields that go into no table, named by the static one: `:status`, `content-length` and, by itself, `warning`.
    let mut block = b"\x08\x03414\x0f\x0d\x010\x00\x07warning".to_vec();
    let warning = b"299 - \"the URI of the request is too long: limit is 65534\"";
    block.extend(u8::try_from(warning.len()));
    block.extend_from_slice(warning);
    let mut answer = Vec::new();
    Head { length: block.len(), kind: HEADERS, flags: END_STREAM | END_HEADERS, stream }.write(&mut answer);
    answer.append(&mut block);
    // No error: of a body that is on its way nothing is wanted (RFC 9113, section 8.1).
    Head { length: 4, kind: RESET, flags: 0, stream }.write(&mut answer);
    answer.extend_from_slice(&[0; 4]);
    answer.into()
}

impl<I: AsyncWrite + Unpin> LongUris<I> {
    fn poll_say(&mut self, cx: &mut Context<'_>, said: &[u8]) -> Poll<io::Result<usize>> {
        while self.answer.is_empty() {
            let head = match self.suspect(said) {
                None => return self.poll_pass(cx, said),
                Some((0, head)) => head,
                Some((before, _)) => return self.poll_pass(cx, &said[..before]),
            };
            self.suspected.retain(|stream| *stream != head.stream);
            // Whatever else is said of it, h2 has taken it for a request.
            if head.kind == RESET && said.get(HEAD..BEHIND_RESET) == Some(&PROTOCOL_ERROR) {
                self.answer = too_long(head.stream);
            }
        }
        while !self.answer.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.answer))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.answer.advance(written),
            }
        }
        Poll::Ready(Ok(BEHIND_RESET))
    }

    fn poll_pass(&mut self, cx: &mut Context<'_>, said: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, said))?;
        self.has_said(&said[..written]);
        Poll::Ready(Ok(written))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for LongUris<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.come(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for LongUris<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_say(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.suspected.is_empty() || !self.answer.is_empty() {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_say(cx, first.map_or(&[], |slice| slice));
        }
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?;
        let mut left = written;
        for slice in slices {
            let said = left.min(slice.len());
            self.has_said(&slice[..said]);
            left -= said;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
