//! Connections that wait for the next request.

use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::time::{Instant, sleep};

/// As Go's transport keeps them at most.
const KEPT_FOR: Duration = Duration::from_secs(90);
const KEPT_EACH: usize = 25;
const SWEEP_EVERY: Duration = Duration::from_secs(15);

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
    kept: Arc<Mutex<Kept<K, B>>>,
}

struct Kept<K, B> {
    idle: FxHashMap<K, Vec<Idle<B>>>,
    /// Somebody looks from time to time which are to be closed.
    is_swept: bool,
}

impl<K, B> Default for Pool<K, B> {
    fn default() -> Self {
        Self { kept: Arc::new(Mutex::new(Kept { idle: FxHashMap::default(), is_swept: false })) }
    }
}

impl<K: Eq + Hash, B> Kept<K, B> {
    fn close_old(&mut self) {
        self.idle.retain(|_, kept| {
            kept.retain(|one| !one.sender.is_closed() && one.since.elapsed() < KEPT_FOR);
            !kept.is_empty()
        });
    }
}

impl<K: Eq + Hash + Send + 'static, B: Send + 'static> Pool<K, B> {
    /// The one that was used last, if one is open.
    pub fn take(&self, to: &K) -> Option<SendRequest<B>> {
        let mut kept = self.kept.lock();
        let idle = kept.idle.get_mut(to)?;
        while let Some(one) = idle.pop() {
            if one.is_fresh() {
                return Some(one.sender);
            }
        }
        None
    }

    /// Whether `take` would find one.
    pub fn has(&self, to: &K) -> bool {
        self.kept.lock().idle.get(to).is_some_and(|idle| idle.iter().any(Idle::is_fresh))
    }

    /// To be called by a task, once the connection can take another request.
    pub fn put(&self, to: K, sender: SendRequest<B>) {
        let mut kept = self.kept.lock();
        let idle = kept.idle.entry(to).or_default();
        if idle.len() >= KEPT_EACH {
            return;
        }
        idle.push(Idle { sender, since: Instant::now() });
        if !std::mem::replace(&mut kept.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(&self.kept)));
        }
    }
}

/// Until nothing is kept any more.
async fn sweep<K: Eq + Hash, B>(kept: Weak<Mutex<Kept<K, B>>>) {
    loop {
        sleep(SWEEP_EVERY).await;
        let Some(kept) = kept.upgrade() else { return };
        let mut kept = kept.lock();
        kept.close_old();
        kept.is_swept = !kept.idle.is_empty();
        if !kept.is_swept {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, DuplexStream};

    use super::*;

    type Waiting = Pool<u8, Full<Bytes>>;

    /// A connection to nobody in particular, and its other end.
    async fn connection() -> (SendRequest<Full<Bytes>>, DuplexStream) {
        let (own, other) = tokio::io::duplex(64);
        let (mut sender, connection) = http1::handshake(TokioIo::new(own)).await.unwrap();
        tokio::spawn(connection);
        sender.ready().await.unwrap();
        (sender, other)
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_uses_is_closed_in_the_end() {
        let pool = Waiting::default();
        let (sender, mut other) = connection().await;
        pool.put(1, sender);
        sleep(KEPT_FOR - SWEEP_EVERY).await;
        assert!(pool.has(&1) && !pool.has(&2));
        sleep(2 * SWEEP_EVERY).await;
        assert!(!pool.has(&1));
        assert_eq!(other.read(&mut [0]).await.unwrap(), 0);
        let (sender, _other) = connection().await;
        pool.put(1, sender);
        assert!(pool.take(&1).is_some() && pool.take(&1).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_end_with_the_pool() {
        let (pool, (sender, mut other)) = (Waiting::default(), connection().await);
        pool.put(1, sender);
        drop(pool);
        assert_eq!(other.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_closed_at_the_other_end_is_not_taken() {
        let (pool, (sender, other)) = (Waiting::default(), connection().await);
        pool.put(1, sender);
        drop(other);
        tokio::task::yield_now().await;
        assert!(!pool.has(&1) && pool.take(&1).is_none());
    }
}
