//! Request counters and latencies under Kubernetes' metric names.
//!
//! Each runtime thread counts in a shard of its own, so that no lock is ever waited for on the hot path.

mod bodies;
mod caches;
mod histogram;
mod labels;
mod lasting;
mod registered;
mod telling;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHasher};

pub use self::bodies::Bodies;
pub(crate) use self::caches::render_caches;
use self::histogram::Histogram;
pub(crate) use self::histogram::Sharded;
pub(crate) use self::labels::Counted;
pub(crate) use self::labels::escape;
use self::labels::{Labels, Told};
pub use self::lasting::Lasting;
pub(crate) use self::registered::render_registered;
use crate::exchange::Exchange;

const DURATION: &str = "apiserver_request_duration_seconds";
/// Upper bounds in seconds, as apiserver's `apiserver_request_duration_seconds`.
const BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
/// As `apiserver_request_sli_duration_seconds`: the two lowest are left out.
const OWN_BUCKETS: &[f64] = BUCKETS.split_at(2).1;
/// Upper bounds in bytes, as `apiserver_response_sizes`.
const SIZES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
pub(crate) const SHARDS: usize = 8;
/// Distinct label sets kept in one shard; made-up resource names must not fill the memory.
const SERIES_LIMIT: usize = 8192;

#[derive(Default)]
struct Series {
    labels: Labels,
    codes: Vec<(u16, u64)>,
    /// Those sent away so that the server stays up.
    terminated: Vec<(u16, u64)>,
    durations: Histogram<{ BUCKETS.len() + 1 }>,
    /// Without the time that webhooks took, and that waiting for a seat took.
    own: Histogram<{ OWN_BUCKETS.len() + 1 }>,
    sizes: Histogram<{ SIZES.len() + 1 }>,
}

impl Series {
    fn count(&mut self, answered: &Answered, elapsed: Option<(Duration, Duration)>) {
        add(&mut self.codes, answered.code, 1);
        if answered.terminated {
            add(&mut self.terminated, answered.code, 1);
        }
        if let Some((elapsed, own)) = elapsed {
            self.durations.observe(&BUCKETS, elapsed.as_secs_f64());
            if self.labels.dry_run.is_empty() {
                self.own.observe(OWN_BUCKETS, own.as_secs_f64());
            }
        }
        if let Some(size) = answered.size
            && self.labels.reads()
        {
            self.sizes.observe(&SIZES, size as f64);
        }
    }

    fn merge(&mut self, other: &Self) {
        other.codes.iter().for_each(|(code, count)| add(&mut self.codes, *code, *count));
        other.terminated.iter().for_each(|(code, count)| add(&mut self.terminated, *code, *count));
        self.durations.merge(&other.durations);
        self.own.merge(&other.own);
        self.sizes.merge(&other.sizes);
    }
}

fn add(counts: &mut Vec<(u16, u64)>, code: u16, more: u64) {
    match counts.iter_mut().find(|(known, _)| *known == code) {
        Some((_, count)) => *count += more,
        None => counts.push((code, more)),
    }
}

/// How a request was answered.
pub struct Answered {
    pub code: u16,
    /// Bytes of the body, where all of it is there.
    pub size: Option<u64>,
    /// The server has sent it away so as to stay up.
    pub terminated: bool,
}

