//! Which requests belong to a trace that is kept. Python writes traces, so those are handed over to it, reads as well.

use std::sync::atomic::{AtomicU32, Ordering};

use kubecore_core::authn::UserInfo;
use rand::Rng;

use crate::exchange::Exchange;
use crate::headers::Name;

const OFF: u32 = u32::MAX;
const MILLION: u32 = 1_000_000;
/// Whose word counts on whether a trace is kept.
const TRUSTED: [&str; 2] = ["system:masters", "system:monitoring"];

/// How many requests of a million are kept of those that nobody says it of; off at first.
pub struct Tracing(AtomicU32);

impl Default for Tracing {
    fn default() -> Self {
        Self(AtomicU32::new(OFF))
    }
}

impl Tracing {
    pub fn keep(&self, per_million: u32) {
        self.0.store(per_million.min(MILLION), Ordering::Relaxed);
    }

    /// Whether Python is to answer. Whoever is trusted is answered there if he names a trace, which may say that it is
    /// not kept.
    pub(crate) fn takes(&self, exchange: &Exchange, user: Option<&UserInfo>) -> bool {
        let per_million = self.0.load(Ordering::Relaxed);
        if per_million == OFF || !exchange.info.is_resource() {
            return false;
        }
        let is_trusted = |user: &UserInfo| user.groups.iter().any(|group| TRUSTED.contains(&group.as_str()));
        if exchange.headers.has(Name::TraceParent) && user.is_some_and(is_trusted) {
            return true;
        }
        *exchange.sampled.get_or_init(|| rand::rng().random_range(0..MILLION) < per_million)
    }
}
