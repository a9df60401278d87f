//! How large the bodies of requests are, under Kubernetes' name (apiserver `pkg/endpoints/handlers/metrics`).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use parking_lot::Mutex;

use super::escape;
use super::histogram::Histogram;
use crate::request_info::RequestInfo;

const NAME: &str = "apiserver_request_body_size_bytes";
const COUNT: usize = 31;
/// Upper bounds in bytes.
static BOUNDS: LazyLock<[f64; COUNT]> =
    LazyLock::new(|| std::array::from_fn(|number| 50_000.0 + 100_000.0 * number as f64));

/// By group, resource and verb.
#[derive(Default)]
pub struct Bodies(Mutex<BTreeMap<[String; 3], Histogram<{ COUNT + 1 }>>>);

impl Bodies {
    /// Of a request that writes; `is_known`: the resource is one that is served.
    pub(crate) fn observe(&self, info: &RequestInfo, bytes: usize, is_known: impl FnOnce() -> bool) {
        let verb = match info.verb() {
            "deletecollection" => "delete_collection",
            verb @ ("create" | "update" | "patch" | "delete") => verb,
            _ => return,
        };
        if !info.is_resource() || !is_known() {
            return;
        }
        let key = [info.group(), info.resource(), verb].map(str::to_owned);
        self.0.lock().entry(key).or_default().observe(&*BOUNDS, bytes as f64);
    }

    /// Prometheus text.
    pub(crate) fn render(&self) -> String {
        let held = self.0.lock();
        if held.is_empty() {
            return String::new();
        }
        let mut out = format!(
            "# HELP {NAME} [ALPHA] Apiserver request body size in bytes broken out by resource and verb.\n\
             # TYPE {NAME} histogram\n"
        );
        for ([group, resource, verb], histogram) in &*held {
            let labels =
                format!("group=\"{}\",resource=\"{}\",verb=\"{verb}\"", escape(group), escape(resource));
            histogram.render(&mut out, NAME, &labels, &*BOUNDS);
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
