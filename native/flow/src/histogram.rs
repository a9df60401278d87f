//! Distributions for `/metrics`: of numbers that are observed, and of a ratio over time.

use std::fmt::Write;
use std::time::Duration;

/// How often a number was at most each of the bounds.
#[derive(Clone, Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Box<[u64]>,
    sum: f64,
}

impl Histogram {
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1].into(), sum: 0.0 }
    }

    pub fn observe(&mut self, value: f64) {
        self.add(value, 1);
    }

    fn add(&mut self, value: f64, times: u64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.counts[bucket] += times;
        self.sum += value * times as f64;
    }

    /// The series in Prometheus' text form; nothing where nothing was observed.
    pub fn render(&self, out: &mut String, name: &str, labels: &str) {
        let total: u64 = self.counts.iter().sum();
        if total == 0 {
            return;
        }
        let mut below = 0;
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            below += count;
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}");
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", self.sum);
        let _ = writeln!(out, "{name}_count{{{labels}}} {total}");
    }
}

/// A ratio that is observed at the end of every nanosecond, as upstream's TimingRatioHistogram.
#[derive(Debug)]
pub struct RatioOverTime {
    histogram: Histogram,
    numerator: f64,
    denominator: f64,
    last: Duration,
}

impl RatioOverTime {
    pub fn new(bounds: &'static [f64], now: Duration) -> Self {
        Self { histogram: Histogram::new(bounds), numerator: 0.0, denominator: 1.0, last: now }
    }

    pub fn set(&mut self, now: Duration, numerator: f64) {
        // What stays as it was is counted once it does not, or when somebody asks.
        if numerator == self.numerator {
            return;
        }
        self.pass(now);
        self.numerator = numerator;
    }

    pub fn set_denominator(&mut self, now: Duration, denominator: f64) {
        self.pass(now);
        self.denominator = denominator.max(1.0);
    }

    pub fn pass(&mut self, now: Duration) {
        let passed = u64::try_from(now.saturating_sub(self.last).as_nanos()).unwrap_or(u64::MAX);
        self.last = now;
        if passed > 0 {
            self.histogram.add(self.numerator / self.denominator, passed);
        }
    }

    pub fn render(&self, out: &mut String, name: &str, labels: &str) {
        self.histogram.render(out, name, labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_counts_for_as_long_as_it_holds() {
        let mut ratio = RatioOverTime::new(&[0.0, 0.5, 1.0], Duration::ZERO);
        ratio.set_denominator(Duration::ZERO, 4.0);
        ratio.set(Duration::from_nanos(10), 2.0);
        ratio.set(Duration::from_nanos(12), 2.0);
        ratio.set(Duration::from_nanos(15), 8.0);
        ratio.pass(Duration::from_nanos(16));
        let mut out = String::new();
        ratio.render(&mut out, "r", "a=\"b\"");
        assert_eq!(
            out,
            "r_bucket{a=\"b\",le=\"0\"} 10\nr_bucket{a=\"b\",le=\"0.5\"} 15\nr_bucket{a=\"b\",le=\"1\"} 15\n\
             r_bucket{a=\"b\",le=\"+Inf\"} 16\nr_sum{a=\"b\"} 4.5\nr_count{a=\"b\"} 16\n"
        );
    }
}
