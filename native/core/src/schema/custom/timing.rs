//! How long expressions of schemas take to be compiled and evaluated, in this process.
//!
//! (apiserver `pkg/cel/metrics`, which rules of custom kinds alone report to.)

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Upper bounds in seconds: those of Prometheus' own clients.
pub const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Of all rules of one schema.
pub static COMPILATIONS: Times = Times::new();
/// Of one value by the rules of its schema and of those below, as upstream's validators count each other.
pub static EVALUATIONS: Times = Times::new();

pub struct Times {
    /// Within each bound and above the one before; last, above all.
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Times {
    const fn new() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; BOUNDS.len() + 1], nanoseconds: AtomicU64::new(0) }
    }

    pub(super) fn measured<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = work();
        let took = began.elapsed();
        let seconds = took.as_secs_f64();
        let within = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.counts[within].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        result
    }

    /// Counts, and seconds of all together.
    #[allow(clippy::cast_precision_loss)] // 2^53 nanoseconds are a hundred days
    pub fn told(&self) -> (Vec<u64>, f64) {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        (counts, self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_counted_and_handed_on() {
        let times = Times::new();
        assert_eq!(times.measured(|| 7), 7);
        let (counts, seconds) = times.told();
        assert_eq!(counts.iter().sum::<u64>(), 1);
        assert!(seconds > 0.0);
    }
}
