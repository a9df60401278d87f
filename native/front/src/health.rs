//! /healthz, /livez and /readyz: named checks, printed as Kubernetes prints them.
//!
//! Source: apiserver `pkg/server/healthz/healthz.go`. Checks are flags that their owners set; asking runs nothing.

use arc_swap::ArcSwap;
use http::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use kubecore_core::go::quote;

use crate::body::Body;
use crate::query::Query;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// The three endpoints, as bits of a check's membership.
pub const HEALTHZ: u8 = 1;
pub const LIVEZ: u8 = 2;
pub const READYZ: u8 = 4;

/// The bit of an endpoint's name.
pub fn endpoint(name: &str) -> Option<u8> {
    match name {
        "healthz" => Some(HEALTHZ),
        "livez" => Some(LIVEZ),
        "readyz" => Some(READYZ),
        _ => None,
    }
}

#[derive(Clone, Debug)]
struct Check {
    name: String,
    endpoints: u8,
    healthy: bool,
}

/// The checks in the order of their first mention; `shutdown` stays last.
pub struct Health {
    checks: ArcSwap<Vec<Check>>,
}

impl Default for Health {
    fn default() -> Self {
        let check = |name: &str, endpoints, healthy| Check { name: name.to_owned(), endpoints, healthy };
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
                    checks.insert(at, Check { name: name.to_owned(), endpoints, healthy });
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
            None => Some(all_of(name, checks, query)),
        }
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

fn all_of<'c>(name: &str, checks: impl Iterator<Item = &'c Check>, query: &str) -> Response<Body> {
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
        } else if check.healthy {
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
    fn single_checks_can_be_asked() {
        let health = Health::default();
        assert_eq!(ask(&health, "/readyz/ping", ""), (200, "ok".to_owned()));
        assert_eq!(ask(&health, "/readyz/informer-sync", "").0, 500);
        assert!(health.answer("/readyz/nope", "").is_none());
        assert!(health.answer("/other", "").is_none());
    }
}
