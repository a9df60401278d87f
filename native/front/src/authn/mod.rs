//! Who asks: a proxy's user, client certificate, then bearer token, then nobody, as Kubernetes' union of authenticators.
//! What is not known here Python judges, whose decisions are remembered for a while.

mod certificate;
mod expirations;
mod front_proxy;
mod jwt;
mod service_account;
mod token_counts;
mod vouched;
mod websocket;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use kubecore_core::authn::UserInfo;
use kubecore_core::clock::Clock;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;

pub use certificate::{ClientCa, ClientIdentity};
use expirations::Expirations;
pub use front_proxy::FrontProxy;
pub use jwt::{KeyError, PublicKey, claims};
pub use service_account::{BoundToken, ServiceAccountIssuer};
pub use token_counts::TokenCounts;
pub use vouched::Anonymous;
pub use vouched::Remarks;
use vouched::{Fingerprint, Vouched, fingerprint};
pub use websocket::take_offered_token;

/// What the audit says of tokens that should have been replaced.
const STALE_TOKEN: &str = "authentication.k8s.io/stale-token";

/// The outcome for one request.
#[derive(Clone, Debug)]
pub enum Outcome {
    User(Arc<UserInfo>),
    /// Credentials were shown and are bad, or anonymous requests are not allowed.
    Rejected,
    /// A token of a kind not known here: Python must judge it.
    Unknown,
}

/// The kinds of objects a service account token can be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundKind {
    ServiceAccount,
    Pod,
    Secret,
    Node,
}

/// Finds the object that a token is bound to, by its namespace and name (`a/b`, or the name alone): revision and JSON.
pub trait ObjectLookup: Send + Sync {
    fn find(&self, kind: BoundKind, key: &str) -> Option<(u64, Bytes)>;

    /// Its revision alone.
    fn revision(&self, kind: BoundKind, key: &str) -> Option<u64>;
}

/// A bearer token that was found good; what can change is checked at each use.
#[derive(Clone)]
enum GoodToken {
    Kept(Arc<UserInfo>),
    Vouched { user: Arc<UserInfo>, expires: f64 },
    Bound(Arc<BoundToken>),
}

/// The last token of a connection, so that it is verified once and not per request.
#[derive(Default)]
pub struct TokenMemo(Mutex<Option<(HeaderValue, u64, GoodToken)>>);

pub struct Authenticator {
    clock: Clock,
    lookup: Arc<dyn ObjectLookup>,
    client_ca: ArcSwapOption<ClientCa>,
    issuer: ArcSwapOption<ServiceAccountIssuer>,
    front_proxy: ArcSwapOption<FrontProxy>,
    /// Tokens that are good for the API until they are forgotten.
    kept: RwLock<FxHashMap<Fingerprint, Arc<UserInfo>>>,
    /// Tokens that Python has found good.
    vouched: Vouched,
    /// Counts changes of the above; what connections remember from before is void.
    generation: AtomicU64,
    delegate: AtomicBool,
    anonymous: ArcSwap<Anonymous>,
    anonymous_user: Arc<UserInfo>,
    pub expirations: Expirations,
    pub tokens: TokenCounts,
}

impl Authenticator {
    pub fn new(clock: Clock, lookup: Arc<dyn ObjectLookup>) -> Self {
        Self {
            clock,
            lookup,
            client_ca: ArcSwapOption::empty(),
            issuer: ArcSwapOption::empty(),
            front_proxy: ArcSwapOption::empty(),
            kept: RwLock::default(),
            vouched: Vouched::default(),
            generation: AtomicU64::new(1),
            delegate: AtomicBool::new(false),
            anonymous: ArcSwap::from_pointee(Anonymous::Everywhere),
            anonymous_user: Arc::new(UserInfo::anonymous()),
            expirations: Expirations::default(),
            tokens: TokenCounts::default(),
        }
    }

    pub fn set_client_ca(&self, ca: ClientCa) {
        self.client_ca.store(Some(Arc::new(ca)));
        self.changed();
    }

    pub fn set_service_account_issuer(&self, issuer: ServiceAccountIssuer) {
        self.issuer.store(Some(Arc::new(issuer)));
        self.changed();
    }

    pub fn set_front_proxy(&self, proxy: Option<FrontProxy>) {
        self.front_proxy.store(proxy.map(Arc::new));
        self.changed();
    }

    /// Whether a proxy in front would tell of a user in this header.
    pub fn is_told_by_proxies(&self, name: &HeaderName) -> bool {
        self.front_proxy.load().as_ref().is_some_and(|proxy| proxy.tells_in(name))
    }

