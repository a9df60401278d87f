//! How often and how long it was asked who somebody is and what he may do, under Kubernetes' metric names.
//!
//! Source: apiserver `pkg/endpoints/filters/metrics.go`. Of what the front finds out by itself, without Python.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::authn::Outcome;
use crate::authz::Verdict;
use crate::metrics::own_shard;

/// Upper bounds in seconds: 0.001, doubled 14 times.
const BUCKETS: usize = 15;
const FIRST_MICROS: u64 = 1000;
const SHARDS: usize = 8;

const AUTHENTICATION: [&str; 3] = ["error", "failure", "success"];
const AUTHORIZATION: [&str; 4] = ["allowed", "denied", "error", "no-opinion"];
const USERS: [&str; 7] = [
    "admin",
    "client",
    "email_id",
    "kube_proxy",
    "kubelet",
    "other",
    "system:serviceaccount:kube-system:default",
];

/// Results of authentication, by their place in its labels.
#[derive(Clone, Copy)]
enum Authenticated {
    Failure = 1,
    Success = 2,
}

/// Likewise; what was denied by a mode and what no mode allowed is the same to the front.
#[derive(Clone, Copy)]
enum Authorized {
    Allowed = 0,
    NoOpinion = 3,
}

/// One thread's counts of one result; a line of the cache for each would be wasted on what is hardly ever read.
#[derive(Default)]
struct Series {
    buckets: [AtomicU64; BUCKETS + 1],
    nanos: AtomicU64,
}

impl Series {
    fn count(&self, took: Duration) {
        let micros = took.as_micros() as u64;
        let bucket = (0..BUCKETS).find(|n| micros <= FIRST_MICROS << n).unwrap_or(BUCKETS);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }
}

#[derive(Default)]
#[repr(align(128))]
struct Shard {
    authentication: [Series; AUTHENTICATION.len()],
    authorization: [Series; AUTHORIZATION.len()],
    users: [AtomicU64; USERS.len()],
}

#[derive(Default)]
pub struct AccessMetrics {
    shards: [Shard; SHARDS],
}

impl AccessMetrics {
    /// What Python is to find out is not counted here.
    pub fn identified(&self, outcome: &Outcome, began: Instant) {
        match outcome {
            Outcome::User(user) => {
                self.authenticated(Authenticated::Success, &user.username, began.elapsed());
            }
            Outcome::Rejected => self.authenticated(Authenticated::Failure, "", began.elapsed()),
            Outcome::Unknown => {}
        }
    }

    /// Likewise.
    pub fn judged(&self, verdict: &Verdict, began: Instant) {
        match verdict {
            Verdict::Allow => self.authorized(Authorized::Allowed, began.elapsed()),
            Verdict::Deny(_) => self.authorized(Authorized::NoOpinion, began.elapsed()),
            Verdict::Python => {}
        }
    }

