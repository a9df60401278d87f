//! Response bodies, none of which copies what it carries.

use std::collections::VecDeque;
use std::future::Future;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, Sleep};

use crate::audit::Ending;
use crate::authz::HeldRight;
use crate::connection::Busy;
use crate::flow::Seat;
use crate::forward::Page;
use crate::metrics::Lasting;
use crate::status::NEWLINE;
use crate::stream::StreamState;
use crate::watch_body::WatchBody;

/// A seat that is free again once what holds it is sent.
struct Sitting {
    seat: Seat,
    /// Of a watch: until all that was there when it began has been told.
    until_first_pause: bool,
}

impl Drop for Sitting {
    fn drop(&mut self) {
        self.seat.free();
    }
}

/// What is left of them.
enum Left {
    /// Of most answers, for which nothing is to be allocated.
    One {
        bytes: Bytes,
        /// NEWLINE is behind it.
        newline: bool,
    },
    Many(VecDeque<Bytes>),
}

/// Several pieces sent as one: a single chunk on HTTP/1.1, written vectored.
pub struct Pieces {
    left: Left,
    remaining: usize,
    sitting: Option<Sitting>,
}

impl Default for Pieces {
    fn default() -> Self {
        Self::one(Bytes::new())
    }
}

impl Pieces {
    pub fn one(bytes: Bytes) -> Self {
        Self { remaining: bytes.len(), left: Left::One { bytes, newline: false }, sitting: None }
    }

    fn line(bytes: Bytes) -> Self {
        let remaining = bytes.len() + NEWLINE.len();
        Self { remaining, left: Left::One { bytes, newline: true }, sitting: None }
    }

    pub fn many(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces: VecDeque<Bytes> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        Self { remaining: pieces.iter().map(Bytes::len).sum(), left: Left::Many(pieces), sitting: None }
    }

    /// A copy of what is left.
    fn gathered(&self) -> Bytes {
        match &self.left {
            Left::One { bytes, newline: false } => bytes.clone(),
            Left::One { bytes, newline: true } => [bytes, NEWLINE].concat().into(),
            Left::Many(pieces) => pieces.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>().concat().into(),
        }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        match &self.left {
            Left::One { bytes, newline: true } if bytes.is_empty() => NEWLINE,
            Left::One { bytes, .. } => bytes,
            Left::Many(pieces) => pieces.front().map_or(&[], |piece| piece),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match &self.left {
            Left::One { bytes, newline } => {
                let end: &[u8] = if *newline { NEWLINE } else { &[] };
                fill(slices, [bytes, end].into_iter().filter(|piece| !piece.is_empty()))
            }
            Left::Many(pieces) => fill(slices, pieces.iter().map(AsRef::as_ref)),
        }
    }

    fn advance(&mut self, mut count: usize) {
        self.remaining = self.remaining.saturating_sub(count);
        match &mut self.left {
            Left::One { bytes, newline } => {
                *newline &= self.remaining > 0;
                bytes.advance(count.min(bytes.len()));
            }
            Left::Many(pieces) => {
                while count > 0 {
                    let Some(front) = pieces.front_mut() else { return };
                    if count < front.len() {
                        front.advance(count);
                        return;
                    }
                    count -= front.len();
                    pieces.pop_front();
                }
            }
        }
    }
}

/// How many slices there are pieces for.
fn fill<'a>(slices: &mut [IoSlice<'a>], pieces: impl Iterator<Item = &'a [u8]>) -> usize {
    let mut filled = 0;
    for (slot, piece) in slices.iter_mut().zip(pieces) {
        *slot = IoSlice::new(piece);
        filled += 1;
    }
    filled
}

/// What breaks a body off in the middle.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the writer of the stream is gone")]
    Abandoned,
    #[error("the backend's answer broke off: {0}")]
    Backend(#[from] hyper::Error),
    #[error("the backend's page cannot be read: {0}")]
    Page(std::io::Error),
    #[error("the backend's answer has taken too long")]
    Late,
}

/// What a body is made of.
enum Content {
    /// A single piece.
    Bytes(Bytes),
    /// Many pieces of known total length.
    Pieces(Pieces),
    /// Written piece by piece by another task or by Python.
    Stream(Arc<StreamState>),
    /// Frames of a watch.
    Watch(Box<WatchBody>),
    /// The answer of a backend.
    Forwarded(Incoming),
    /// One that has a time to be there.
    Timed(Box<Timed>),
    /// One that goes on while there is a right to it.
    Held(Box<ByRight>),
    /// One whose links we tell.
    Page(Box<Page<Incoming>>),
}

struct Timed {
    incoming: Incoming,
    over: Pin<Box<Sleep>>,
}

