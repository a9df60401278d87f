//! A bounded byte stream from a writer outside the runtime (Python, a compressor) to a response body or a socket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Frame;
use parking_lot::{Condvar, Mutex};

use crate::body::{BodyError, Pieces};
use crate::handoff::{Callback, Handoff};

/// Bytes that may wait before the writer is told to pause.
pub const STREAM_CAPACITY: usize = 1 << 20;
/// A writer that does not listen is ended here: the reader is too slow for it.
const STREAM_LIMIT: usize = 16 * STREAM_CAPACITY;
/// Pieces handed to hyper at once.
const BATCH: usize = 64;

/// Why the writer stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// Everything was said.
    Closed,
    /// The writer vanished: the client must see a broken body.
    Abandoned,
}

struct Inner {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    end: End,
    reader_gone: bool,
    reader: Option<Waker>,
    on_writable: Option<Callback>,
    on_closed: Option<Callback>,
}

/// The state shared by the writer and the reader of one stream. Callbacks go through the hand-off queue,
/// so that they run on Python's loop thread.
pub struct StreamState {
    inner: Mutex<Inner>,
    room: Condvar,
    handoff: Handoff,
}

impl StreamState {
    pub fn new(handoff: Handoff) -> Arc<Self> {
        let inner = Inner {
            pieces: VecDeque::new(),
            bytes: 0,
            end: End::Open,
            reader_gone: false,
            reader: None,
            on_writable: None,
            on_closed: None,
        };
        Arc::new(Self { inner: Mutex::new(inner), room: Condvar::new(), handoff })
    }

    /// False when nobody reads any more. Never blocks; see [`Self::writable`].
    pub fn write(&self, piece: Bytes) -> bool {
        let mut inner = self.inner.lock();
        if inner.reader_gone || inner.end != End::Open {
            return false;
        }
        if inner.bytes > STREAM_LIMIT {
            inner.end = End::Abandoned;
            inner.pieces.clear();
        } else if !piece.is_empty() {
            inner.bytes += piece.len();
            inner.pieces.push_back(piece);
        }
        let open = inner.end == End::Open;
        wake(inner);
        open
    }

    /// Waits for room, then writes: for threads that may block.
    pub fn write_blocking(&self, piece: Bytes) -> bool {
        let mut inner = self.inner.lock();
        while inner.bytes >= STREAM_CAPACITY && !inner.reader_gone {
            self.room.wait(&mut inner);
        }
        drop(inner);
        self.write(piece)
    }

    pub fn writable(&self) -> bool {
        let inner = self.inner.lock();
        !inner.reader_gone && inner.bytes < STREAM_CAPACITY
    }

    /// The reader is gone or the stream was closed.
    pub fn is_closed(&self) -> bool {
        let inner = self.inner.lock();
        inner.reader_gone || inner.end != End::Open
    }

    pub fn close(&self) {
        self.finish(End::Closed);
    }

    /// The writer is dropped without having closed.
    pub fn abandon(&self) {
        self.finish(End::Abandoned);
    }

    fn finish(&self, end: End) {
        let mut inner = self.inner.lock();
        if inner.end == End::Open {
            inner.end = end;
            inner.on_writable = None;
            inner.on_closed = None;
            wake(inner);
        }
    }

    /// Runs once there is room or the reader is gone.
    pub fn on_writable(&self, callback: Callback) {
        let mut inner = self.inner.lock();
        if inner.reader_gone || inner.bytes < STREAM_CAPACITY {
            drop(inner);
            self.handoff.call(callback);
        } else {
            inner.on_writable = Some(callback);
        }
    }

    /// Runs when the reader goes before the writer has closed.
    pub fn on_closed(&self, callback: Callback) {
        let mut inner = self.inner.lock();
        if inner.reader_gone {
            drop(inner);
            self.handoff.call(callback);
        } else {
            inner.on_closed = Some(callback);
        }
    }

    /// The reader's side is dropped: the client went or was ended.
    pub fn reader_gone(&self) {
        let mut inner = self.inner.lock();
        inner.reader_gone = true;
        inner.pieces.clear();
        inner.bytes = 0;
        let callbacks = [inner.on_writable.take(), inner.on_closed.take()];
        drop(inner);
        self.room.notify_all();
        callbacks.into_iter().flatten().for_each(|callback| self.handoff.call(callback));
    }

    /// What waits, or None at the end.
    fn take(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Pieces, BodyError>>> {
        let mut inner = self.inner.lock();
        if inner.pieces.is_empty() {
            return match inner.end {
                End::Closed => Poll::Ready(None),
                End::Abandoned => Poll::Ready(Some(Err(BodyError::Abandoned))),
                End::Open => {
                    inner.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        }
        let count = inner.pieces.len().min(BATCH);
        let batch: Vec<Bytes> = inner.pieces.drain(..count).collect();
        inner.bytes -= batch.iter().map(Bytes::len).sum::<usize>();
        let callback = if inner.bytes < STREAM_CAPACITY / 2 { inner.on_writable.take() } else { None };
        drop(inner);
        self.room.notify_all();
        if let Some(callback) = callback {
            self.handoff.call(callback);
        }
        Poll::Ready(Some(Ok(Pieces::many(batch))))
    }

    pub(crate) fn poll_pieces(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Pieces>, BodyError>>> {
        self.take(cx).map(|next| next.map(|pieces| pieces.map(Frame::data)))
    }

    /// The same for a raw socket: pieces until the end; an abandoned stream ends as well.
    pub(crate) async fn next_pieces(&self) -> Option<Pieces> {
        std::future::poll_fn(|cx| self.take(cx)).await?.ok()
    }
}

fn wake(mut inner: parking_lot::MutexGuard<'_, Inner>) {
    let waker = inner.reader.take();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}
