//! Requests that last: watches, and what a connection is kept for. How many there are, how long they were, and what
//! watches have told.

use std::array::from_fn;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;

use super::histogram::{Histogram, place};
use super::labels::Labels;
use super::{BUCKETS, DURATION};

/// Upper bounds in bytes, as apiserver's `apiserver_watch_events_sizes`.
const SIZES: [f64; 8] = [1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131_072.0];

/// Those of one set of labels.
#[derive(Default)]
pub(super) struct Series {
    pub(super) labels: Labels,
    open: AtomicI64,
    durations: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
    events: [AtomicU64; SIZES.len() + 1],
    bytes: AtomicU64,
}

impl Series {
    pub(super) fn new(labels: Labels) -> Self {
        Self { labels, ..Self::default() }
    }

    pub(super) fn render_open(&self, out: &mut String) {
        let value = self.open.load(Ordering::Relaxed);
        let labels = self.labels.without_dry_run();
        let _ = writeln!(out, "apiserver_longrunning_requests{{{labels}}} {value}");
    }

    /// Of those that have ended.
    pub(super) fn render_durations(&self, out: &mut String) {
        let counts: [u64; BUCKETS.len() + 1] = from_fn(|place| self.durations[place].load(Ordering::Relaxed));
        let seconds = self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
        Histogram::new(counts, seconds).render(out, DURATION, &self.labels.with_dry_run(), &BUCKETS);
    }

    fn told(&self) -> Histogram<{ SIZES.len() + 1 }> {
        let counts = from_fn(|place| self.events[place].load(Ordering::Relaxed));
        Histogram::new(counts, self.bytes.load(Ordering::Relaxed) as f64)
    }

    fn has_told(&self) -> bool {
        self.events.iter().any(|count| count.load(Ordering::Relaxed) > 0)
    }
}

/// What watches have told, by the kind of object.
pub(super) fn render_events(out: &mut String, all: &[Arc<Series>]) {
    let mut kinds: Vec<(String, Histogram<{ SIZES.len() + 1 }>)> = Vec::new();
    for series in all.iter().filter(|series| series.has_told()) {
        let kind = series.labels.kind();
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, sum)) => sum.merge(&series.told()),
            None => kinds.push((kind, series.told())),
        }
    }
    if kinds.is_empty() {
        return;
    }
    kinds.sort_by(|(a, _), (b, _)| a.cmp(b));
    out.push_str("# HELP apiserver_watch_events_sizes [ALPHA] Watch event size distribution in bytes\n");
    out.push_str("# TYPE apiserver_watch_events_sizes histogram\n");
    for (kind, sizes) in &kinds {
        sizes.render(out, "apiserver_watch_events_sizes", kind, &SIZES);
    }
    out.push_str("# HELP apiserver_watch_events_total [ALPHA] Number of events sent in watch clients\n");
    out.push_str("# TYPE apiserver_watch_events_total counter\n");
    for (kind, sizes) in &kinds {
        let _ = writeln!(out, "apiserver_watch_events_total{{{kind}}} {}", sizes.total());
    }
}

/// A request that lasts as long as this lives.
pub struct Lasting {
    series: Arc<Series>,
    started: Instant,
}

impl Lasting {
    pub(super) fn begin(series: Arc<Series>, started: Instant) -> Self {
        series.open.fetch_add(1, Ordering::Relaxed);
        Self { series, started }
    }

    /// Events of a watch as they go to the client. Those that share a frame are counted as of one size.
    pub(crate) fn tells(&self, frames: &[Bytes], events: usize) {
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        let count = |size: usize, events: usize| {
            let counted = &self.series.events[place(&SIZES, size as f64)];
            counted.fetch_add(events as u64, Ordering::Relaxed);
        };
        if frames.len() == events {
            frames.iter().for_each(|frame| count(frame.len(), 1));
        } else {
            count(bytes / events.max(1), events);
        }
        self.series.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        self.series.open.fetch_sub(1, Ordering::Relaxed);
        self.series.durations[place(&BUCKETS, elapsed.as_secs_f64())].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.series.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(all: &[Arc<Series>]) -> String {
        let mut out = String::new();
        all.iter().for_each(|series| series.render_open(&mut out));
        all.iter().for_each(|series| series.render_durations(&mut out));
        render_events(&mut out, all);
        out
    }

    #[test]
    fn what_lasts_is_there_until_it_ends_and_its_time_is_told_then() {
        let all = [Arc::new(Series::default())];
        let lasting = Lasting::begin(all[0].clone(), Instant::now());
        assert!(told(&all).contains("verb=\"other\",version=\"\"} 1\n"));
        assert!(!told(&all).contains(DURATION));
        drop(lasting);
        assert!(told(&all).contains("verb=\"other\",version=\"\"} 0\n"));
        assert!(told(&all).contains("version=\"\",le=\"+Inf\"} 1\n"));
    }

    #[test]
    fn events_are_told_by_kind_with_their_sizes() {
        let all = [Arc::new(Series::default()), Arc::new(Series::default())];
        assert!(!told(&all).contains("apiserver_watch_events"), "nothing while nothing was told");
        let [one, other] = [&all[0], &all[1]].map(|series| Lasting::begin(series.clone(), Instant::now()));
        one.tells(&[Bytes::from(vec![b' '; 1000]), Bytes::from(vec![b' '; 2000])], 2);
        other.tells(&[Bytes::from(vec![b' '; 3000])], 3);
        let told = told(&all);
        let kind = "group=\"\",resource=\"\",version=\"\"";
        for line in [
            format!("apiserver_watch_events_total{{{kind}}} 5\n"),
            format!("apiserver_watch_events_sizes_bucket{{{kind},le=\"1024\"}} 4\n"),
            format!("apiserver_watch_events_sizes_bucket{{{kind},le=\"2048\"}} 5\n"),
            format!("apiserver_watch_events_sizes_sum{{{kind}}} 6000\n"),
        ] {
            assert!(told.contains(&line), "{line} is not in {told}");
        }
    }
}
