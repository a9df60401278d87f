//! What all connections share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use arc_swap::{ArcSwap, ArcSwapOption};
use kubecore_core::clock::Clock;
use kubecore_front::lifespan::Phase;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::access_log::AccessLog;
use crate::backend::Backend;
use crate::options::Options;
use crate::pool::Pool;
use crate::table::RouteTable;

/// Where a route leads.
#[derive(Debug)]
pub struct Target {
    pub backend: Arc<Backend>,
    /// `namespace/name` of the Ingress whose rule it is.
    pub ingress: Box<str>,
}

const STATUSES: usize = 600;

pub struct Counters {
    statuses: [AtomicU64; STATUSES],
    pub retries: AtomicU64,
    pub bytes: AtomicU64,
    /// Client connections ever accepted, and those open now.
    pub accepted: AtomicU64,
    pub open: AtomicUsize,
    pub upgraded: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            statuses: [const { AtomicU64::new(0) }; STATUSES],
            retries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            upgraded: AtomicU64::new(0),
        }
    }
}

impl Counters {
    pub fn answered(&self, status: u16) {
        if let Some(count) = self.statuses.get(usize::from(status)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// (status, answers) of the statuses there were.
    pub fn statuses(&self) -> Vec<(u16, u64)> {
        let count = |(status, count): (usize, &AtomicU64)| (status as u16, count.load(Relaxed));
        self.statuses.iter().enumerate().map(count).filter(|(_, count)| *count > 0).collect()
    }
}

pub struct Shared {
    pub options: Options,
    pub clock: Clock,
    pub runtime: Handle,
    pub table: ArcSwap<RouteTable<Arc<Target>>>,
    pub pool: Arc<Pool>,
    pub counters: Counters,
    pub log: ArcSwapOption<AccessLog>,
    pub phase: watch::Sender<Phase>,
}

impl Shared {
    /// Milliseconds, as the balancer counts them.
    pub fn now(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }
}
