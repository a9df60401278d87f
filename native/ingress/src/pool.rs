//! Connections to destinations that wait for their next request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use hyper::client::conn::http2;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::body::RequestBody;
use crate::channel::Channel;
use crate::relay::Wire;
use crate::transport::Peer;

const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// A connection that carries one request after the other.
pub trait Reusable: Send + 'static {
    fn peer(&self) -> Peer;

    /// When it was last put aside.
    fn idle_since(&self) -> Instant;

    fn put_aside(&mut self, now: Instant);

    /// May it take the next request? Looks at the socket, too.
    fn is_ready(&mut self, cx: &mut Context<'_>) -> bool;
}

/// All connections that are kept.
pub struct Pool {
    pub channels: Arc<Idle<Channel>>,
    pub wires: Arc<Idle<Wire>>,
    /// HTTP/2 connections carry many requests at once.
    shared: Mutex<FxHashMap<Peer, Shared>>,
}

type Shared = http2::SendRequest<RequestBody>;

impl Pool {
    pub fn new(size: usize, timeout: Duration) -> Self {
        Self {
            channels: Arc::new(Idle::new(size, timeout)),
            wires: Arc::new(Idle::new(size, timeout)),
            shared: Mutex::default(),
        }
    }

    pub fn shared(&self, peer: &Peer) -> Option<Shared> {
        let mut shared = self.shared.lock();
        let found = shared.get(peer)?;
        if found.is_closed() {
            shared.remove(peer);
            return None;
        }
        Some(found.clone())
    }

    pub fn share(&self, peer: Peer, sender: Shared) {
        let mut shared = self.shared.lock();
        shared.retain(|_, sender| !sender.is_closed());
        shared.insert(peer, sender);
    }

    /// A shared connection that has failed.
    pub fn forget(&self, peer: &Peer) {
        self.shared.lock().remove(peer);
    }

    /// Closes what waits for a destination that is gone.
    pub fn forget_all(&self, gone: impl Fn(&SocketAddr) -> bool) {
        self.channels.forget(&gone);
        self.wires.forget(&gone);
        self.shared.lock().retain(|peer, _| !gone(&peer.address));
    }

    pub fn idle(&self) -> usize {
        self.channels.len() + self.wires.len()
    }
}

/// At most `size` idle connections for each destination, none longer than `timeout`.
pub struct Idle<T> {
    /// The one used last is used next, so that few stay warm.
    kept: Mutex<FxHashMap<Peer, Vec<T>>>,
    size: usize,
    timeout: Duration,
    sweeping: AtomicBool,
}

impl<T: Reusable> Idle<T> {
    fn new(size: usize, timeout: Duration) -> Self {
        Self { kept: Mutex::default(), size, timeout, sweeping: AtomicBool::new(false) }
    }

    /// One that is still open.
    pub fn take(&self, peer: &Peer, cx: &mut Context<'_>) -> Option<T> {
        loop {
            let mut found = self.kept.lock().get_mut(peer)?.pop()?;
            if found.is_ready(cx) {
                return Some(found);
            }
        }
    }

    pub fn put(self: &Arc<Self>, mut spare: T, runtime: &Handle) {
        spare.put_aside(Instant::now());
        let mut kept = self.kept.lock();
        let idle = kept.entry(spare.peer()).or_default();
        if idle.len() < self.size {
            idle.push(spare);
        }
        drop(kept);
        if !self.sweeping.load(Ordering::Relaxed) && !self.sweeping.swap(true, Ordering::AcqRel) {
            runtime.spawn(Arc::clone(self).sweep());
        }
    }

    fn forget(&self, gone: &impl Fn(&SocketAddr) -> bool) {
        let closed: Vec<_> = self.kept.lock().extract_if(|peer, _| gone(&peer.address)).collect();
        drop(closed);
    }

    fn len(&self) -> usize {
        self.kept.lock().values().map(Vec::len).sum()
    }

    /// Closes what has waited too long or was closed at the other end; ends when nothing is left.
    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let now = Instant::now();
            let mut closed = Vec::new();
            let mut kept = self.kept.lock();
            kept.retain(|_, idle| {
                let stale = |one: &mut T| {
                    // Nobody waits for it.
                    let alive = one.is_ready(&mut Context::from_waker(Waker::noop()));
                    !alive || now.duration_since(one.idle_since()) >= self.timeout
                };
                closed.extend(idle.extract_if(.., stale));
                !idle.is_empty()
            });
            if kept.is_empty() {
                self.sweeping.store(false, Ordering::Release);
                return;
            }
            drop(kept);
            drop(closed);
        }
    }
}
