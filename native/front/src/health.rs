//! /healthz, /livez and /readyz: named checks, printed as Kubernetes prints them.
//!
//! Source: apiserver `pkg/server/healthz/healthz.go`. Checks are flags that their owners set; asking runs nothing.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use http::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use kubecore_core::go::quote;

use crate::body::Body;
use crate::metrics::escape;
use crate::query::Query;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// The three endpoints, as bits of a check's membership.
pub const HEALTHZ: u8 = 1;
pub const LIVEZ: u8 = 2;
pub const READYZ: u8 = 4;

const ENDPOINTS: [(&str, u8); 3] = [("healthz", HEALTHZ), ("livez", LIVEZ), ("readyz", READYZ)];

/// The bit of an endpoint's name.
pub fn endpoint(name: &str) -> Option<u8> {
    ENDPOINTS.into_iter().find(|(known, _)| *known == name).map(|(_, bit)| bit)
}

#[derive(Clone, Debug)]
struct Check {
    name: String,
    endpoints: u8,
    healthy: bool,
    /// By endpoint.
    observed: Arc<[Observed; ENDPOINTS.len()]>,
}

/// What whoever asked an endpoint for all of its checks was told of one.
#[derive(Debug, Default)]
struct Observed {
    successes: AtomicU64,
    errors: AtomicU64,
    was_healthy: AtomicBool,
}

impl Observed {
    fn count(&self, healthy: bool) {
        let counter = if healthy { &self.successes } else { &self.errors };
        counter.fetch_add(1, Ordering::Relaxed);
        self.was_healthy.store(healthy, Ordering::Relaxed);
    }
}

/// The checks in the order of their first mention; `shutdown` stays last.
pub struct Health {
    checks: ArcSwap<Vec<Check>>,
}

impl Default for Health {
    fn default() -> Self {
        let check = Check::new;
        Self {
            checks: ArcSwap::from_pointee(vec![
                check("ping", HEALTHZ | LIVEZ | READYZ, true),
                check("log", HEALTHZ | LIVEZ | READYZ, true),
                check("informer-sync", READYZ, false),
                check("shutdown", READYZ, true),
            ]),
        }
    }
}

impl Health {
    /// Adds the check or sets its state.
    pub fn set(&self, name: &str, endpoints: u8, healthy: bool) {
        self.checks.rcu(|held| {
            let mut checks = Vec::clone(held);
            match checks.iter_mut().find(|check| check.name == name) {
                Some(check) => (check.endpoints, check.healthy) = (endpoints, healthy),
                None => {
                    let at =
                        checks.len() - usize::from(checks.last().is_some_and(|last| last.name == "shutdown"));
                    checks.insert(at, Check::new(name, endpoints, healthy));
                }
            }
            checks
        });
    }

    /// The server serves: what `/readyz` says as a whole, given the other checks hold.
    pub fn set_ready(&self, ready: bool) {
        self.set("informer-sync", READYZ, ready);
    }

    pub fn shutting_down(&self) {
        self.set("shutdown", READYZ, false);
    }

    /// The answer for `/readyz`, `/readyz/ping` and so on; None for a path that is no check.
    pub fn answer(&self, path: &str, query: &str) -> Option<Response<Body>> {
        let (name, check) = match path.strip_prefix('/')?.split_once('/') {
            Some((name, check)) => (name, Some(check)),
            None => (path.get(1..)?, None),
        };
        let bit = endpoint(name)?;
        let all = self.checks.load();
        let checks = all.iter().filter(|check| check.endpoints & bit != 0);
        match check {
            Some(wanted) => one(wanted, checks),
            None => Some(all_of(name, bit, checks, query)),
        }
    }

    /// Prometheus text of what was told; source: component-base `metrics/prometheus/slis`.
    pub fn render(&self) -> String {
        let (mut states, mut totals) = (String::new(), String::new());
        for check in self.checks.load().iter() {
            for ((endpoint, _), observed) in ENDPOINTS.iter().zip(check.observed.iter()) {
                let labels = format!("name=\"{}\"", escape(&check.name));
                let counts = [("error", &observed.errors), ("success", &observed.successes)]
                    .map(|(status, count)| (status, count.load(Ordering::Relaxed)));
                if counts.iter().all(|(_, count)| *count == 0) {
                    continue;
                }
                let healthy = u8::from(observed.was_healthy.load(Ordering::Relaxed));
                let _ = writeln!(states, "kubernetes_healthcheck{{{labels},type=\"{endpoint}\"}} {healthy}");
                for (status, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
                    let labels = format!("{labels},status=\"{status}\",type=\"{endpoint}\"");
                    let _ = writeln!(totals, "kubernetes_healthchecks_total{{{labels}}} {count}");
                }
            }
        }
        if states.is_empty() {
            return states;
        }
        format!(
            "# HELP kubernetes_healthcheck [STABLE] This metric records the result of a single healthcheck.\n\
             # TYPE kubernetes_healthcheck gauge\n{states}\
             # HELP kubernetes_healthchecks_total [STABLE] This metric records the results of all healthcheck.\n\
             # TYPE kubernetes_healthchecks_total counter\n{totals}"
        )
    }
}

