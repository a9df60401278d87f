//! How requests were judged, under Kubernetes' names: who asks, and whether they may.
//!
//! Source: apiserver `pkg/endpoints/filters/metrics.go`. What is left to Python is counted by it. Each runtime thread counts in a shard of its own.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::AUTHORIZATION;
use kubecore_core::authn::UserInfo;

use crate::exchange::Exchange;
use crate::metrics::{SHARDS, own_shard};
use crate::server::Server;

/// Upper bounds in seconds: a millisecond, and twice as much each time.
const BOUNDS: usize = 15;
/// Users that are told by their names; all others are one kind or the other.
const NAMED: [&str; 5] =
    ["admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default"];
const EMAIL: usize = NAMED.len();
const OTHER: usize = EMAIL + 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    Success = 0,
    /// Nobody knows who asks, without credentials.
    Failure = 1,
    /// Credentials that are bad.
    Error = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    Allowed = 0,
    Denied = 1,
    NoOpinion = 2,
    Error = 3,
}

const ATTEMPTS: [&str; 3] = ["success", "failure", "error"];
const DECISIONS: [&str; 4] = ["allowed", "denied", "no-opinion", "error"];

impl Authorization {
    /// As metrics name it.
    pub fn named(decision: &str) -> Option<Self> {
        [Self::Allowed, Self::Denied, Self::NoOpinion, Self::Error]
            .into_iter()
            .find(|one| DECISIONS[*one as usize] == decision)
    }
}

#[derive(Default)]
struct Timed {
    buckets: [AtomicU64; BOUNDS + 1],
    nanoseconds: AtomicU64,
}

impl Timed {
    fn count(&self, elapsed: Duration) {
        let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        // How often a millisecond has to be doubled.
        let doublings = nanoseconds.saturating_sub(1) / 1_000_000;
        let bucket = (u64::BITS - doublings.leading_zeros()) as usize;
        self.buckets[bucket.min(BOUNDS)].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

/// On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    authentication: [Timed; ATTEMPTS.len()],
    authorization: [Timed; DECISIONS.len()],
    users: [AtomicU64; OTHER + 1],
}

#[derive(Default)]
pub struct Judged([Shard; SHARDS]);

impl Judged {
    pub fn known(&self, user: &UserInfo, elapsed: Duration) {
        let shard = &self.0[own_shard()];
        shard.authentication[Authentication::Success as usize].count(elapsed);
        shard.users[kind_of(&user.username)].fetch_add(1, Ordering::Relaxed);
    }

    pub fn unknown(&self, how: Authentication, elapsed: Duration) {
        self.0[own_shard()].authentication[how as usize].count(elapsed);
    }

    pub fn authorized(&self, how: Authorization, elapsed: Duration) {
        self.0[own_shard()].authorization[how as usize].count(elapsed);
    }

