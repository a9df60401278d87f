//! One client connection: what all its requests share, and how long it may be idle.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::head_guard::SharedHead;
use crate::headers::Forwarded;
use crate::options::Options;

pub struct Client {
    pub remote: SocketAddr,
    /// Where it reached us.
    pub local: SocketAddr,
    pub secure: bool,
    pub forwarded: Forwarded,
    /// Of HTTP/1.1.
    pub head: Option<SharedHead>,
    opened: Instant,
    /// Requests under way, their bodies included.
    busy: AtomicU32,
    /// When the last one ended, in milliseconds after `opened`; 0 before that.
    last_end: AtomicU64,
}

impl Client {
    pub fn new(remote: SocketAddr, local: SocketAddr, secure: bool, head: Option<SharedHead>) -> Arc<Self> {
        Arc::new(Self {
            remote,
            local,
            secure,
            forwarded: Forwarded::new(remote, local.port(), secure),
            head,
            opened: Instant::now(),
            busy: AtomicU32::new(0),
            last_end: AtomicU64::new(0),
        })
    }

    /// Counts a request as under way while the result lives.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy { client: Arc::clone(self) }
    }

    /// How long nothing has been asked, and how long that may last.
    fn idle(&self, options: &Options) -> Option<(Duration, Duration)> {
        if self.busy.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let last_end = self.last_end.load(Ordering::Relaxed);
        let allowed = if last_end == 0 { options.header_timeout } else { options.idle_timeout };
        let idle = self.opened.elapsed().saturating_sub(Duration::from_millis(last_end));
        Some((idle, allowed))
    }

    /// Completes when the connection has been idle (or busy with half a request head) for too long.
    pub async fn tired(&self, options: &Options) {
        loop {
            let wait = match self.idle(options) {
                Some((idle, allowed)) if idle >= allowed => return,
                Some((idle, allowed)) => allowed - idle,
                None => options.header_timeout.min(options.idle_timeout),
            };
            tokio::time::sleep(wait.max(Duration::from_millis(10))).await;
        }
    }
}

/// A request under way.
pub struct Busy {
    client: Arc<Client>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let since = self.client.opened.elapsed().as_millis().max(1);
        self.client.last_end.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.client.busy.fetch_sub(1, Ordering::Relaxed);
    }
}
