//! How requests were judged, under Kubernetes' names: who asks, and whether they may.
//!
//! Source: apiserver `pkg/endpoints/filters/metrics.go`. What is left to Python is counted by it. Each runtime thread counts in a shard of its own.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;
use kubecore_core::authn::UserInfo;

use crate::answering::Answer;
use crate::exchange::{Decisions, Exchange};
use crate::flow::Refusal;
use crate::metrics::{SHARDS, own_shard};
use crate::server::Server;

/// All upper bounds, in microseconds: those of one histogram, and of the other.
const BOUNDS: [u64; 27] = [
    100, 300, 1_000, 2_000, 3_000, 4_000, 8_000, 10_000, 16_000, 30_000, 32_000, 64_000, 100_000, 128_000,
    256_000, 300_000, 512_000, 1_000_000, 1_024_000, 2_048_000, 4_096_000, 5_000_000, 8_192_000, 10_000_000,
    15_000_000, 16_384_000, 30_000_000,
];
/// A millisecond, and twice as much each time.
const OF_RESULTS: [u64; 15] = [
    1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_024_000, 2_048_000,
    4_096_000, 8_192_000, 16_384_000,
];
/// As upstream's `apiserver_request_filter_duration_seconds`.
const OF_FILTERS: [u64; 13] = [
    100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 5_000_000, 10_000_000, 15_000_000,
    30_000_000,
];
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

/// What counts nearly all requests stands together: the sum, and the lowest bucket.
#[derive(Default)]
#[repr(C)]
struct Timed {
    nanoseconds: AtomicU64,
    buckets: [AtomicU64; BOUNDS.len() + 1],
}

impl Timed {
    fn count(&self, elapsed: Duration) {
        let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let is_low = nanoseconds <= BOUNDS[0] * 1_000;
        let bucket = if is_low { 0 } else { BOUNDS.partition_point(|bound| bound * 1_000 < nanoseconds) };
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

/// On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    authentication: [Timed; ATTEMPTS.len()],
    authorization: [Timed; DECISIONS.len()],
    seating: Timed,
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

    /// It has its seats, or will get none.
    pub fn seated(&self, elapsed: Duration) {
        self.0[own_shard()].seating.count(elapsed);
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
        let filters = [
            ("authentication", Sum::of(self.0.iter().flat_map(|shard| &shard.authentication))),
            ("authorization", Sum::of(self.0.iter().flat_map(|shard| &shard.authorization))),
            ("priorityandfairness", Sum::of(self.0.iter().map(|shard| &shard.seating))),
        ];
        let name = "apiserver_request_filter_duration_seconds";
        let told = "Request filter latency distribution in seconds, for each filter type";
        let _ = writeln!(out, "# HELP {name} [ALPHA] {told}\n# TYPE {name} histogram");
        for (filter, sum) in filters.iter().filter(|(_, sum)| sum.total() > 0) {
            sum.render(&mut out, name, &format!("filter=\"{filter}\""), &OF_FILTERS);
        }
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

    pub(crate) fn count_known(&self, exchange: &Exchange, user: &UserInfo, decisions: &mut Decisions) {
        let elapsed = exchange.started.elapsed();
        self.judged.known(user, elapsed);
        decisions.known_at = Some(exchange.started + elapsed);
    }

    /// When its authorization begins: when it has its seats. Who has waited for none has them since it is known who asks.
    pub(crate) fn begin_authorization(&self, exchange: &Exchange, decisions: &Decisions) -> Instant {
        let known = decisions.known_at.filter(|_| exchange.apart.is_empty());
        let now = known.unwrap_or_else(Instant::now);
        self.count_seating(decisions, now);
        now
    }

    fn count_seating(&self, decisions: &Decisions, now: Instant) {
        if let Some(known) = decisions.known_at {
            self.judged.seated(now.saturating_duration_since(known));
        }
    }

    /// The answer to a request that gets no seat.
    pub(crate) fn unseated(&self, exchange: &Exchange, decisions: &Decisions, refusal: &Refusal) -> Answer {
        self.count_seating(decisions, Instant::now());
        self.finish(exchange, refusal.answer())
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
        let sums: Vec<(&&str, Sum)> = results
            .iter()
            .enumerate()
            .map(|(number, result)| (result, Sum::of(of(number))))
            .filter(|(_, sum)| sum.total() > 0)
            .collect();
        let Self { counter, counted, histogram, timed } = self;
        let _ = writeln!(out, "# HELP {counter} [ALPHA] {counted}\n# TYPE {counter} counter");
        for (result, sum) in &sums {
            let _ = writeln!(out, "{counter}{{result=\"{result}\"}} {}", sum.total());
        }
        let _ = writeln!(out, "# HELP {histogram} [ALPHA] {timed}\n# TYPE {histogram} histogram");
        for (result, sum) in &sums {
            sum.render(out, histogram, &format!("result=\"{result}\""), &OF_RESULTS);
        }
    }
}

/// What several threads have counted.
struct Sum {
    buckets: [u64; BOUNDS.len() + 1],
    nanoseconds: u64,
}

impl Sum {
    fn of<'a>(all: impl Iterator<Item = &'a Timed>) -> Self {
        let mut sum = Self { buckets: [0; BOUNDS.len() + 1], nanoseconds: 0 };
        for timed in all {
            sum.nanoseconds += timed.nanoseconds.load(Ordering::Relaxed);
            for (sum, count) in sum.buckets.iter_mut().zip(&timed.buckets) {
                *sum += count.load(Ordering::Relaxed);
            }
        }
        sum
    }

    fn total(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// `bounds`: some of all, in microseconds.
    fn render(&self, out: &mut String, name: &str, label: &str, bounds: &[u64]) {
        let total = self.total();
        for bound in bounds {
            let within = BOUNDS.partition_point(|one| one <= bound);
            let count: u64 = self.buckets[..within].iter().sum();
            let seconds = *bound as f64 / 1e6;
            let _ = writeln!(out, "{name}_bucket{{{label},le=\"{seconds}\"}} {count}");
        }
        let _ = writeln!(out, "{name}_bucket{{{label},le=\"+Inf\"}} {total}");
        let _ = writeln!(out, "{name}_sum{{{label}}} {}", self.nanoseconds as f64 / 1e9);
        let _ = writeln!(out, "{name}_count{{{label}}} {total}");
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
    fn how_long_each_step_took_is_told_whatever_came_of_it() {
        let judged = Judged::default();
        judged.authorized(Authorization::Allowed, Duration::from_micros(100));
        judged.authorized(Authorization::Denied, Duration::from_micros(101));
        judged.seated(Duration::from_secs(20));
        let told = judged.render();
        for (filter, bound, count) in [
            ("authorization", "0.0001", 1),
            ("authorization", "0.0003", 2),
            ("priorityandfairness", "15", 0),
            ("priorityandfairness", "30", 1),
        ] {
            let labels = format!("filter=\"{filter}\",le=\"{bound}\"");
            let line = format!("apiserver_request_filter_duration_seconds_bucket{{{labels}}} {count}\n");
            assert!(told.contains(&line), "{line} is not in {told}");
        }
        assert!(!told.contains("filter=\"authentication\""), "nobody has been asked who he is");
    }

    #[test]
    fn every_bound_is_one_of_all() {
        assert!(BOUNDS.is_sorted());
        assert!(OF_RESULTS.iter().chain(&OF_FILTERS).all(|bound| BOUNDS.contains(bound)));
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
