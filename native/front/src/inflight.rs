//! How many requests may be under way at once, those that last not counted.
//!
//! Source: apiserver `pkg/server/filters/maxinflight.go`. What is answered here at once is never under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use kubecore_core::authn::{SYSTEM_MASTERS, UserInfo};

use crate::body::Body;
use crate::metrics::Terminated;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(crate) const RETRY_SECONDS: u64 = 1;

/// Requests of one kind. The bound 0 is none.
#[derive(Default)]
struct Kind {
    bound: AtomicUsize,
    under_way: Arc<AtomicUsize>,
    dropped: AtomicU64,
}

/// Bounds for requests that only read, and for others.
#[derive(Default)]
pub struct InFlight {
    reading: Kind,
    mutating: Kind,
}

/// A request that counts while this lives.
pub struct Place(Option<Arc<AtomicUsize>>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(under_way) = &self.0 {
            under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl InFlight {
    pub fn bound(&self, reading: usize, mutating: usize) {
        self.reading.bound.store(reading, Ordering::Relaxed);
        self.mutating.bound.store(mutating, Ordering::Relaxed);
    }

    /// None: there are too many. The administrators' group always gets a place.
    pub fn enter(&self, verb: &str, lasts: bool, user: Option<&UserInfo>) -> Option<Place> {
        let kind = if matches!(verb, "get" | "list" | "watch") { &self.reading } else { &self.mutating };
        let bound = kind.bound.load(Ordering::Relaxed);
        if bound == 0 || lasts {
            return Some(Place(None));
        }
        let before = kind.under_way.fetch_add(1, Ordering::Relaxed);
        let place = Place(Some(kind.under_way.clone()));
        if before < bound {
            return Some(place);
        }
        if user.is_some_and(|user| user.in_group(SYSTEM_MASTERS)) {
            return Some(Place(None));
        }
        kind.dropped.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Prometheus text.
    pub fn render(&self) -> String {
        let mut out = String::from(
            "# HELP apiserver_dropped_requests_total Number of requests dropped with 'Try again later' response\n\
             # TYPE apiserver_dropped_requests_total counter\n",
        );
        for (name, kind) in [("mutating", &self.mutating), ("readOnly", &self.reading)] {
            let dropped = kind.dropped.load(Ordering::Relaxed);
            out += &format!("apiserver_dropped_requests_total{{request_kind=\"{name}\"}} {dropped}\n");
        }
        out
    }
}

/// The 429 for whom there is no place; he may come again after so many seconds.
pub fn too_many(seconds: u64) -> Response<Body> {
    let mut response = Response::new(Body::full("Too many requests, please try again later.\n"));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response.extensions_mut().insert(Terminated);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_as_many_of_each_kind_as_are_allowed() {
        let inflight = InFlight::default();
        inflight.bound(1, 2);
        let first = inflight.enter("list", false, None).unwrap();
        assert!(inflight.enter("get", false, None).is_none());
        let _writes =
            [inflight.enter("create", false, None).unwrap(), inflight.enter("patch", false, None).unwrap()];
        assert!(inflight.enter("delete", false, None).is_none());
        drop(first);
        assert!(inflight.enter("get", false, None).is_some());
        assert!(inflight.render().contains("{request_kind=\"mutating\"} 1"));
    }

    #[test]
    fn what_lasts_and_what_administrators_ask_for_finds_room() {
        let inflight = InFlight::default();
        inflight.bound(1, 1);
        let _held = inflight.enter("get", false, None).unwrap();
        assert!(inflight.enter("watch", true, None).is_some());
        assert!(inflight.enter("get", false, Some(&UserInfo::new("a", &[SYSTEM_MASTERS]))).is_some());
        assert!(inflight.enter("get", false, Some(&UserInfo::new("b", &[]))).is_none());
    }

    #[test]
    fn without_a_bound_all_find_room() {
        let inflight = InFlight::default();
        let held: Vec<_> = (0..100).map(|_| inflight.enter("get", false, None)).collect();
        assert!(held.iter().all(Option::is_some));
    }
}
