//! Service account tokens: valid only while what they are bound to exists with the same uid.
//!
//! Source: kubernetes `pkg/serviceaccount/claims.go`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kubecore_core::authn::{UserInfo, service_account_username};
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use serde::Deserialize;

use super::jwt::{self, Audience, LEEWAY_SECONDS, PublicKey, Refused};
use super::vouched::{Fingerprint, fingerprint};
use super::{BoundKind, ObjectLookup};

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    aud: Audience,
    exp: Option<f64>,
    iat: Option<f64>,
    nbf: Option<f64>,
    #[serde(default)]
    sub: String,
    #[serde(default)]
    jti: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Private,
}

#[derive(Deserialize)]
struct Private {
    namespace: String,
    serviceaccount: Reference,
    pod: Option<Reference>,
    secret: Option<Reference>,
    node: Option<Reference>,
    warnafter: Option<f64>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    #[serde(default)]
    uid: String,
}

/// Tokens that are remembered as good.
const LIMIT: usize = 4096;

/// Whose tokens are accepted, and for whom they must be meant.
pub struct ServiceAccountIssuer {
    keys: Vec<PublicKey>,
    issuers: Vec<String>,
    audiences: Vec<String>,
    /// Those whose signatures and claims were found good for the API, so that each connection of a client need not
    /// verify its token anew. What can change is looked at whenever one is used.
    verified: RwLock<FxHashMap<Fingerprint, Arc<BoundToken>>>,
}

impl ServiceAccountIssuer {
    pub fn new(keys: Vec<PublicKey>, issuers: Vec<String>, audiences: Vec<String>) -> Self {
        Self { keys, issuers, audiences, verified: RwLock::default() }
    }

    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// A token for the API, which is verified when it comes for the first time.
    pub(super) fn good_token(&self, token: &str, now: f64) -> Option<(Arc<BoundToken>, bool)> {
        let name = fingerprint(token);
        if let Some(good) = self.verified.read().get(&name) {
            return good.in_time(now).then(|| (good.clone(), false));
        }
        let (bound, _) = self.verify(token, &self.audiences, now).ok()?;
        let mut verified = self.verified.write();
        if verified.len() >= LIMIT {
            verified.retain(|_, one| one.in_time(now));
        }
        if verified.len() >= LIMIT {
            verified.clear();
        }
        // Two connections may have come at once: both go on with the same.
        Some((verified.entry(name).or_insert_with(|| Arc::new(bound)).clone(), true))
    }

    /// The token's user and the audiences of `wanted` that it is meant for, one at least.
    pub(super) fn verify(
        &self,
        token: &str,
        wanted: &[String],
        now: f64,
    ) -> Result<(BoundToken, Vec<String>), Refused> {
        let claims: Claims = jwt::claims(token, &self.issuers, &self.keys)?;
        let fitting: Vec<String> =
            wanted.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
        let username =
            service_account_username(&claims.kubernetes.namespace, &claims.kubernetes.serviceaccount.name);
        if fitting.is_empty() || claims.sub != username {
            return Err(Refused::Bad);
        }
        let bound = BoundToken::new(claims, username);
        if bound.in_time(now) { Ok((bound, fitting)) } else { Err(Refused::Bad) }
    }
}

/// An object that must exist. `checked` is the revision at which it was last found good.
struct Bond {
    kind: BoundKind,
    /// In the cache: its namespace, where it has one, and its name.
    key: String,
    uid: String,
    checked: AtomicU64,
}

/// How long upstream remembers that a token is good, and does not count it again.
const COUNTED_SECONDS: f64 = 10.0;

/// What a pod's token that lasts longer than it was asked for is when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Valid,
    /// Its client goes on with it after a new one should have been taken.
    Stale,
}

/// A verified token; what it is bound to is looked up at each use.
pub struct BoundToken {
    user: Arc<UserInfo>,
    not_before: f64,
    issued: f64,
    expires: f64,
    /// When its client should have got another one, where that is before it expires.
    warn_after: Option<f64>,
    /// The Unix seconds, as bits, until which its use counts as the same.
    counted: AtomicU64,
    bonds: Vec<Bond>,
}