impl Check {
    fn new(name: &str, endpoints: u8, healthy: bool) -> Self {
        Self { name: name.to_owned(), endpoints, healthy, observed: Arc::default() }
    }

    fn observe(&self, bit: u8) {
        let asked = ENDPOINTS.iter().zip(self.observed.iter()).filter(|((_, one), _)| *one == bit);
        asked.for_each(|(_, observed)| observed.count(self.healthy));
    }
}

fn one<'c>(wanted: &str, mut checks: impl Iterator<Item = &'c Check>) -> Option<Response<Body>> {
    let check = checks.find(|check| check.name == wanted)?;
    Some(if check.healthy {
        text(StatusCode::OK, "ok".to_owned())
    } else {
        text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {wanted} is not healthy\n"))
    })
}

fn all_of<'c>(name: &str, bit: u8, checks: impl Iterator<Item = &'c Check>, query: &str) -> Response<Body> {
    let query = Query::new(query);
    let mut excluded: Vec<String> =
        query.pairs().filter(|(key, _)| key == "exclude").map(|(_, value)| value.into_owned()).collect();
    excluded.sort();
    excluded.dedup();
    let (mut lines, mut failed) = (String::new(), false);
    for check in checks {
        if let Some(at) = excluded.iter().position(|excluded| *excluded == check.name) {
            excluded.remove(at);
            lines.push_str(&format!("[+]{} excluded: ok\n", check.name));
            continue;
        }
        check.observe(bit);
        if check.healthy {
            lines.push_str(&format!("[+]{} ok\n", check.name));
        } else {
            failed = true;
            lines.push_str(&format!("[-]{} failed: reason withheld\n", check.name));
        }
    }
    if !excluded.is_empty() {
        let names: Vec<String> = excluded.iter().map(|name| quote(name)).collect();
        lines.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            names.join(",")
        ));
    }
    if failed {
        return text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{name} check failed\n"));
    }
    if query.first("verbose").is_none() {
        return text(StatusCode::OK, "ok".to_owned());
    }
    text(StatusCode::OK, format!("{lines}{name} check passed\n"))
}

fn text(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(health: &Health, path: &str, query: &str) -> (u16, String) {
        let response = health.answer(path, query).unwrap();
        let status = response.status().as_u16();
        (status, response.body().text())
    }

    #[test]
    fn verbose_lists_the_checks_in_order() {
        let health = Health::default();
        health.set_ready(true);
        health.set("etcd", HEALTHZ | READYZ, true);
        assert_eq!(ask(&health, "/readyz", ""), (200, "ok".to_owned()));
        assert_eq!(
            ask(&health, "/readyz", "verbose").1,
            "[+]ping ok\n[+]log ok\n[+]informer-sync ok\n[+]etcd ok\n[+]shutdown ok\nreadyz check passed\n"
        );
        assert_eq!(ask(&health, "/livez", "verbose=1").1, "[+]ping ok\n[+]log ok\nlivez check passed\n");
    }

    #[test]
    fn a_failed_check_fails_the_whole_unless_excluded() {
        let health = Health::default();
        let (status, body) = ask(&health, "/readyz", "");
        assert_eq!(status, 500);
        assert_eq!(
            body,
            "[+]ping ok\n[+]log ok\n[-]informer-sync failed: reason withheld\n[+]shutdown ok\nreadyz check failed\n"
        );
        assert_eq!(ask(&health, "/readyz", "exclude=informer-sync").0, 200);
        assert!(
            ask(&health, "/livez", "exclude=nope&verbose")
                .1
                .contains("no matches for \"nope\"\nlivez check passed")
        );
    }

    #[test]
    fn what_was_told_of_each_check_is_counted_where_all_were_asked() {
        let health = Health::default();
        assert_eq!(health.render(), "", "nothing while nobody has asked");
        ask(&health, "/readyz", "exclude=log");
        ask(&health, "/livez/ping", "");
        health.set_ready(true);
        ask(&health, "/readyz", "exclude=log");
        let told = health.render();
        for line in [
            "kubernetes_healthcheck{name=\"informer-sync\",type=\"readyz\"} 1",
            "kubernetes_healthchecks_total{name=\"informer-sync\",status=\"error\",type=\"readyz\"} 1",
            "kubernetes_healthchecks_total{name=\"informer-sync\",status=\"success\",type=\"readyz\"} 1",
            "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"readyz\"} 2",
        ] {
            assert!(told.contains(&format!("{line}\n")), "{line} is not in {told}");
        }
        assert!(!told.contains("livez") && !told.contains("\"log\""));
    }

    #[test]
    fn single_checks_can_be_asked() {
        let health = Health::default();
        assert_eq!(ask(&health, "/readyz/ping", ""), (200, "ok".to_owned()));
        assert_eq!(ask(&health, "/readyz/informer-sync", "").0, 500);
        assert!(health.answer("/readyz/nope", "").is_none());
        assert!(health.answer("/other", "").is_none());
    }
}
