//! How often a token was remembered, and how often somebody had to be asked, under the names of upstream's cache; how
//! often a pod's token came that should have been replaced, and how often one that need not be yet.
//!
//! Source: apiserver `pkg/authentication/token/cache/stats.go`, kubernetes `pkg/serviceaccount/metrics.go`. What is remembered here are tokens that were verified,
//! or that Python has vouched for.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::service_account::Age;
use crate::metrics::{SHARDS, Sharded, own_shard};

const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const NAME: &str = "authentication_token_cache";

/// On a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Shard(AtomicU64);

#[derive(Default)]
pub struct TokenCounts {
    hits: [Shard; SHARDS],
    misses: Sharded<{ BOUNDS.len() + 1 }>,
    found: AtomicU64,
    failed: AtomicU64,
    waiting: AtomicI64,
    stale: AtomicU64,
    valid: AtomicU64,
}

impl TokenCounts {
    /// A token that was known already.
    pub fn remembered(&self) {
        self.hits[own_shard()].0.fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody is asked about a token, until `fetched` says how that ended.
    pub fn fetching(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub fn fetched(&self, found: bool, took: Duration) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let counted = if found { &self.found } else { &self.failed };
        counted.fetch_add(1, Ordering::Relaxed);
        // Upstream tells whole milliseconds.
        self.misses.observe(&BOUNDS, took.as_millis() as f64 / 1e3);
    }

    pub(super) fn of_age(&self, age: Age) {
        let counted = match age {
            Age::Stale => &self.stale,
            Age::Valid => &self.valid,
        };
        counted.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there may be tokens that should have been replaced.
    pub(super) fn has_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed) > 0
    }

    /// Prometheus text.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let head = |out: &mut String, name: &str, kind: &str| {
            let _ = writeln!(out, "# HELP {NAME}_{name} [ALPHA] \n# TYPE {NAME}_{name} {kind}");
        };
        head(&mut out, "active_fetch_count", "gauge");
        let waiting = self.waiting.load(Ordering::Relaxed);
        let _ = writeln!(out, "{NAME}_active_fetch_count{{status=\"blocked\"}} {waiting}");
        head(&mut out, "fetch_total", "counter");
        for (status, count) in [("error", &self.failed), ("ok", &self.found)] {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                let _ = writeln!(out, "{NAME}_fetch_total{{status=\"{status}\"}} {count}");
            }
        }
        let hits: u64 = self.hits.iter().map(|shard| shard.0.load(Ordering::Relaxed)).sum();
        let misses = self.misses.merged();
        head(&mut out, "request_total", "counter");
        for (status, count) in [("hit", hits), ("miss", misses.total())] {
            if count > 0 {
                let _ = writeln!(out, "{NAME}_request_total{{status=\"{status}\"}} {count}");
            }
        }
        head(&mut out, "request_duration_seconds", "histogram");
        let duration = format!("{NAME}_request_duration_seconds");
        // What is remembered is found in less than a millisecond.
        let mut at_once = [0; BOUNDS.len() + 1];
        at_once[0] = hits;
        for (status, histogram) in [("hit", Sharded::of(at_once)), ("miss", misses)] {
            histogram.render(&mut out, &duration, &format!("status=\"{status}\""), &BOUNDS);
        }
        for (age, count) in [("stale", &self.stale), ("valid", &self.valid)] {
            let name = format!("serviceaccount_{age}_tokens_total");
            let told = format!("[ALPHA] Cumulative {age} projected service account tokens used");
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(out, "# HELP {name} {told}\n# TYPE {name} counter\n{name} {count}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_about_is_told_by_how_it_ended_and_how_long_it_took() {
        let counts = TokenCounts::default();
        counts.remembered();
        counts.remembered();
        for found in [true, true, false] {
            counts.fetching();
            counts.fetched(found, Duration::from_micros(30_900));
        }
        counts.fetching();
        let told = counts.render();
        for line in [
            "active_fetch_count{status=\"blocked\"} 1",
            "fetch_total{status=\"error\"} 1",
            "fetch_total{status=\"ok\"} 2",
            "request_total{status=\"hit\"} 2",
            "request_total{status=\"miss\"} 3",
            "request_duration_seconds_bucket{status=\"hit\",le=\"0.005\"} 2",
            "request_duration_seconds_sum{status=\"hit\"} 0",
            "request_duration_seconds_bucket{status=\"miss\",le=\"0.025\"} 0",
            "request_duration_seconds_bucket{status=\"miss\",le=\"0.05\"} 3",
            "request_duration_seconds_sum{status=\"miss\"} 0.09",
        ] {
            assert!(
                told.contains(&format!("authentication_token_cache_{line}\n")),
                "{line} is not in {told}"
            );
        }
    }
    #[test]
    fn pods_tokens_are_told_by_whether_they_should_have_been_replaced() {
        let counts = TokenCounts::default();
        assert!(!counts.has_stale());
        for age in [Age::Valid, Age::Stale, Age::Valid] {
            counts.of_age(age);
        }
        assert!(counts.has_stale());
        let told = counts.render();
        assert!(told.contains("\nserviceaccount_stale_tokens_total 1\n"), "{told}");
        assert!(told.contains("\nserviceaccount_valid_tokens_total 2\n"), "{told}");
    }
}