impl Timed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        if self.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyError::Late)));
        }
        poll_incoming(&mut self.incoming, cx)
    }
}

struct ByRight {
    incoming: Incoming,
    right: HeldRight,
}

impl ByRight {
    /// Ends as a watch does whose time is up: who watches asks again, and is refused.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        if self.right.has_lapsed(cx) { Poll::Ready(None) } else { poll_incoming(&mut self.incoming, cx) }
    }
}

fn poll_incoming(incoming: &mut Incoming, cx: &mut Context<'_>) -> Polled {
    let polled = Pin::new(incoming).poll_frame(cx);
    polled.map(|frame| frame.map(|frame| Ok(frame?.map_data(Pieces::one))))
}

/// A response body. While it lives its connection counts as busy.
pub struct Body {
    content: Content,
    busy: Option<Busy>,
    ending: Option<Ending>,
    sitting: Option<Sitting>,
    /// Boxed, since few requests last, and all answers would be larger.
    lasting: Option<Box<Lasting>>,
}

impl Body {
    fn of(content: Content) -> Self {
        Self { content, busy: None, ending: None, sitting: None, lasting: None }
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::of(Content::Bytes(bytes.into()))
    }

    /// The bytes with the newline behind them that Go's encoder ends JSON with.
    pub fn line(bytes: Bytes) -> Self {
        if bytes.ends_with(NEWLINE) {
            return Self::full(bytes);
        }
        Self::of(Content::Pieces(Pieces::line(bytes)))
    }

    pub fn empty() -> Self {
        Self::full(Bytes::new())
    }

    pub fn pieces(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        Self::of(Content::Pieces(Pieces::many(pieces)))
    }

    pub fn stream(state: Arc<StreamState>) -> Self {
        Self::of(Content::Stream(state))
    }

    pub fn watch(watch: WatchBody) -> Self {
        Self::of(Content::Watch(Box::new(watch)))
    }

    pub fn forwarded(incoming: Incoming) -> Self {
        Self::of(Content::Forwarded(incoming))
    }

    /// Where it is a backend's, it breaks off unless it has ended by then.
    pub fn until(mut self, end: Instant) -> Self {
        match std::mem::replace(&mut self.content, Content::Bytes(Bytes::new())) {
            Content::Forwarded(incoming) => {
                let over = Box::pin(tokio::time::sleep_until(end));
                self.content = Content::Timed(Box::new(Timed { incoming, over }));
            }
            other => self.content = other,
        }
        self
    }

    /// Where it is a backend's, it ends with the right.
    pub fn held_by(mut self, right: HeldRight) -> Self {
        match std::mem::replace(&mut self.content, Content::Bytes(Bytes::new())) {
            Content::Forwarded(incoming) => {
                self.content = Content::Held(Box::new(ByRight { incoming, right }))
            }
            other => self.content = other,
        }
        self
    }

    pub fn page(page: Page<Incoming>) -> Self {
        Self::of(Content::Page(Box::new(page)))
    }

    /// The bytes, where that is all it is made of; else the body again.
    pub fn into_bytes(mut self) -> Result<Bytes, Self> {
        match &mut self.content {
            Content::Bytes(bytes) => Ok(std::mem::take(bytes)),
            _ => Err(self),
        }
    }

    /// Nothing of it is to be sent, and whoever writes it is told.
    pub fn clear(&mut self) {
        let content = std::mem::replace(&mut self.content, Content::Bytes(Bytes::new()));
        drop(Self::of(content));
    }

    /// Nothing of it is still to be made.
    pub fn is_whole(&self) -> bool {
        matches!(self.content, Content::Bytes(_) | Content::Pieces(_))
    }

    /// A copy of the bytes, where all of them are there.
    pub fn gathered(&self) -> Option<Bytes> {
        match &self.content {
            Content::Bytes(bytes) => Some(bytes.clone()),
            Content::Pieces(pieces) => Some(pieces.gathered()),
            _ => None,
        }
    }

    /// The audit hears of the end when the body is dropped.
    pub fn tell_at_end(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }

    /// The request lasts as long as the body.
    pub fn lasts(&mut self, lasting: Lasting) {
        self.lasting = Some(Box::new(lasting));
    }

    /// The seat is kept until the body has been sent, or, of a watch, until it first waits for news.
    pub fn sit(&mut self, seat: Seat, until_first_pause: bool) {
        self.sitting = Some(Sitting { seat, until_first_pause });
    }

    pub fn keep_busy(&mut self, busy: Busy) {
        self.busy = Some(busy);
    }

    #[cfg(test)]
    pub fn text(&self) -> String {
        match &self.content {
            Content::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Content::Pieces(pieces) => String::from_utf8_lossy(&pieces.gathered()).into_owned(),
            _ => String::new(),
        }
    }
}