    /// A token that is good for the API's own audiences until it is forgotten.
    pub fn keep_token(&self, token: &str, user: UserInfo) {
        self.kept.write().insert(fingerprint(token), Arc::new(user.with_authenticated_group()));
        self.changed();
    }

    pub fn forget_token(&self, token: &str) {
        self.kept.write().remove(&fingerprint(token));
        self.changed();
    }

    /// A token that Python has found good; `expires` in Unix seconds.
    pub fn vouch(&self, token: &str, user: UserInfo, expires: f64) {
        self.vouched.put(fingerprint(token), Arc::new(user.with_authenticated_group()), expires, self.now());
    }

    /// What is said of a token whenever somebody comes with it, until all that was vouched for is forgotten.
    pub fn remark(&self, token: &str, remarks: Remarks) {
        self.vouched.remark(fingerprint(token), Arc::new(remarks));
    }

    /// Of the token in these headers.
    pub fn remarks(&self, headers: &HeaderMap) -> Option<Arc<Remarks>> {
        let (has_remarks, has_stale) = (self.vouched.has_remarks(), self.tokens.has_stale());
        if !has_remarks && !has_stale {
            return None;
        }
        let token = bearer(headers.get(AUTHORIZATION)?)?;
        let known = if has_remarks { self.vouched.remarks(&fingerprint(token)) } else { None };
        known.or_else(|| if has_stale { self.remark_on_stale(token) } else { None })
    }

    /// Of a token that is good, and that its client should have replaced.
    fn remark_on_stale(&self, token: &str) -> Option<Arc<Remarks>> {
        let now = self.now();
        let (bound, _) = self.issuer.load_full()?.good_token(token, now)?;
        let told = bound.stale(now)?;
        bound.user_if_valid(&*self.lookup, now)?;
        Some(Arc::new(Remarks { warning: None, annotations: vec![(STALE_TOKEN.to_owned(), told)] }))
    }

    /// Python is to judge again what it has found good.
    pub fn forget_vouched(&self) {
        self.vouched.clear();
        self.changed();
    }

    /// Whether tokens of unknown kinds are Python's to judge.
    pub fn set_delegate(&self, delegate: bool) {
        self.delegate.store(delegate, Ordering::Relaxed);
    }

    pub fn set_anonymous(&self, anonymous: Anonymous) {
        self.anonymous.store(Arc::new(anonymous));
    }

    /// Judges the credentials of one request for `path`.
    pub fn authenticate(
        &self,
        identity: Option<&ClientIdentity>,
        memo: &TokenMemo,
        headers: &HeaderMap,
        path: &str,
        asked: Instant,
    ) -> Outcome {
        let proxied = identity.map_or(Ok(None), |identity| self.proxied_user(identity, headers));
        if let Ok(Some(user)) = proxied {
            return Outcome::User(user);
        }
        let certificate = identity.map_or(Ok(None), |identity| self.certificate_user(identity));
        if let Ok(Some(user)) = certificate {
            return Outcome::User(user);
        }
        if let Some(value) = headers.get(AUTHORIZATION) {
            if let Some(outcome) = self.remembered(memo, value, asked) {
                return outcome;
            }
            if let Some(token) = bearer(value) {
                return self.judged_token(memo, value, token, asked);
            }
        }
        // Of credentials, bad ones make a request nobody's, not an anonymous one.
        let is_refused = proxied.is_err() || certificate.is_err() || websocket::offered(headers).is_err();
        if is_refused { Outcome::Rejected } else { self.nobody(path) }
    }

    /// The user of a token that is known here for good, and those of `audiences` (those of the API when empty) that it
    /// is meant for, one at least. What Python has vouched for it must judge anew, for other audiences.
    pub fn review(&self, token: &str, audiences: &[String]) -> Option<(Arc<UserInfo>, Vec<String>)> {
        let issuer = self.issuer.load_full()?;
        let wanted = if audiences.is_empty() { issuer.audiences() } else { audiences };
        if let Some(user) = self.kept_user(token) {
            let fitting: Vec<String> =
                wanted.iter().filter(|audience| issuer.audiences().contains(audience)).cloned().collect();
            return (!fitting.is_empty()).then_some((user, fitting));
        }
        let now = self.now();
        let (bound, fitting) = issuer.verify(token, wanted, now).ok()?;
        Some((self.bound_user(&bound, now)?, fitting))
    }

    /// As `certificate_user`, of a proxy and the headers it has set.
    fn proxied_user(
        &self,
        identity: &ClientIdentity,
        headers: &HeaderMap,
    ) -> Result<Option<Arc<UserInfo>>, certificate::Refused> {
        match &*self.front_proxy.load() {
            Some(proxy) => {
                identity.speaks_for(proxy, self.generation(), self.now()).map(|()| proxy.user(headers))
            }
            None => Ok(None),
        }
    }

