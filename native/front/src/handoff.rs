//! Requests and callbacks on their way to Python: queues behind one eventfd. Users take turns.

use std::hash::BuildHasher;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use http::{HeaderName, HeaderValue};
use hyper::upgrade::OnUpgrade;
use kubecore_core::authn::UserInfo;
use parking_lot::{Mutex, MutexGuard};
use rustc_hash::FxBuildHasher;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::exchange::{Decisions, Exchange};
use crate::forward::Forward;
use crate::hands::{Hands, Place, Whose};
use crate::stream::StreamState;
use crate::turns::Turns;

/// Something to run on Python's loop thread, inside `drain`.
pub type Callback = Box<dyn FnOnce() + Send>;

/// Requests that may wait for Python; beyond that clients are told to come again (429).
const QUEUE_LIMIT: usize = 16_384;

/// Response headers as Python gives them.
pub type Headers = Vec<(HeaderName, HeaderValue)>;

/// What a connection is given to once its protocol is switched.
pub type Serve = Box<dyn FnOnce(OnUpgrade) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Python's answer to a request.
pub enum Reply {
    Full {
        status: u16,
        headers: Headers,
        body: Bytes,
    },
    Stream {
        status: u16,
        headers: Headers,
        stream: Arc<StreamState>,
    },
    Upgrade {
        status: u16,
        headers: Headers,
        serve: Serve,
    },
    /// Somebody else is to answer.
    Forward(Box<Forward>),
    /// Go on in Rust as this user; `authorized` when Python has allowed the request.
    Resume {
        user: Arc<UserInfo>,
        authorized: bool,
    },
}

/// Whether the client still waits.
#[derive(Default)]
pub struct Presence {
    gone: AtomicBool,
    /// Among those that Python has in hand; 0 before it has.
    place: AtomicU64,
    on_cancelled: Mutex<Option<Callback>>,
}

impl Presence {
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

/// A request that waits for Python's answer. Dropped unanswered, the client gets a 500.
pub struct Pending {
    pub exchange: Arc<Exchange>,
    pub decisions: Decisions,
    pub body: Bytes,
    pub presence: Arc<Presence>,
    pub reply: oneshot::Sender<Reply>,
}

/// Held by the waiting task: tells Python when the client goes before the answer.
pub struct PresenceGuard {
    presence: Arc<Presence>,
    handoff: Handoff,
    answered: bool,
}

impl PresenceGuard {
    pub fn new(presence: Arc<Presence>, handoff: Handoff) -> Self {
        Self { presence, handoff, answered: false }
    }

    pub fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for PresenceGuard {
    fn drop(&mut self) {
        if self.answered {
            return self.handoff.give_back(&self.presence);
        }
        let callback = {
            let mut slot = self.presence.on_cancelled.lock();
            self.presence.gone.store(true, Ordering::Release);
            slot.take()
        };
        // Of one that is taken just now either we or who takes it knows that it is gone.
        self.handoff.give_back(&self.presence);
        if let Some(callback) = callback {
            self.handoff.call(callback);
        }
    }
}

impl Pending {
    /// In whose line it waits: nobody's, where Python is to say who asks.
    fn whose(&self) -> &str {
        self.decisions.user.as_ref().map_or("", |user| &user.username)
    }
}

fn hashed(whose: &str) -> Whose {
    FxBuildHasher.hash_one(whose)
}

struct Requests {
    waiting: Turns<Box<str>, Box<Pending>>,
    hands: Hands,
    /// Somebody looks from time to time whether hands have become free.
    is_kept_up: bool,
}

struct Shared {
    requests: Mutex<Requests>,
    callbacks: (Sender<Callback>, Receiver<Callback>),
    event: OwnedFd,
    signalled: AtomicBool,
    /// Of the front, once a request has come.
    runtime: OnceLock<Handle>,
}

/// The two queues; cheap to clone.
#[derive(Clone)]
pub struct Handoff(Arc<Shared>);

impl Handoff {
    pub fn new(hands: Hands) -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers; the result is checked before it is owned.
        let raw = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(Arc::new(Shared {
            requests: Mutex::new(Requests { waiting: Turns::new(), hands, is_kept_up: false }),
            callbacks: crossbeam_channel::unbounded(),
            // SAFETY: `raw` was just made and is owned by nobody else.
            event: unsafe { OwnedFd::from_raw_fd(raw) },
            signalled: AtomicBool::new(false),
            runtime: OnceLock::new(),
        })))
    }

    pub fn fileno(&self) -> RawFd {
        self.0.event.as_raw_fd()
    }

