//! Request counters and latencies under Kubernetes' metric names.
//!
//! Each runtime thread counts in a shard of its own, so that no lock is ever waited for on the hot path.

use std::cell::Cell;
use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHasher};

use crate::exchange::Exchange;

/// Upper bounds in seconds, as apiserver's `apiserver_request_duration_seconds`.
const BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
pub(crate) const SHARDS: usize = 8;
/// Distinct label sets kept in one shard; made-up resource names must not fill the memory.
const SERIES_LIMIT: usize = 8192;

/// Those of what nobody serves are empty but for the verb.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
}

impl Default for Labels {
    fn default() -> Self {
        let [group, version, resource, subresource] = [const { String::new() }; 4];
        Self { verb: "other", group, version, resource, subresource, scope: "" }
    }
}

struct Series {
    labels: Labels,
    codes: Vec<(u16, u64)>,
    buckets: [u64; BUCKETS.len() + 1],
    seconds: f64,
}

impl Series {
    fn new(labels: Labels) -> Self {
        Self { labels, codes: Vec::new(), buckets: [0; BUCKETS.len() + 1], seconds: 0.0 }
    }

    fn count(&mut self, code: u16, elapsed: Option<Duration>) {
        match self.codes.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => self.codes.push((code, 1)),
        }
        if let Some(elapsed) = elapsed {
            let seconds = elapsed.as_secs_f64();
            let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
            self.buckets[bucket] += 1;
            self.seconds += seconds;
        }
    }

    fn merge(&mut self, other: &Self) {
        for (code, count) in &other.codes {
            match self.codes.iter_mut().find(|(known, _)| known == code) {
                Some((_, sum)) => *sum += count,
                None => self.codes.push((*code, *count)),
            }
        }
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, count)| *sum += count);
        self.seconds += other.seconds;
    }
}

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
    watching: Arc<AtomicI64>,
}

impl Metrics {
    /// Counts a request at its answer. Watches are counted when they start, without a duration. `is_known` is asked of
    /// names that no request has succeeded with yet: what clients make up must not become labels.
    pub fn record(&self, exchange: &Exchange, code: u16, is_known: impl FnOnce() -> bool) {
        let info = &exchange.info;
        let verb = metric_verb(info.verb(), exchange.method.as_str());
        let elapsed = (verb != "WATCH").then(|| exchange.started.elapsed());
        let (resource, subresource) = if info.is_resource() {
            (info.resource(), info.subresource())
        } else {
            ("", non_resource(info.path()))
        };
        let scope = scope_of(exchange);
        let mut hasher = FxHasher::default();
        (verb, info.group(), info.version(), resource, subresource, scope).hash(&mut hasher);
        let mut shard = self.shards[own_shard()].lock();
        let key = hasher.finish();
        if let Some(series) = shard.get_mut(&key) {
            series.count(code, elapsed);
            return;
        }
        let unknown = shard.len() >= SERIES_LIMIT || (code >= 400 && info.is_resource() && !is_known());
        if unknown {
            let series = shard.entry(0).or_insert_with(|| Series::new(Labels::default()));
            series.count(code, elapsed);
            return;
        }
        let labels = Labels {
            verb,
            group: info.group().to_owned(),
            version: info.version().to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            scope,
        };
        shard.entry(key).or_insert_with(|| Series::new(labels)).count(code, elapsed);
    }

    /// A request that Python works on.
    pub fn in_flight(&self, verb: &str) -> Gauge {
        Gauge::up(if matches!(verb, "get" | "list" | "watch") { &self.reading } else { &self.mutating })
    }

    pub fn open_watch(&self) -> Gauge {
        Gauge::up(&self.watching)
    }

    /// Prometheus text.
    pub fn render(&self) -> String {
        let mut merged: FxHashMap<u64, Series> = FxHashMap::default();
        for shard in &self.shards {
            for (key, series) in shard.lock().iter() {
                merged.entry(*key).or_insert_with(|| Series::new(series.labels.clone())).merge(series);
            }
        }
        let mut all: Vec<Series> = merged.into_values().collect();
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        let mut out = String::new();
        render_totals(&mut out, &all);
        render_durations(&mut out, &all);
        out.push_str("# HELP apiserver_current_inflight_requests [STABLE] Maximal number of currently used inflight request limit of this apiserver per request kind in last second.\n");
        out.push_str("# TYPE apiserver_current_inflight_requests gauge\n");
        for (kind, gauge) in [("mutating", &self.mutating), ("readOnly", &self.reading)] {
            let value = gauge.load(Ordering::Relaxed);
            let _ = writeln!(out, "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {value}");
        }
        out.push_str(
            "# HELP apiserver_longrunning_requests [STABLE] Gauge of all active long-running apiserver requests.\n",
        );
        out.push_str("# TYPE apiserver_longrunning_requests gauge\n");
        let watching = self.watching.load(Ordering::Relaxed);
        let _ = writeln!(
            out,
            "apiserver_longrunning_requests{{component=\"apiserver\",verb=\"WATCH\"}} {watching}"
        );
        out
    }
}

fn render_totals(out: &mut String, all: &[Series]) {
    out.push_str("# HELP apiserver_request_total [STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.\n");
    out.push_str("# TYPE apiserver_request_total counter\n");
    for series in all {
        for (code, count) in &series.codes {
            let _ =
                writeln!(out, "apiserver_request_total{{code=\"{code}\",{}}} {count}", Text(&series.labels));
        }
    }
}

fn render_durations(out: &mut String, all: &[Series]) {
    out.push_str("# HELP apiserver_request_duration_seconds [STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.\n");
    out.push_str("# TYPE apiserver_request_duration_seconds histogram\n");
    for series in all {
        let labels = Text(&series.labels);
        let total: u64 = series.buckets.iter().sum();
        if total == 0 {
            continue;
        }
        let mut sum = 0;
        for (bound, count) in BUCKETS.iter().zip(series.buckets) {
            sum += count;
            let _ =
                writeln!(out, "apiserver_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {sum}");
        }
        let _ = writeln!(out, "apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {total}");
        let _ = writeln!(out, "apiserver_request_duration_seconds_sum{{{labels}}} {}", series.seconds);
        let _ = writeln!(out, "apiserver_request_duration_seconds_count{{{labels}}} {total}");
    }
}

struct Text<'a>(&'a Labels);

impl std::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Labels { verb, group, version, resource, subresource, scope } = self.0;
        write!(
            f,
            "component=\"apiserver\",dry_run=\"\",group=\"{}\",resource=\"{}\",scope=\"{scope}\",subresource=\"{}\",verb=\"{verb}\",version=\"{}\"",
            escape(group),
            escape(resource),
            escape(subresource),
            escape(version)
        )
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn metric_verb(verb: &str, method: &str) -> &'static str {
    match verb {
        "get" | "head" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "deletecollection" => "DELETECOLLECTION",
        "delete" => "DELETE",
        _ if method == "GET" => "GET",
        _ => "other",
    }
}

/// The few paths worth a series of their own.
fn non_resource(path: &str) -> &'static str {
    const KNOWN: [&str; 6] = ["/healthz", "/livez", "/readyz", "/version", "/metrics", "/openapi"];
    KNOWN.into_iter().find(|known| path.starts_with(known)).unwrap_or("")
}

fn scope_of(exchange: &Exchange) -> &'static str {
    let info = &exchange.info;
    match (info.is_resource(), info.name().is_empty(), info.namespace().is_empty()) {
        (false, ..) => "",
        (true, false, _) => "resource",
        (true, true, false) => "namespace",
        (true, true, true) => "cluster",
    }
}
