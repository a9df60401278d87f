//! The body of a watch: batches of frames until its time is up, the right to it is lost, the server stops, or the
//! watcher ends.

use std::future::Future;
use std::pin::Pin;
use std::slice;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::Frame;
use kubecore_core::clock::Clock;
use kubecore_core::watch_cache::Watcher;
use rand::Rng;

use crate::authz::HeldRight;
use crate::body::{BodyError, Pieces};
use crate::lifespan::Phase;
use crate::metrics::Lasting;
use crate::server::Server;

/// Events taken from the cache at once.
const BATCH: usize = 512;
/// How often a client that wants bookmarks is told the revision reached; as apiserver's cacher.
const TICK: Duration = Duration::from_secs(60);

pub(crate) type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct WatchBody {
    watcher: Watcher,
    clock: Clock,
    /// Completes when the time is up or the server stops.
    end: Timer,
    tick: Timer,
    bookmarks: bool,
    right: Option<HeldRight>,
    ended: bool,
    /// Counts the watch as open while it lives, and what it tells.
    counted: Lasting,
}

impl WatchBody {
    pub fn new(
        server: &Arc<Server>,
        watcher: Watcher,
        lasts: Duration,
        bookmarks: bool,
        right: Option<HeldRight>,
        counted: Lasting,
    ) -> Self {
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
            tick: next_tick(&clock),
            bookmarks,
            right,
            clock,
            ended: false,
            counted,
        }
    }

    pub(crate) fn poll_pieces(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Pieces>, BodyError>>> {
        if self.ended || self.end.as_mut().poll(cx).is_ready() || self.has_lapsed(cx) {
            self.ended = true;
            return Poll::Ready(None);
        }
        match self.watcher.poll_batch(cx, BATCH) {
            Poll::Ready(Some(batch)) => {
                self.counted.tells(&batch.frames, batch.events);
                return Poll::Ready(Some(Ok(Frame::data(Pieces::many(batch.frames)))));
            }
            Poll::Ready(None) => {
                self.ended = true;
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
        while self.tick.as_mut().poll(cx).is_ready() {
            self.tick = next_tick(&self.clock);
            if self.bookmarks
                && let Some(frame) = self.watcher.bookmark()
            {
                self.counted.tells(slice::from_ref(&frame), 1);
                return Poll::Ready(Some(Ok(Frame::data(Pieces::one(frame)))));
            }
        }
        Poll::Pending
    }

    fn has_lapsed(&mut self, cx: &mut Context<'_>) -> bool {
        self.right.as_mut().is_some_and(|right| right.has_lapsed(cx))
    }
}

/// A quarter of spread, so that watches opened together are not told together.
fn next_tick(clock: &Clock) -> Timer {
    sleep(clock, TICK.mul_f64(rand::rng().random_range(0.75..1.25)))
}

/// By the clock: in virtual time when it is virtual.
pub(crate) fn sleep(clock: &Clock, duration: Duration) -> Timer {
    match clock.virtual_sleep(duration) {
        Some(sleep) => Box::pin(sleep),
        None => Box::pin(tokio::time::sleep(duration)),
    }
}
