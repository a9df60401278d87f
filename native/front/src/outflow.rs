//! What is on its way to a client of HTTP/1.1, as its requests and its socket know it. hyper is between them, and
//! tells neither what it holds.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::Context;

/// Bytes of streams and watches that hyper may hold before it gets no more of them. Its own bound is the one of heads,
/// which is much larger; what a slow client has not taken is to wait where it is counted.
const MOST_UNWRITTEN: usize = 128 << 10;

/// Nobody has been asked since all was written: what comes now is hyper's own.
const NOBODY: u8 = 0;
const ASKED: u8 = 1;
/// The connection speaks something else from now on.
const SWITCHED: u8 = 2;

/// Of `bodies`, which says how long the body of one request is otherwise.
const NOTHING_ASKED: u64 = u64::MAX;
const UNCLEAR: u64 = u64::MAX - 1;

/// Which requests have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Nothing,
    /// One, whose body is so many bytes.
    Once(u64),
    /// More than that, or with a body whose length nobody knows before its end.
    Unclear,
}

/// One task writes a connection and polls its answers' bodies, so that there is nothing to order between threads.
#[derive(Debug)]
pub struct Outflow {
    speaker: AtomicU8,
    bodies: AtomicU64,
    unwritten: AtomicUsize,
    /// A stream has been held back.
    waiting: AtomicBool,
}

impl Default for Outflow {
    fn default() -> Self {
        Self {
            speaker: AtomicU8::new(NOBODY),
            bodies: AtomicU64::new(NOTHING_ASKED),
            unwritten: AtomicUsize::new(0),
            waiting: AtomicBool::new(false),
        }
    }
}

impl Outflow {
    /// A request has come through, with a `body` of so many bytes as far as that is known: its answer will be ours.
    pub fn asked(&self, body: Option<u64>) {
        self.speaker.store(ASKED, Relaxed);
        let is_first = self.bodies.load(Relaxed) == NOTHING_ASKED;
        self.bodies.store(body.filter(|_| is_first).unwrap_or(UNCLEAR), Relaxed);
    }

    /// What has been asked since somebody called this.
    pub fn take_asked(&self) -> Asked {
        let asked = match self.bodies.load(Relaxed) {
            NOTHING_ASKED => return Asked::Nothing,
            UNCLEAR => Asked::Unclear,
            length => Asked::Once(length),
        };
        self.bodies.store(NOTHING_ASKED, Relaxed);
        asked
    }

    pub fn switched(&self) {
        self.speaker.store(SWITCHED, Relaxed);
    }

    pub fn is_hypers_own(&self) -> bool {
        self.speaker.load(Relaxed) == NOBODY
    }

    /// A request has come, and not all of its answer has been written.
    pub fn owes_an_answer(&self) -> bool {
        self.speaker.load(Relaxed) == ASKED
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
