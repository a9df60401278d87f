//! How large the bodies of requests are, under Kubernetes' name (apiserver `pkg/endpoints/handlers/metrics`).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::histogram::Histogram;
use super::{SERIES_LIMIT, SHARDS, escape, key_of, own_shard};
use crate::request_info::RequestInfo;

const NAME: &str = "apiserver_request_body_size_bytes";
const COUNT: usize = 31;
/// Upper bounds in bytes.
static BOUNDS: LazyLock<[f64; COUNT]> =
    LazyLock::new(|| std::array::from_fn(|number| 50_000.0 + 100_000.0 * number as f64));

type Sizes = Histogram<{ COUNT + 1 }>;

struct Series {
    /// Group, resource and verb.
    labels: [String; 3],
    sizes: Sizes,
}

/// By the hash of group, resource and verb, in a shard for each thread.
#[derive(Default)]
pub struct Bodies([Mutex<FxHashMap<u64, Series>>; SHARDS]);

impl Bodies {
    /// Of a request that writes. `is_known`: the resource is one that is served; asked of those that are new here.
    pub(crate) fn observe(&self, info: &RequestInfo, bytes: usize, is_known: impl FnOnce() -> bool) {
        let verb = match info.verb() {
            "deletecollection" => "delete_collection",
            verb @ ("create" | "update" | "patch" | "delete") => verb,
            _ => return,
        };
        if !info.is_resource() {
            return;
        }
        let labels = [info.group(), info.resource(), verb];
        let key = key_of(&labels);
        let mut shard = self.0[own_shard()].lock();
        if let Some(series) = shard.get_mut(&key) {
            series.sizes.observe(&*BOUNDS, bytes as f64);
        } else if shard.len() < SERIES_LIMIT && is_known() {
            let mut sizes = Sizes::default();
            sizes.observe(&*BOUNDS, bytes as f64);
            shard.insert(key, Series { labels: labels.map(str::to_owned), sizes });
        }
    }

    /// Prometheus text.
    pub(crate) fn render(&self) -> String {
        let mut merged: BTreeMap<[String; 3], Sizes> = BTreeMap::new();
        for shard in &self.0 {
            for series in shard.lock().values() {
                merged.entry(series.labels.clone()).or_default().merge(&series.sizes);
            }
        }
        if merged.is_empty() {
            return String::new();
        }
        let mut out = format!(
            "# HELP {NAME} [ALPHA] Apiserver request body size in bytes broken out by resource and verb.\n\
             # TYPE {NAME} histogram\n"
        );
        for ([group, resource, verb], sizes) in &merged {
            let labels =
                format!("group=\"{}\",resource=\"{}\",verb=\"{verb}\"", escape(group), escape(resource));
            sizes.render(&mut out, NAME, &labels, &*BOUNDS);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn bodies_are_told_by_what_they_write_and_none_that_nobody_serves() {
        let bodies = Bodies::default();
        let write = |method: Method, path: &str, bytes, is_known| {
            bodies.observe(&RequestInfo::parse(&method, path, "").unwrap(), bytes, || is_known);
        };
        let pods = "/api/v1/namespaces/a/pods";
        write(Method::POST, pods, 60_000, true);
        write(Method::PUT, "/api/v1/namespaces/a/pods/b/status", 10, true);
        write(Method::DELETE, pods, 0, true);
        write(Method::DELETE, "/api/v1/namespaces/a/pods/b", 0, true);
        write(Method::GET, pods, 10, true);
        write(Method::POST, "/apis/made.up/v1/things", 10, false);
        let told = bodies.render();
        let counts: Vec<&str> = told.lines().filter(|line| line.contains("_count{")).collect();
        let expected = ["create", "delete", "delete_collection", "update"]
            .map(|verb| format!("{NAME}_count{{group=\"\",resource=\"pods\",verb=\"{verb}\"}} 1"));
        assert_eq!(counts, expected);
        let create = format!("{NAME}_bucket{{group=\"\",resource=\"pods\",verb=\"create\",le=");
        for (bound, count) in [("50000", 0), ("150000", 1), ("3.05e+06", 1)] {
            assert!(told.contains(&format!("{create}\"{bound}\"}} {count}\n")), "{bound} in {told}");
        }
    }
}