impl BoundToken {
    fn new(claims: Claims, username: String) -> Self {
        let Private { namespace, serviceaccount, pod, secret, node, warnafter } = claims.kubernetes;
        let mut extra = Vec::new();
        let mut tell = |key: &str, value: &str| {
            extra.push((format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]));
        };
        if !claims.jti.is_empty() {
            tell("credential-id", &format!("JTI={}", claims.jti));
        }
        if let Some(pod) = &pod {
            tell("pod-name", &pod.name);
            tell("pod-uid", &pod.uid);
        }
        if let Some(node) = &node {
            tell("node-name", &node.name);
            if !node.uid.is_empty() {
                tell("node-uid", &node.uid);
            }
        }
        let uid = serviceaccount.uid.clone();
        let groups = [
            "system:serviceaccounts",
            &format!("system:serviceaccounts:{namespace}"),
            kubecore_core::authn::ALL_AUTHENTICATED,
        ]
        .map(str::to_owned);
        // A node that a pod's token names is information, not a bond: the pod is what must exist.
        let node = if pod.is_none() { node } else { None };
        let bonds = [
            (BoundKind::ServiceAccount, Some(serviceaccount)),
            (BoundKind::Pod, pod),
            (BoundKind::Secret, secret),
            (BoundKind::Node, node),
        ];
        let bonds = bonds.into_iter().filter_map(|(kind, reference)| {
            let Reference { name, uid } = reference?;
            let key = if kind == BoundKind::Node { name } else { [&namespace, "/", &name].concat() };
            Some(Bond { kind, key, uid, checked: AtomicU64::new(0) })
        });
        Self {
            bonds: bonds.collect(),
            user: Arc::new(UserInfo { username, uid, groups: groups.to_vec(), extra }),
            not_before: claims.nbf.unwrap_or(0.0),
            issued: claims.iat.unwrap_or(0.0),
            // A token of ours without an expiry is none of ours.
            expires: claims.exp.unwrap_or(0.0),
            warn_after: warnafter.filter(|after| *after != 0.0),
            counted: AtomicU64::new(0),
        }
    }

    fn in_time(&self, now: f64) -> bool {
        now + LEEWAY_SECONDS >= self.not_before.max(self.issued) && now - LEEWAY_SECONDS <= self.expires
    }

    /// What the audit says of a token that its client should have replaced.
    pub(super) fn stale(&self, now: f64) -> Option<String> {
        let after = self.warn_after.filter(|after| now > *after)?;
        let seconds = now as i64 - after as i64;
        Some(format!("subject: {}, seconds after warning threshold: {seconds}", self.user.username))
    }

    /// As what this use counts; None for a token that lasts as long as it was asked for, and soon after another use.
    pub(super) fn counts(&self, now: f64) -> Option<Age> {
        let after = self.warn_after?;
        let until = self.counted.load(Ordering::Relaxed);
        let next = (now + COUNTED_SECONDS).to_bits();
        let is_new = now >= f64::from_bits(until)
            && self.counted.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        is_new.then_some(if now > after { Age::Stale } else { Age::Valid })
    }

    /// The user while the token is in time and all it is bound to is there.
    pub(super) fn user_if_valid(&self, lookup: &dyn ObjectLookup, now: f64) -> Option<Arc<UserInfo>> {
        (self.in_time(now) && self.bonds.iter().all(|bond| bond.holds(lookup, now)))
            .then(|| self.user.clone())
    }
}

