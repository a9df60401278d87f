//! The body of a watch: batches of frames until its time is up, the server stops, or the watcher ends.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http_body::Frame;

use crate::body::{BodyError, Pieces};
use crate::metrics::Gauge;

/// Batches of watch frames; its end ends the watch.
pub type Batches = Pin<Box<dyn Stream<Item = Vec<Bytes>> + Send>>;
/// Completes when the watch has to end.
pub type EndOfWatch = Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct WatchBody {
    batches: Batches,
    end: EndOfWatch,
    ended: bool,
    /// Counts the watch as open while it lives.
    _open: Gauge,
}

impl WatchBody {
    pub fn new(batches: Batches, end: EndOfWatch, open: Gauge) -> Self {
        Self { batches, end, ended: false, _open: open }
    }

    pub(crate) fn poll_pieces(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Pieces>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            match self.batches.as_mut().poll_next(cx) {
                Poll::Ready(Some(frames)) if frames.is_empty() => {}
                Poll::Ready(Some(frames)) => return Poll::Ready(Some(Ok(Frame::data(Pieces::many(frames))))),
                Poll::Ready(None) => break,
                Poll::Pending if self.end.as_mut().poll(cx).is_ready() => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        self.ended = true;
        Poll::Ready(None)
    }
}
