//! Histograms that one thread at a time counts in, and their text.

use std::fmt::Write;

use parking_lot::Mutex;

use super::{SHARDS, own_shard};

/// So many counts: one for each upper bound, and one for what is above them all.
#[derive(Clone, Copy)]
pub(crate) struct Histogram<const N: usize> {
    counts: [u64; N],
    sum: f64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { counts: [0; N], sum: 0.0 }
    }
}

impl<const N: usize> Histogram<N> {
    pub(super) fn new(counts: [u64; N], sum: f64) -> Self {
        Self { counts, sum }
    }

    pub(super) fn observe(&mut self, bounds: &[f64], value: f64) {
        self.counts[place(bounds, value)] += 1;
        self.sum += value;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, count)| *sum += count);
        self.sum += other.sum;
    }

    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Prometheus text of one series; nothing where nothing was counted.
    pub(crate) fn render(&self, out: &mut String, name: &str, labels: &str, bounds: &[f64]) {
        let total = self.total();
        if total == 0 {
            return;
        }
        let (comma, all) =
            if labels.is_empty() { ("", String::new()) } else { (",", format!("{{{labels}}}")) };
        let mut sum = 0;
        for (bound, count) in bounds.iter().zip(self.counts) {
            sum += count;
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{}\"}} {sum}", number(*bound));
        }
        let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}");
        let _ = writeln!(out, "{name}_sum{all} {}", self.sum);
        let _ = writeln!(out, "{name}_count{all} {total}");
    }
}

/// One that all threads count in, each in a shard of its own.
pub(crate) struct Sharded<const N: usize>([Mutex<Histogram<N>>; SHARDS]);

impl<const N: usize> Default for Sharded<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl<const N: usize> Sharded<N> {
    pub(crate) fn observe(&self, bounds: &[f64], value: f64) {
        self.0[own_shard()].lock().observe(bounds, value);
    }

    /// A histogram of these counts, whose values come to nothing.
    pub(crate) fn of(counts: [u64; N]) -> Histogram<N> {
        Histogram::new(counts, 0.0)
    }

    pub(crate) fn merged(&self) -> Histogram<N> {
        let mut merged = Histogram::default();
        self.0.iter().for_each(|shard| merged.merge(&shard.lock()));
        merged
    }
}

/// Where a value is counted.
pub(super) fn place(bounds: &[f64], value: f64) -> usize {
    bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len())
}

/// As Go writes it, so that a bound is the same to whoever asks for it by its text.
fn number(bound: f64) -> String {
    if bound < 1e6 {
        return bound.to_string();
    }
    let text = format!("{bound:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{digits}e+{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_below_its_bound_and_bounds_are_written_as_go_does() {
        let bounds = [0.005, 1.0, 1000.0, 100_000.0, 1e6, 1e9];
        let mut histogram = Histogram::<7>::default();
        [0.005, 0.006, 1e6, 2e9].into_iter().for_each(|value| histogram.observe(&bounds, value));
        let mut told = String::new();
        histogram.render(&mut told, "sizes", "a=\"b\"", &bounds);
        for (bound, count) in
            [("0.005", 1), ("1", 2), ("1000", 2), ("100000", 2), ("1e+06", 3), ("1e+09", 3), ("+Inf", 4)]
        {
            let line = format!("sizes_bucket{{a=\"b\",le=\"{bound}\"}} {count}\n");
            assert!(told.contains(&line), "{line} is not in {told}");
        }
    }
}