#[derive(Deserialize)]
struct Object {
    metadata: ObjectMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectMeta {
    #[serde(default)]
    uid: String,
    deletion_timestamp: Option<String>,
}

impl Bond {
    fn holds(&self, lookup: &dyn ObjectLookup, now: f64) -> bool {
        match lookup.revision(self.kind, &self.key) {
            None => return false,
            Some(revision) if self.checked.load(Ordering::Relaxed) == revision => return true,
            Some(_) => {}
        }
        let Some((revision, json)) = lookup.find(self.kind, &self.key) else { return false };
        let Ok(object) = serde_json::from_slice::<Object>(&json) else { return false };
        if object.metadata.uid != self.uid {
            return false;
        }
        match object.metadata.deletion_timestamp.as_deref().map(unix_seconds) {
            None => {
                self.checked.store(revision, Ordering::Relaxed);
                true
            }
            // What is being deleted stays good for the leeway.
            Some(deleted) => deleted.is_some_and(|at| at >= now - LEEWAY_SECONDS),
        }
    }
}

/// `2026-11-24T00:00:00Z` as Unix seconds; the only form that the API server writes.
fn unix_seconds(text: &str) -> Option<f64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Days from civil, after H. Hinnant's `chrono`-compatible algorithms.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) as f64)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn token(times: &str, private: &str) -> BoundToken {
        let claims = format!(
            r#"{{{times},"kubernetes.io":{{"namespace":"n","serviceaccount":{{"name":"robot","uid":"u"}}{private}}}}}"#
        );
        BoundToken::new(serde_json::from_str(&claims).unwrap(), "system:serviceaccount:n:robot".to_owned())
    }

    #[test]
    fn a_token_counts_from_when_it_was_issued_until_it_expires() {
        for (times, before, within, after) in [
            (r#""nbf":1000,"exp":2000"#, 939.0, 940.0, 2061.0),
            (r#""nbf":0,"iat":1000,"exp":2000"#, 939.0, 940.0, 2061.0),
            (r#""iat":0,"nbf":1000,"exp":2000"#, 939.0, 2060.0, 2061.0),
        ] {
            let token = token(times, "");
            assert_eq!(
                [before, within, after].map(|now| token.in_time(now)),
                [false, true, false],
                "{times}"
            );
        }
    }

    #[test]
    fn a_token_is_stale_once_it_should_have_been_replaced() {
        let token = token(r#""exp":9000"#, r#","warnafter":1000"#);
        assert_eq!(token.stale(1000.0), None);
        let told = "subject: system:serviceaccount:n:robot, seconds after warning threshold: 7";
        assert_eq!(token.stale(1007.9).as_deref(), Some(told));
    }

    #[test]
    fn what_a_token_is_counts_once_in_a_while() {
        let token = token(r#""exp":9000"#, r#","warnafter":1000"#);
        let told: Vec<_> = [985.0, 994.0, 995.0, 1001.0, 1005.0].map(|now| token.counts(now)).into();
        assert_eq!(told, [Some(Age::Valid), None, Some(Age::Valid), None, Some(Age::Stale)]);
    }

    #[test]
    fn a_token_that_lasts_as_long_as_it_was_asked_for_is_neither() {
        for private in ["", r#","warnafter":0"#] {
            let token = token(r#""exp":9000"#, private);
            assert_eq!((token.counts(5.0), token.stale(5.0)), (None, None));
        }
    }

    /// A service account that has been looked at so often.
    struct Account {
        revision: Option<u64>,
        uid: &'static str,
        looks: AtomicU64,
    }

    impl ObjectLookup for Account {
        fn find(&self, kind: BoundKind, key: &str) -> Option<(u64, Bytes)> {
            self.looks.fetch_add(1, Ordering::Relaxed);
            let json = format!(r#"{{"metadata":{{"uid":"{}"}}}}"#, self.uid);
            Some((self.revision(kind, key)?, json.into()))
        }

        fn revision(&self, kind: BoundKind, key: &str) -> Option<u64> {
            assert_eq!((kind, key), (BoundKind::ServiceAccount, "n/robot"));
            self.revision
        }
    }

    #[test]
    fn what_a_token_is_bound_to_is_read_once_for_each_revision() {
        let token = token(r#""exp":9000"#, "");
        let mut account = Account { revision: Some(1), uid: "u", looks: AtomicU64::new(0) };
        for (revision, uid, holds, looks) in [
            (Some(1), "u", true, 1),
            (Some(1), "u", true, 1),
            (Some(2), "u", true, 2),
            (Some(3), "another", false, 3),
            (Some(3), "another", false, 4),
            (None, "u", false, 4),
            (Some(2), "u", true, 4),
        ] {
            (account.revision, account.uid) = (revision, uid);
            assert_eq!(token.user_if_valid(&account, 5.0).is_some(), holds, "{revision:?}");
            assert_eq!(account.looks.load(Ordering::Relaxed), looks, "{revision:?}");
        }
    }

    #[test]
    fn timestamps_become_unix_seconds() {
        assert_eq!(unix_seconds("1970-01-01T00:00:00Z"), Some(0.0));
        assert_eq!(unix_seconds("2024-02-29T12:34:56Z"), Some(1_709_210_096.0));
        assert_eq!(unix_seconds("nonsense"), None);
    }
}
