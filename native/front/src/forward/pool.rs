//! Connections to extension API servers that wait for the next request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::Forward;
use crate::request_body::Sent;

/// As Go's transport keeps them at most.
const KEPT_FOR: Duration = Duration::from_secs(90);
const KEPT_EACH: usize = 25;

/// Where a connection leads, and how it was secured: another configuration is another address, which is not reused
/// while something is kept under it.
type Key = (String, u16, Option<String>, usize);

struct Idle {
    sender: SendRequest<Sent>,
    since: Instant,
    /// Keeps the address in the key taken.
    _tls: Option<Arc<rustls::ClientConfig>>,
}

#[derive(Default)]
pub struct Pool {
    idle: Mutex<FxHashMap<Key, Vec<Idle>>>,
}

fn key(forward: &Forward) -> Key {
    let tls = forward.tls.as_ref().map_or(0, |tls| Arc::as_ptr(tls) as usize);
    (forward.host.clone(), forward.port, forward.server_name.clone(), tls)
}

impl Pool {
    /// One that was used last, if one is open.
    pub(super) fn take(&self, forward: &Forward) -> Option<SendRequest<Sent>> {
        let mut idle = self.idle.lock();
        let kept = idle.get_mut(&key(forward))?;
        while let Some(one) = kept.pop() {
            if one.sender.is_ready() && one.since.elapsed() < KEPT_FOR {
                return Some(one.sender);
            }
        }
        None
    }

    /// To be called once the connection can take another request.
    pub(super) fn put(&self, forward: &Forward, sender: SendRequest<Sent>) {
        let mut idle = self.idle.lock();
        idle.retain(|_, kept| {
            kept.retain(|one| !one.sender.is_closed() && one.since.elapsed() < KEPT_FOR);
            !kept.is_empty()
        });
        let kept = idle.entry(key(forward)).or_default();
        if kept.len() < KEPT_EACH {
            kept.push(Idle { sender, since: Instant::now(), _tls: forward.tls.clone() });
        }
    }
}