/// In the extensions of an answer that sends a request away so that the server stays up.
#[derive(Clone, Copy)]
pub(crate) struct Terminated;

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
}
static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn own_shard() -> usize {
    SHARD.with(|shard| {
        if shard.get() == usize::MAX {
            shard.set(NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        shard.get()
    })
}

/// A count of something under way; the value is one higher while this lives.
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    fn up(value: &Arc<AtomicI64>) -> Self {
        value.fetch_add(1, Ordering::Relaxed);
        Self(value.clone())
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
pub struct Metrics {
    shards: [Mutex<FxHashMap<u64, Series>>; SHARDS],
    reading: Arc<AtomicI64>,
    mutating: Arc<AtomicI64>,
    queued_reading: Arc<AtomicI64>,
    queued_mutating: Arc<AtomicI64>,
    lasting: Mutex<FxHashMap<u64, Arc<lasting::Series>>>,
    pub bodies: Bodies,
    /// Connections whose handshake has failed.
    pub strangers: AtomicU64,
}

impl Metrics {
    /// Counts a request at its answer. What lasts is counted when it starts, without a duration. `is_known` is asked of
    /// names that no request has succeeded with yet: what clients make up must not become labels.
    pub fn record(
        &self,
        exchange: &Exchange,
        answered: &Answered,
        now: Instant,
        is_known: impl FnOnce() -> bool,
    ) {
        let info = &exchange.info;
        let counted = counted(exchange);
        let elapsed = counted.is_timed.then(|| {
            let elapsed = now.saturating_duration_since(exchange.started);
            (elapsed, elapsed.saturating_sub(exchange.apart.sum()))
        });
        let mut shard = self.shards[own_shard()].lock();
        if let Some(series) = shard.get_mut(&counted.key) {
            series.count(answered, elapsed);
            return;
        }
        let unknown =
            shard.len() >= SERIES_LIMIT || (answered.code >= 400 && info.is_resource() && !is_known());
        let (key, labels) =
            if unknown { (0, Labels::default()) } else { (counted.key, Told::of(exchange).into()) };
        let series = shard.entry(key).or_insert_with(|| Series { labels, ..Series::default() });
        series.count(answered, elapsed);
    }

    /// A request that Python works on.
    pub fn in_flight(&self, verb: &str) -> Gauge {
        Gauge::up(if reads(verb) { &self.reading } else { &self.mutating })
    }

    /// A request that waits for a seat.
    pub fn in_queue(&self, verb: &str) -> Gauge {
        Gauge::up(if reads(verb) { &self.queued_reading } else { &self.queued_mutating })
    }

    /// A request that lasts. `is_known`: as of `record`.
    pub fn lasts(&self, exchange: &Exchange, is_known: impl FnOnce() -> bool) -> Lasting {
        let told = Told::of(exchange);
        let key = key_of(&told);
        let mut held = self.lasting.lock();
        let series = match held.get(&key) {
            Some(series) => series.clone(),
            None => {
                let known = held.len() < SERIES_LIMIT && is_known();
                let (key, labels) = if known { (key, told.into()) } else { (0, Labels::default()) };
                held.entry(key).or_insert_with(|| Arc::new(lasting::Series::new(labels))).clone()
            }
        };
        Lasting::begin(series, exchange.started)
    }

    /// Prometheus text.
    pub fn render(&self) -> String {
        let mut merged: FxHashMap<u64, Series> = FxHashMap::default();
        for shard in &self.shards {
            for (key, series) in shard.lock().iter() {
                let labels = || Series { labels: series.labels.clone(), ..Series::default() };
                merged.entry(*key).or_insert_with(labels).merge(series);
            }
        }
        let mut all: Vec<Series> = merged.into_values().collect();
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        let mut lasting: Vec<Arc<lasting::Series>> = self.lasting.lock().values().cloned().collect();
        lasting.sort_by(|a, b| a.labels.cmp(&b.labels));
        let mut out = String::new();
        render_totals(&mut out, &all);
        render_durations(&mut out, &all, &lasting);
        render_terminations(&mut out, &all);
        out.push_str("# HELP apiserver_current_inflight_requests [STABLE] Maximal number of currently used inflight request limit of this apiserver per request kind in last second.\n");
        out.push_str("# TYPE apiserver_current_inflight_requests gauge\n");
        for (kind, gauge) in [("mutating", &self.mutating), ("readOnly", &self.reading)] {
            let value = gauge.load(Ordering::Relaxed);
            let _ = writeln!(out, "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {value}");
        }
        out.push_str("# HELP apiserver_current_inqueue_requests [ALPHA] Maximal number of queued requests in this apiserver per request kind in last second.\n");
        out.push_str("# TYPE apiserver_current_inqueue_requests gauge\n");
        for (kind, gauge) in [("mutating", &self.queued_mutating), ("readOnly", &self.queued_reading)] {
            let value = gauge.load(Ordering::Relaxed);
            let _ = writeln!(out, "apiserver_current_inqueue_requests{{request_kind=\"{kind}\"}} {value}");
        }
        out.push_str("# HELP apiserver_longrunning_requests [STABLE] Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.\n");
        out.push_str("# TYPE apiserver_longrunning_requests gauge\n");
        lasting.iter().for_each(|series| series.render_open(&mut out));
        lasting::render_events(&mut out, &lasting);
        out.push_str(&self.bodies.render());
        out.push_str("# HELP apiserver_tls_handshake_errors_total [ALPHA] Number of requests dropped with 'TLS handshake error from' error\n");
        out.push_str("# TYPE apiserver_tls_handshake_errors_total counter\n");
        let strangers = self.strangers.load(Ordering::Relaxed);
        let _ = writeln!(out, "apiserver_tls_handshake_errors_total {strangers}");
        out
    }
}

fn reads(verb: &str) -> bool {
    matches!(verb, "get" | "list" | "watch")
}

/// What only reads is counted as what its info says, whoever asks: once found out, it stays with that.
fn counted(exchange: &Exchange) -> Counted {
    let info = &exchange.info;
    let as_told = || Counted::of(&Told::of(exchange));
    if reads(info.verb()) { info.counted(as_told) } else { as_told() }
}

fn key_of(told: &impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    told.hash(&mut hasher);
    hasher.finish()
}

fn render_totals(out: &mut String, all: &[Series]) {
    out.push_str("# HELP apiserver_request_total [STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.\n");
    out.push_str("# TYPE apiserver_request_total counter\n");
    for series in all {
        let labels = series.labels.with_dry_run();
        for (code, count) in &series.codes {
            let _ = writeln!(out, "apiserver_request_total{{code=\"{code}\",{labels}}} {count}");
        }
    }
}

fn render_durations(out: &mut String, all: &[Series], lasting: &[Arc<lasting::Series>]) {
    out.push_str("# HELP apiserver_request_duration_seconds [STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.\n");
    out.push_str("# TYPE apiserver_request_duration_seconds histogram\n");
    for series in all {
        series.durations.render(out, DURATION, &series.labels.with_dry_run(), &BUCKETS);
    }
    lasting.iter().for_each(|series| series.render_durations(out));
    out.push_str("# HELP apiserver_request_sli_duration_seconds [ALPHA] Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.\n");
    out.push_str("# TYPE apiserver_request_sli_duration_seconds histogram\n");
    for series in all {
        let labels = series.labels.without_dry_run();
        series.own.render(out, "apiserver_request_sli_duration_seconds", &labels, OWN_BUCKETS);
    }
    out.push_str("# HELP apiserver_response_sizes [STABLE] Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.\n");
    out.push_str("# TYPE apiserver_response_sizes histogram\n");
    for series in all {
        series.sizes.render(out, "apiserver_response_sizes", &series.labels.without_dry_run(), &SIZES);
    }
}

/// Whether they were dry runs is not told of these.
fn render_terminations(out: &mut String, all: &[Series]) {
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    for series in all {
        for (code, count) in &series.terminated {
            let labels = format!("code=\"{code}\",{}", series.labels.without_dry_run());
            *told.entry(labels).or_default() += count;
        }
    }
    if told.is_empty() {
        return;
    }
    out.push_str("# HELP apiserver_request_terminations_total [ALPHA] Number of requests which apiserver terminated in self-defense.\n");
    out.push_str("# TYPE apiserver_request_terminations_total counter\n");
    for (labels, count) in told {
        let _ = writeln!(out, "apiserver_request_terminations_total{{{labels}}} {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_series_counts_is_told_once_for_all_threads() {
        let (mut one, mut other) = (Series::default(), Series::default());
        let refused = Answered { code: 429, size: Some(10), terminated: true };
        let times = Some((Duration::from_millis(70), Duration::from_millis(40)));
        one.count(&refused, times);
        other.count(&refused, times);
        one.merge(&other);
        let mut out = String::new();
        render_terminations(&mut out, &[one]);
        let labels = "group=\"\",resource=\"\",scope=\"\",subresource=\"\",verb=\"other\",version=\"\"";
        let line = format!(
            "apiserver_request_terminations_total{{code=\"429\",component=\"apiserver\",{labels}}} 2\n"
        );
        assert!(out.ends_with(&line), "{out}");
    }

    #[test]
    fn time_spent_waiting_for_others_is_not_the_servers_own() {
        let mut series = Series::default();
        let answered = Answered { code: 200, size: None, terminated: false };
        series.count(&answered, Some((Duration::from_millis(150), Duration::from_millis(40))));
        let mut out = String::new();
        render_durations(&mut out, &[series], &[]);
        for (name, bound, count) in [("", "0.1", 0), ("", "0.2", 1), ("_sli", "0.05", 1)] {
            let found = out.lines().any(|line| {
                line.starts_with(&format!("apiserver_request{name}_duration_seconds_bucket{{"))
                    && line.ends_with(&format!("le=\"{bound}\"}} {count}"))
            });
            assert!(found, "{name} {bound} {count} is not in {out}");
        }
        assert!(!out.contains("apiserver_response_sizes_bucket"), "only of what reads");
    }
}
