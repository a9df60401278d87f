//! What is on its way to a client of HTTP/1.1, as its requests and its socket know it. hyper is between them, and
//! tells neither what it holds.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::task::Context;

/// Bytes of streams and watches that hyper may hold before it gets no more of them. Its own bound is the one of heads,
/// which is much larger; what a slow client has not taken is to wait where it is counted.
const MOST_UNWRITTEN: usize = 128 << 10;

/// Nobody has been asked since all was written: what comes now is hyper's own.
const NOBODY: u8 = 0;
const ASKED: u8 = 1;
/// The connection speaks something else from now on.
const SWITCHED: u8 = 2;

/// One task writes a connection and polls its answers' bodies, so that there is nothing to order between threads.
#[derive(Debug, Default)]
pub struct Outflow {
    speaker: AtomicU8,
    unwritten: AtomicUsize,
    /// A stream has been held back.
    waiting: AtomicBool,
}

impl Outflow {
    /// A request has come through: its answer will be ours.
    pub fn asked(&self) {
        self.speaker.store(ASKED, Relaxed);
    }

    pub fn switched(&self) {
        self.speaker.store(SWITCHED, Relaxed);
    }

    pub fn is_hypers_own(&self) -> bool {
        self.speaker.load(Relaxed) == NOBODY
    }

    /// Whether a stream has to wait until `written`.
    pub fn is_full(&self) -> bool {
        let full = self.unwritten.load(Relaxed) >= MOST_UNWRITTEN;
        if full {
            self.waiting.store(true, Relaxed);
        }
        full
    }

    pub fn handed_on(&self, bytes: usize) {
        self.unwritten.fetch_add(bytes, Relaxed);
    }

    /// hyper holds nothing any more. `answered`: nor does anybody who has been asked.
    pub fn written(&self, answered: bool, cx: &mut Context<'_>) {
        self.unwritten.store(0, Relaxed);
        if answered && self.speaker.load(Relaxed) == ASKED {
            self.speaker.store(NOBODY, Relaxed);
        }
        if self.waiting.swap(false, Relaxed) {
            cx.waker().wake_by_ref();
        }
    }
}