    fn authenticated(&self, result: Authenticated, user: &str, took: Duration) {
        let shard = &self.shards[own_shard()];
        shard.authentication[result as usize].count(took);
        if matches!(result, Authenticated::Success) {
            shard.users[class_of(user)].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn authorized(&self, result: Authorized, took: Duration) {
        self.shards[own_shard()].authorization[result as usize].count(took);
    }

    /// Prometheus text.
    pub fn render(&self, out: &mut String) {
        let shards = || self.shards.iter();
        out.push_str("# HELP authenticated_user_requests Counter of authenticated requests broken out by username.\n# TYPE authenticated_user_requests counter\n");
        for (number, user) in USERS.iter().enumerate() {
            let sum: u64 = shards().map(|shard| shard.users[number].load(Ordering::Relaxed)).sum();
            if sum > 0 {
                let _ = writeln!(out, "authenticated_user_requests{{username=\"{user}\"}} {sum}");
            }
        }
        let authentication = (0..AUTHENTICATION.len())
            .map(|n| (AUTHENTICATION[n], shards().map(|shard| &shard.authentication[n]).collect()));
        render("authentication", "attempts", "Counter of authenticated attempts.", authentication, out);
        let authorization = (0..AUTHORIZATION.len())
            .map(|n| (AUTHORIZATION[n], shards().map(|shard| &shard.authorization[n]).collect()));
        let help = "Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.";
        render("authorization", "attempts_total", help, authorization, out);
    }
}

fn render<'a>(
    what: &str,
    attempts: &str,
    help: &str,
    results: impl Iterator<Item = (&'static str, Vec<&'a Series>)>,
    out: &mut String,
) {
    let mut durations = String::new();
    let _ = writeln!(out, "# HELP {what}_{attempts} {help}\n# TYPE {what}_{attempts} counter");
    for (result, series) in results {
        let of = |bucket: usize| -> u64 {
            series.iter().map(|one| one.buckets[bucket].load(Ordering::Relaxed)).sum()
        };
        let total: u64 = (0..=BUCKETS).map(of).sum();
        if total == 0 {
            continue;
        }
        let _ = writeln!(out, "{what}_{attempts}{{result=\"{result}\"}} {total}");
        let name = format!("{what}_duration_seconds");
        let mut sum = 0;
        for bucket in 0..BUCKETS {
            sum += of(bucket);
            let bound = (FIRST_MICROS << bucket) as f64 / 1e6;
            let _ = writeln!(durations, "{name}_bucket{{result=\"{result}\",le=\"{bound}\"}} {sum}");
        }
        let seconds = series.iter().map(|one| one.nanos.load(Ordering::Relaxed)).sum::<u64>() as f64 / 1e9;
        let _ = writeln!(durations, "{name}_bucket{{result=\"{result}\",le=\"+Inf\"}} {total}");
        let _ = writeln!(durations, "{name}_sum{{result=\"{result}\"}} {seconds}");
        let _ = writeln!(durations, "{name}_count{{result=\"{result}\"}} {total}");
    }
    let verb = if what == "authentication" { "Authentication" } else { "Authorization" };
    let _ = writeln!(out, "# HELP {what}_duration_seconds {verb} duration in seconds broken out by result.");
    let _ = writeln!(out, "# TYPE {what}_duration_seconds histogram");
    out.push_str(&durations);
}

/// Few classes of names: made-up ones must not fill the memory, and nobody's name is told.
fn class_of(user: &str) -> usize {
    let class = match user {
        "admin" | "client" | "kube_proxy" | "kubelet" | "system:serviceaccount:kube-system:default" => user,
        _ if user.contains('@') => "email_id",
        _ => "other",
    };
    USERS.iter().position(|known| *known == class).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_by_result_and_users_by_class() {
        let metrics = AccessMetrics::default();
        for user in ["ann", "bob", "kubelet", "a@b.c"] {
            metrics.authenticated(Authenticated::Success, user, Duration::from_micros(1500));
        }
        metrics.authenticated(Authenticated::Failure, "", Duration::from_secs(60));
        metrics.authorized(Authorized::NoOpinion, Duration::ZERO);
        let mut text = String::new();
        metrics.render(&mut text);
        for line in [
            "authenticated_user_requests{username=\"other\"} 2",
            "authenticated_user_requests{username=\"email_id\"} 1",
            "authenticated_user_requests{username=\"kubelet\"} 1",
            "authentication_attempts{result=\"success\"} 4",
            "authentication_attempts{result=\"failure\"} 1",
            "authentication_duration_seconds_bucket{result=\"success\",le=\"0.001\"} 0",
            "authentication_duration_seconds_bucket{result=\"success\",le=\"0.002\"} 4",
            "authentication_duration_seconds_bucket{result=\"failure\",le=\"16.384\"} 0",
            "authentication_duration_seconds_sum{result=\"success\"} 0.006",
            "authorization_attempts_total{result=\"no-opinion\"} 1",
            "authorization_duration_seconds_bucket{result=\"no-opinion\",le=\"0.001\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
