//! Connections to destinations that wait for their next request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::Duration;

use hyper::client::conn::http2;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::body::RequestBody;
use crate::channel::Channel;

const SWEEP_EVERY: Duration = Duration::from_secs(5);

type Shared = http2::SendRequest<RequestBody>;

#[derive(Default)]
struct Kept {
    /// The one used last is used next, so that few stay warm.
    idle: FxHashMap<SocketAddr, Vec<Channel>>,
    /// HTTP/2 connections carry many requests at once.
    shared: FxHashMap<SocketAddr, Shared>,
}

/// At most `size` idle channels for each destination, none longer than `timeout`.
pub struct Pool {
    kept: Mutex<Kept>,
    size: usize,
    timeout: Duration,
    sweeping: AtomicBool,
}

impl Pool {
    pub fn new(size: usize, timeout: Duration) -> Self {
        Self { kept: Mutex::default(), size, timeout, sweeping: AtomicBool::new(false) }
    }

    /// One that is still open.
    pub fn take(&self, address: SocketAddr, cx: &mut Context<'_>) -> Option<Channel> {
        loop {
            let mut channel = self.kept.lock().idle.get_mut(&address)?.pop()?;
            if channel.is_ready(cx) {
                return Some(channel);
            }
        }
    }

    pub fn put(self: &Arc<Self>, mut channel: Channel, runtime: &Handle) {
        channel.idle_since = Instant::now();
        let mut kept = self.kept.lock();
        let idle = kept.idle.entry(channel.address).or_default();
        if idle.len() < self.size {
            idle.push(channel);
        }
        drop(kept);
        if !self.sweeping.swap(true, Ordering::AcqRel) {
            runtime.spawn(Arc::clone(self).sweep());
        }
    }

    pub fn shared(&self, address: SocketAddr) -> Option<Shared> {
        let mut kept = self.kept.lock();
        let found = kept.shared.get(&address)?;
        if found.is_closed() {
            kept.shared.remove(&address);
            return None;
        }
        Some(found.clone())
    }

    pub fn share(&self, address: SocketAddr, sender: Shared) {
        self.kept.lock().shared.insert(address, sender);
    }

    /// A shared connection that has failed.
    pub fn forget(&self, address: SocketAddr) {
        self.kept.lock().shared.remove(&address);
    }

    /// Closes what waits for a destination that is gone.
    pub fn forget_all(&self, gone: impl Fn(&SocketAddr) -> bool) {
        let mut kept = self.kept.lock();
        let channels: Vec<_> = kept.idle.extract_if(|address, _| gone(address)).collect();
        kept.shared.retain(|address, _| !gone(address));
        drop(kept);
        drop(channels);
    }

    pub fn idle(&self) -> usize {
        self.kept.lock().idle.values().map(Vec::len).sum()
    }

    /// Closes what has waited too long or was closed at the other end; ends when nothing is left.
    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let now = Instant::now();
            let mut closed = Vec::new();
            let mut kept = self.kept.lock();
            kept.idle.retain(|_, idle| {
                let stale = |channel: &mut Channel| {
                    now.duration_since(channel.idle_since) >= self.timeout || !channel.is_alive()
                };
                closed.extend(idle.extract_if(.., stale));
                !idle.is_empty()
            });
            kept.shared.retain(|_, sender| !sender.is_closed());
            if kept.idle.is_empty() {
                self.sweeping.store(false, Ordering::Release);
                return;
            }
            drop(kept);
            drop(closed);
        }
    }
}