    fn certificate_user(
        &self,
        identity: &ClientIdentity,
    ) -> Result<Option<Arc<UserInfo>>, certificate::Refused> {
        match &*self.client_ca.load() {
            Some(ca) => {
                let (user, holds) = identity.user(ca, self.generation(), self.now())?;
                self.expirations.observe(holds);
                Ok(user)
            }
            None => Ok(None),
        }
    }

    /// Who comes with the same header as the last one of the connection, if nothing has changed since.
    fn remembered(&self, memo: &TokenMemo, value: &HeaderValue, asked: Instant) -> Option<Outcome> {
        let good = match &*memo.0.lock() {
            Some((known, of, good)) if *of == self.generation() && known == value => good.clone(),
            _ => return None,
        };
        // What Python vouched for may have to be judged again.
        if self.is_over(&good) {
            return None;
        }
        self.tokens.remembered();
        Some(self.outcome(&good, asked))
    }

    fn judged_token(&self, memo: &TokenMemo, value: &HeaderValue, token: &str, asked: Instant) -> Outcome {
        let generation = self.generation();
        match self.verify(token) {
            Some(good) => {
                *memo.0.lock() = Some((value.clone(), generation, good.clone()));
                self.outcome(&good, asked)
            }
            None => self.unknown(),
        }
    }

    /// None for a token that is not known to be good here, whatever it is: others may know it.
    fn verify(&self, token: &str) -> Option<GoodToken> {
        if let Some(user) = self.kept_user(token) {
            self.tokens.remembered();
            return Some(GoodToken::Kept(user));
        }
        let began = Instant::now();
        let issuer = self.issuer.load_full();
        if let Some((bound, is_new)) = issuer.and_then(|issuer| issuer.good_token(token, self.now())) {
            if is_new {
                self.tokens.fetching();
                self.tokens.fetched(true, began.elapsed());
            } else {
                self.tokens.remembered();
            }
            return Some(GoodToken::Bound(bound));
        }
        let (user, expires) = self.vouched.get(&fingerprint(token), self.now())?;
        self.tokens.remembered();
        Some(GoodToken::Vouched { user, expires })
    }

    fn is_over(&self, token: &GoodToken) -> bool {
        matches!(token, GoodToken::Vouched { expires, .. } if *expires <= self.now())
    }

    fn outcome(&self, token: &GoodToken, asked: Instant) -> Outcome {
        match token {
            GoodToken::Kept(user) | GoodToken::Vouched { user, .. } => Outcome::User(user.clone()),
            GoodToken::Bound(bound) => {
                let now = self.clock.unix_at(asked).as_secs_f64();
                self.bound_user(bound, now).map_or(Outcome::Rejected, Outcome::User)
            }
        }
    }

    fn bound_user(&self, bound: &BoundToken, now: f64) -> Option<Arc<UserInfo>> {
        let user = bound.user_if_valid(&*self.lookup, now)?;
        if let Some(age) = bound.counts(now) {
            self.tokens.of_age(age);
        }
        Some(user)
    }

    fn kept_user(&self, token: &str) -> Option<Arc<UserInfo>> {
        let kept = self.kept.read();
        if kept.is_empty() {
            return None;
        }
        kept.get(&fingerprint(token)).cloned()
    }

    fn unknown(&self) -> Outcome {
        if self.delegate.load(Ordering::Relaxed) { Outcome::Unknown } else { Outcome::Rejected }
    }

    fn nobody(&self, path: &str) -> Outcome {
        if self.anonymous.load().may_ask(path) {
            Outcome::User(self.anonymous_user.clone())
        } else {
            Outcome::Rejected
        }
    }

    fn now(&self) -> f64 {
        self.clock.unix().as_secs_f64()
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

/// The token of a `Bearer` header, up to the next space; other schemes count as no credentials.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?.trim();
    let (scheme, rest) = text.split_once(' ')?;
    let token = rest.split(' ').next()?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Whether there is one space too many before the token, which does not count then (apiserver
/// `pkg/authentication/request/bearertoken`).
pub fn is_spaced(headers: &HeaderMap) -> bool {
    let text = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("").trim();
    text.split_once(' ')
        .is_some_and(|(scheme, rest)| scheme.eq_ignore_ascii_case("bearer") && rest.starts_with(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bearer_headers_hold_tokens() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc ", Some("abc")),
            ("Bearer abc def", Some("abc")),
            ("Bearer  abc", None),
            ("Bearer ", None),
            ("Basic abc", None),
            ("abc", None),
        ] {
            assert_eq!(bearer(&HeaderValue::from_static(value)), token, "{value}");
        }
    }
}
