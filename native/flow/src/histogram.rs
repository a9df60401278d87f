//! Distributions for `/metrics`: of numbers that are observed, and of a ratio over time.

use std::fmt::Write;

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
    denominator: f64,
}

impl RatioOverTime {
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { histogram: Histogram::new(bounds), denominator: 1.0 }
    }

    /// From now on.
    pub fn set_denominator(&mut self, denominator: f64) {
        self.denominator = denominator.max(1.0);
    }

    /// That was the numerator for so long.
    pub fn hold(&mut self, numerator: usize, nanos: u64) {
        if nanos > 0 {
            self.histogram.add(numerator as f64 / self.denominator, nanos);
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
        let mut ratio = RatioOverTime::new(&[0.0, 0.5, 1.0]);
        ratio.set_denominator(4.0);
        for (numerator, nanos) in [(0, 10), (2, 2), (2, 3), (8, 1)] {
            ratio.hold(numerator, nanos);
        }
        let mut out = String::new();
        ratio.render(&mut out, "r", "a=\"b\"");
        assert_eq!(
            out,
            "r_bucket{a=\"b\",le=\"0\"} 10\nr_bucket{a=\"b\",le=\"0.5\"} 15\nr_bucket{a=\"b\",le=\"1\"} 15\n\
             r_bucket{a=\"b\",le=\"+Inf\"} 16\nr_sum{a=\"b\"} 4.5\nr_count{a=\"b\"} 16\n"
        );
    }
}
