//! The body of a watch: batches of frames until its time is up, the server stops, or the watcher ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::Frame;
use kubecore_core::clock::Clock;
use kubecore_core::watch_cache::Watcher;
use rand::Rng;

use crate::body::{BodyError, Pieces};
use crate::lifespan::Phase;
use crate::metrics::Gauge;
use crate::server::Server;

/// Events taken from the cache at once.
const BATCH: usize = 512;
/// How often a client that wants bookmarks is told the revision reached; as apiserver's cacher.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct WatchBody {
    watcher: Watcher,
    clock: Clock,
    /// Completes when the time is up or the server stops.
    end: Timer,
    bookmark: Option<Timer>,
    ended: bool,
    /// Counts the watch as open while it lives.
    _open: Gauge,
}

impl WatchBody {
    pub fn new(server: &Arc<Server>, watcher: Watcher, lasts: Duration, bookmarks: bool) -> Self {
        let clock = server.clock.clone();
        let (time, mut phase) = (sleep(&clock, lasts), server.phase.subscribe());
        let end = async move {
            tokio::select! {
                () = time => {}
                _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
            }
        };
        Self {
            watcher,
            end: Box::pin(end),
            bookmark: bookmarks.then(|| next_bookmark(&clock)),
            clock,
            ended: false,
            _open: server.metrics.open_watch(),
        }
    }

    pub(crate) fn poll_pieces(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Pieces>, BodyError>>> {
        if self.ended || self.end.as_mut().poll(cx).is_ready() {
            self.ended = true;
            return Poll::Ready(None);
        }
        match self.watcher.poll_batch(cx, BATCH) {
            Poll::Ready(Some(batch)) => {
                return Poll::Ready(Some(Ok(Frame::data(Pieces::many(batch.frames)))));
            }
            Poll::Ready(None) => {
                self.ended = true;
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
        while let Some(timer) = &mut self.bookmark {
            if timer.as_mut().poll(cx).is_pending() {
                break;
            }
            self.bookmark = Some(next_bookmark(&self.clock));
            if let Some(frame) = self.watcher.bookmark() {
                return Poll::Ready(Some(Ok(Frame::data(Pieces::one(frame)))));
            }
        }
        Poll::Pending
    }
}

/// A quarter of spread, so that watches opened together are not told together.
fn next_bookmark(clock: &Clock) -> Timer {
    sleep(clock, BOOKMARK_EVERY.mul_f64(rand::rng().random_range(0.75..1.25)))
}

/// By the clock: in virtual time when it is virtual.
fn sleep(clock: &Clock, duration: Duration) -> Timer {
    match clock.virtual_sleep(duration) {
        Some(sleep) => Box::pin(sleep),
        None => Box::pin(tokio::time::sleep(duration)),
    }
}