    /// Prometheus text.
    pub fn render(&self) -> String {
        let mut out = String::from(
            "# HELP authenticated_user_requests [ALPHA] Counter of authenticated requests broken out by username.\n\
             # TYPE authenticated_user_requests counter\n",
        );
        for (kind, name) in NAMED.iter().chain(&["email_id", "other"]).enumerate() {
            let count: u64 = self.0.iter().map(|shard| shard.users[kind].load(Ordering::Relaxed)).sum();
            if count > 0 {
                let _ = writeln!(out, "authenticated_user_requests{{username=\"{name}\"}} {count}");
            }
        }
        let authentication = Told {
            counter: "authentication_attempts",
            counted: "Counter of authenticated attempts.",
            histogram: "authentication_duration_seconds",
            timed: "Authentication duration in seconds broken out by result.",
        };
        authentication.render(&mut out, &ATTEMPTS, |result| {
            self.0.iter().map(move |shard| &shard.authentication[result])
        });
        let authorization = Told {
            counter: "authorization_attempts_total",
            counted: "Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', \
                      'no-opinion' or 'error'.",
            histogram: "authorization_duration_seconds",
            timed: "Authorization duration in seconds broken out by result.",
        };
        authorization.render(&mut out, &DECISIONS, |result| {
            self.0.iter().map(move |shard| &shard.authorization[result])
        });
        out
    }
}

impl Server {
    /// Nobody knows who asks.
    pub(crate) fn count_stranger(&self, exchange: &Exchange) {
        let shown = exchange.connection.identity.is_some() || exchange.headers.contains_key(AUTHORIZATION);
        let how = if shown { Authentication::Error } else { Authentication::Failure };
        self.judged.unknown(how, exchange.started.elapsed());
    }
}

fn kind_of(username: &str) -> usize {
    NAMED.iter().position(|name| *name == username).unwrap_or(if username.contains('@') {
        EMAIL
    } else {
        OTHER
    })
}

/// Names and descriptions of a counter and a histogram that go together.
struct Told {
    counter: &'static str,
    counted: &'static str,
    histogram: &'static str,
    timed: &'static str,
}

impl Told {
    fn render<'a, I: Iterator<Item = &'a Timed>>(
        &self,
        out: &mut String,
        results: &[&str],
        of: impl Fn(usize) -> I,
    ) {
        let mut sums = Vec::new();
        for (number, result) in results.iter().enumerate() {
            let (mut buckets, mut nanoseconds) = ([0; BOUNDS + 1], 0);
            for timed in of(number) {
                nanoseconds += timed.nanoseconds.load(Ordering::Relaxed);
                for (sum, count) in buckets.iter_mut().zip(&timed.buckets) {
                    *sum += count.load(Ordering::Relaxed);
                }
            }
            let total: u64 = buckets.iter().sum();
            if total > 0 {
                sums.push((result, total, buckets, nanoseconds));
            }
        }
        let Self { counter, counted, histogram, timed } = self;
        let _ = writeln!(out, "# HELP {counter} [ALPHA] {counted}\n# TYPE {counter} counter");
        for (result, total, ..) in &sums {
            let _ = writeln!(out, "{counter}{{result=\"{result}\"}} {total}");
        }
        let _ = writeln!(out, "# HELP {histogram} [ALPHA] {timed}\n# TYPE {histogram} histogram");
        for (result, total, buckets, nanoseconds) in &sums {
            let mut sum = 0;
            for (doublings, count) in buckets[..BOUNDS].iter().enumerate() {
                sum += count;
                let bound = 0.001 * f64::from(1 << doublings);
                let _ = writeln!(out, "{histogram}_bucket{{result=\"{result}\",le=\"{bound}\"}} {sum}");
            }
            let seconds = *nanoseconds as f64 / 1e9;
            let _ = writeln!(out, "{histogram}_bucket{{result=\"{result}\",le=\"+Inf\"}} {total}");
            let _ = writeln!(out, "{histogram}_sum{{result=\"{result}\"}} {seconds}");
            let _ = writeln!(out, "{histogram}_count{{result=\"{result}\"}} {total}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_as_long_as_a_bound_is_below_it() {
        let judged = Judged::default();
        for milliseconds in [0, 1, 2, 3, 16_384, 20_000] {
            judged.authorized(Authorization::Allowed, Duration::from_millis(milliseconds));
        }
        let told = judged.render();
        for (bound, count) in [("0.001", 2), ("0.002", 3), ("0.004", 4), ("16.384", 5), ("+Inf", 6)] {
            let line = format!(
                "authorization_duration_seconds_bucket{{result=\"allowed\",le=\"{bound}\"}} {count}\n"
            );
            assert!(told.contains(&line), "{line} is not in {told}");
        }
        assert!(told.contains("authorization_attempts_total{result=\"allowed\"} 6\n"));
    }

    #[test]
    fn users_are_told_by_kinds_that_nobody_can_add_to() {
        let judged = Judged::default();
        for name in ["admin", "jane", "jane@example.com", "system:serviceaccount:kube-system:default", "joe"]
        {
            judged.known(&UserInfo::new(name, &[]), Duration::ZERO);
        }
        let told = judged.render();
        for (name, count) in
            [("admin", 1), ("email_id", 1), ("other", 2), ("system:serviceaccount:kube-system:default", 1)]
        {
            assert!(told.contains(&format!("authenticated_user_requests{{username=\"{name}\"}} {count}\n")));
        }
        assert!(!told.contains("jane"));
    }
}