    /// Whether Python is told that there is something for it.
    #[cfg(test)]
    pub(crate) fn is_readable(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.fileno(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd, no timeout.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }

    /// Gives the request back when too many wait.
    pub fn push(&self, pending: Box<Pending>) -> Result<(), Box<Pending>> {
        let whose: Box<str> = pending.whose().into();
        self.0.runtime.get_or_init(Handle::current);
        let mut requests = self.0.requests.lock();
        if requests.waiting.len() >= QUEUE_LIMIT {
            return Err(pending);
        }
        if !requests.waiting.has(&*whose) {
            let waiting = requests.waiting.len();
            requests.hands.asked(hashed(&whose), waiting, Instant::now());
        }
        requests.waiting.push(whose, pending);
        self.see_to_it(requests);
        Ok(())
    }

    /// Requests that nobody has taken.
    pub fn waiting(&self) -> usize {
        self.0.requests.lock().waiting.len()
    }

    /// Queues a callback for the next `drain`.
    pub fn call(&self, callback: Callback) {
        // The receiver lives in the same Arc, so the channel cannot be disconnected.
        let _ = self.0.callbacks.0.send(callback);
        self.signal();
    }

    /// Runs `callback` when the client goes before the answer, or at the next `drain` if it has gone.
    pub fn on_cancelled(&self, presence: &Presence, callback: Callback) {
        let mut slot = presence.on_cancelled.lock();
        if presence.is_gone() {
            drop(slot);
            self.call(callback);
        } else {
            *slot = Some(callback);
        }
    }

    /// Callbacks due and up to `limit` requests, oldest first of each user's, as far as there are hands for them. What
    /// stays behind although there are keeps the eventfd readable.
    pub fn drain(&self, limit: usize) -> (Vec<Callback>, Vec<Box<Pending>>) {
        self.clear();
        let callbacks = self.0.callbacks.1.try_iter().take(self.0.callbacks.1.len()).collect();
        let mut guard = self.0.requests.lock();
        let Requests { waiting, hands, .. } = &mut *guard;
        let now = Instant::now();
        hands.let_go(now);
        let room = hands.room(now).min(limit);
        let requests: Vec<_> = std::iter::from_fn(|| waiting.pop()).take(room).collect();
        for pending in &requests {
            let place = hands.take(hashed(pending.whose()), now);
            pending.presence.place.store(place, Ordering::Relaxed);
            if pending.presence.is_gone() {
                // Nobody is left to give it back.
                hands.give_back(place);
            }
        }
        self.see_to_it(guard);
        (callbacks, requests)
    }

    /// Whoever waits is taken when there are hands for it: now, or once those in hand are answered or let go.
    fn see_to_it(&self, mut requests: MutexGuard<'_, Requests>) {
        if requests.waiting.len() == 0 {
            return;
        }
        let has_room = requests.hands.room(Instant::now()) > 0;
        let begins = !has_room && !std::mem::replace(&mut requests.is_kept_up, true);
        drop(requests);
        if has_room {
            self.signal();
        } else if begins {
            self.keep_up();
        }
    }

    /// A request is answered, or nobody waits for it any more.
    fn give_back(&self, presence: &Presence) {
        let mut requests = self.0.requests.lock();
        // Read under the lock that it is written under: Python may be about to take it.
        let place: Place = presence.place.load(Ordering::Relaxed);
        requests.hands.give_back(place);
        self.see_to_it(requests);
    }

    /// What Python has had in hand for long waits for somebody else: others go on meanwhile.
    fn keep_up(&self) {
        let Some(runtime) = self.0.runtime.get() else { return };
        let handoff = self.clone();
        let pause = self.0.requests.lock().hands.measure.patience / 2;
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let mut requests = handoff.0.requests.lock();
                let now = Instant::now();
                requests.hands.let_go(now);
                if requests.hands.room(now) > 0 {
                    requests.is_kept_up = false;
                    break;
                }
            }
            handoff.signal();
        });
    }

    fn clear(&self) {
        // Cleared before the queues are read: what is pushed after that signals anew.
        let mut count = 0u64;
        // SAFETY: reads eight bytes into a u64; EAGAIN when nothing was signalled is fine.
        unsafe { libc::read(self.fileno(), (&raw mut count).cast(), 8) };
        self.0.signalled.store(false, Ordering::SeqCst);
    }

    fn signal(&self) {
        if !self.0.signalled.swap(true, Ordering::SeqCst) {
            let one = 1u64;
            // SAFETY: writes eight bytes from a u64; the counter cannot overflow as one write is out at a time.
            unsafe { libc::write(self.fileno(), (&raw const one).cast(), 8) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;
    use crate::hands::Measure;

    #[test]
    fn callbacks_make_the_eventfd_readable_until_drained() {
        let handoff = Handoff::new(Hands::new(Measure::same(1, Duration::MAX))).unwrap();
        let runs = Arc::new(AtomicUsize::new(0));
        assert!(!handoff.is_readable());
        for _ in 0..3 {
            let runs = runs.clone();
            handoff.call(Box::new(move || {
                runs.fetch_add(1, Ordering::SeqCst);
            }));
        }
        assert!(handoff.is_readable());
        let (callbacks, requests) = handoff.drain(10);
        callbacks.into_iter().for_each(|callback| callback());
        assert_eq!((runs.load(Ordering::SeqCst), requests.len(), handoff.is_readable()), (3, 0, false));
    }

    #[test]
    fn a_client_that_goes_is_reported_once_and_only_when_unanswered() {
        let handoff = Handoff::new(Hands::new(Measure::same(1, Duration::MAX))).unwrap();
        let presence = Arc::new(Presence::default());
        PresenceGuard::new(presence.clone(), handoff.clone()).answered();
        assert!(!presence.is_gone());
        let guard = PresenceGuard::new(presence.clone(), handoff.clone());
        handoff.on_cancelled(&presence, Box::new(|| {}));
        drop(guard);
        assert!(presence.is_gone());
        assert_eq!(handoff.drain(1).0.len(), 1);
        handoff.on_cancelled(&presence, Box::new(|| {}));
        assert_eq!(handoff.drain(1).0.len(), 1);
    }
}