type Polled = Poll<Option<Result<Frame<Pieces>, BodyError>>>;

/// The next pieces of a body without end, when the client has taken enough of the former ones.
fn flow(busy: Option<&Busy>, next: impl FnOnce() -> Polled) -> Polled {
    let Some(outflow) = busy.and_then(|busy| busy.connection().outflow.as_ref()) else { return next() };
    if outflow.is_full() {
        return Poll::Pending;
    }
    let polled = next();
    if let Poll::Ready(Some(Ok(frame))) = &polled {
        outflow.handed_on(frame.data_ref().map_or(0, Buf::remaining));
    }
    polled
}

/// A watch that waits for news needs no seat any more.
fn pausing(sitting: Option<&Sitting>, polled: Polled) -> Polled {
    if let (Poll::Pending, Some(sitting)) = (&polled, sitting)
        && sitting.until_first_pause
    {
        sitting.seat.free();
    }
    polled
}

impl http_body::Body for Body {
    type Data = Pieces;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = self.get_mut();
        match &mut this.content {
            Content::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                let sitting = this.sitting.take();
                Poll::Ready(
                    (!bytes.is_empty()).then(|| Ok(Frame::data(Pieces { sitting, ..Pieces::one(bytes) }))),
                )
            }
            Content::Pieces(pieces) => {
                let mut pieces = std::mem::take(pieces);
                pieces.sitting = this.sitting.take();
                Poll::Ready((pieces.remaining > 0).then(|| Ok(Frame::data(pieces))))
            }
            Content::Stream(state) => {
                pausing(this.sitting.as_ref(), flow(this.busy.as_ref(), || state.poll_pieces(cx)))
            }
            Content::Watch(watch) => {
                pausing(this.sitting.as_ref(), flow(this.busy.as_ref(), || watch.poll_pieces(cx)))
            }
            Content::Forwarded(incoming) => flow(this.busy.as_ref(), || poll_incoming(incoming, cx)),
            Content::Timed(timed) => flow(this.busy.as_ref(), || timed.poll_frame(cx)),
            Content::Held(held) => flow(this.busy.as_ref(), || held.poll_frame(cx)),
            Content::Page(page) => flow(this.busy.as_ref(), || {
                let polled = page.poll_piece(cx);
                polled.map(|piece| piece.map(|piece| Ok(Frame::data(Pieces::one(piece?)))))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Bytes(bytes) => bytes.is_empty(),
            Content::Pieces(pieces) => pieces.remaining == 0,
            Content::Forwarded(incoming) => incoming.is_end_stream(),
            Content::Timed(timed) => timed.incoming.is_end_stream(),
            Content::Held(held) => held.incoming.is_end_stream(),
            Content::Stream(_) | Content::Watch(_) | Content::Page(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Pieces(pieces) => SizeHint::with_exact(pieces.remaining as u64),
            Content::Forwarded(incoming) => incoming.size_hint(),
            Content::Timed(timed) => timed.incoming.size_hint(),
            Content::Held(held) => held.incoming.size_hint(),
            Content::Stream(_) | Content::Watch(_) | Content::Page(_) => SizeHint::default(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Content::Stream(state) = &self.content {
            state.reader_gone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_advance_across_borders() {
        let mut pieces = Pieces::many([Bytes::from("abc"), Bytes::new(), Bytes::from("defg")]);
        assert_eq!(pieces.remaining(), 7);
        pieces.advance(2);
        assert_eq!(pieces.chunk(), b"c");
        pieces.advance(3);
        assert_eq!(pieces.chunk(), b"fg");
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(pieces.chunks_vectored(&mut slices), 1);
        pieces.advance(2);
        assert!(!pieces.has_remaining());
    }

    #[test]
    fn a_newline_behind_a_piece_is_sent_like_another_piece() {
        for steps in [&[4][..], &[3, 1], &[2, 2], &[1, 1, 1, 1]] {
            let mut line = Pieces::line(Bytes::from("abc"));
            let mut sent = Vec::new();
            for step in steps {
                let mut slices = [IoSlice::new(&[]); 4];
                let filled = line.chunks_vectored(&mut slices);
                let left: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                assert_eq!((left.len(), &left[..line.chunk().len()]), (line.remaining(), line.chunk()));
                assert_eq!(left, *line.gathered());
                sent.extend_from_slice(&left[..*step]);
                line.advance(*step);
            }
            assert_eq!((&*sent, line.has_remaining(), line.chunk()), (&b"abc\n"[..], false, &b""[..]));
            assert_eq!(line.chunks_vectored(&mut [IoSlice::new(&[]); 4]), 0);
        }
    }
}
