//! Connections that wait for the next request.

use std::hash::Hash;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// As Go's transport keeps them at most.
const KEPT_FOR: Duration = Duration::from_secs(90);
const KEPT_EACH: usize = 25;

struct Idle<B> {
    sender: SendRequest<B>,
    since: Instant,
}

impl<B> Idle<B> {
    fn is_fresh(&self) -> bool {
        self.sender.is_ready() && self.since.elapsed() < KEPT_FOR
    }
}

/// By where they lead (`K`); `B` is what requests bring with them.
pub struct Pool<K, B> {
    idle: Mutex<FxHashMap<K, Vec<Idle<B>>>>,
}

impl<K, B> Default for Pool<K, B> {
    fn default() -> Self {
        Self { idle: Mutex::default() }
    }
}

impl<K: Eq + Hash, B> Pool<K, B> {
    /// The one that was used last, if one is open.
    pub fn take(&self, to: &K) -> Option<SendRequest<B>> {
        let mut idle = self.idle.lock();
        let kept = idle.get_mut(to)?;
        while let Some(one) = kept.pop() {
            if one.is_fresh() {
                return Some(one.sender);
            }
        }
        None
    }

    /// Whether `take` would find one.
    pub fn has(&self, to: &K) -> bool {
        self.idle.lock().get(to).is_some_and(|kept| kept.iter().any(Idle::is_fresh))
    }

    /// To be called once the connection can take another request.
    pub fn put(&self, to: K, sender: SendRequest<B>) {
        let mut idle = self.idle.lock();
        idle.retain(|_, kept| {
            kept.retain(|one| !one.sender.is_closed() && one.since.elapsed() < KEPT_FOR);
            !kept.is_empty()
        });
        let kept = idle.entry(to).or_default();
        if kept.len() < KEPT_EACH {
            kept.push(Idle { sender, since: Instant::now() });
        }
    }
}
