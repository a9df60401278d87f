//! Who asks: client certificate, then bearer token, then nobody, as Kubernetes' union of authenticators.

mod certificate;
mod jwt;
mod service_account;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use kubecore_core::authn::UserInfo;
use kubecore_core::clock::Clock;
use parking_lot::{Mutex, RwLock};
use ring::digest::{SHA256, digest};
use rustc_hash::FxHashMap;

pub use certificate::{ClientCa, ClientIdentity};
pub use jwt::{KeyError, PublicKey, claims};
pub use service_account::{BoundToken, ServiceAccountIssuer};

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

/// Finds the object that a token is bound to: revision and JSON.
pub trait ObjectLookup: Send + Sync {
    fn find(&self, kind: BoundKind, namespace: &str, name: &str) -> Option<(u64, Bytes)>;
}

/// A bearer token that was found good; what can change is checked at each use.
#[derive(Clone)]
enum GoodToken {
    Put { user: Arc<UserInfo>, expires: f64 },
    Bound(Arc<BoundToken>),
}

/// The last token of a connection, so that it is verified once and not per request.
#[derive(Default)]
pub struct TokenMemo(Mutex<Option<(HeaderValue, u64, GoodToken)>>);

/// SHA-256 of a token.
type Fingerprint = [u8; 32];
/// A user Python has vouched for, and until when in Unix seconds.
type Vouched = (Arc<UserInfo>, f64);

pub struct Authenticator {
    clock: Clock,
    lookup: Arc<dyn ObjectLookup>,
    client_ca: ArcSwapOption<ClientCa>,
    issuer: ArcSwapOption<ServiceAccountIssuer>,
    tokens: RwLock<FxHashMap<Fingerprint, Vouched>>,
    /// Counts changes of the above; what connections remember from before is void.
    generation: AtomicU64,
    delegate: AtomicBool,
    anonymous: AtomicBool,
    anonymous_user: Arc<UserInfo>,
}

impl Authenticator {
    pub fn new(clock: Clock, lookup: Arc<dyn ObjectLookup>) -> Self {
        Self {
            clock,
            lookup,
            client_ca: ArcSwapOption::empty(),
            issuer: ArcSwapOption::empty(),
            tokens: RwLock::default(),
            generation: AtomicU64::new(1),
            delegate: AtomicBool::new(false),
            anonymous: AtomicBool::new(true),
            anonymous_user: Arc::new(UserInfo::anonymous()),
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

    /// `expires` in Unix seconds.
    pub fn put_token(&self, token: &str, user: UserInfo, expires: f64) {
        let now = self.now();
        let mut tokens = self.tokens.write();
        tokens.retain(|_, (_, expiry)| *expiry > now);
        tokens.insert(fingerprint(token), (Arc::new(user.with_authenticated_group()), expires));
        drop(tokens);
        self.changed();
    }

    pub fn forget_token(&self, token: &str) {
        self.tokens.write().remove(&fingerprint(token));
        self.changed();
    }

    /// Whether tokens of unknown kinds are Python's to judge.
    pub fn set_delegate(&self, delegate: bool) {
        self.delegate.store(delegate, Ordering::Relaxed);
    }

    pub fn set_anonymous(&self, enabled: bool) {
        self.anonymous.store(enabled, Ordering::Relaxed);
    }

    /// Judges the credentials of one request.
    pub fn authenticate(
        &self,
        identity: Option<&ClientIdentity>,
        memo: &TokenMemo,
        headers: &HeaderMap,
    ) -> Outcome {
        let certificate = identity.map_or(Ok(None), |identity| self.certificate_user(identity));
        if let Ok(Some(user)) = certificate {
            return Outcome::User(user);
        }
        if let Some(value) = headers.get(AUTHORIZATION)
            && let Some(token) = bearer(value)
        {
            return self.remembered_token(memo, value, token);
        }
        if certificate.is_err() { Outcome::Rejected } else { self.nobody() }
    }

    /// The same for credentials that came another way (gRPC).
    pub fn authenticate_parts(&self, token: Option<&str>, certificate_der: Option<&[u8]>) -> Outcome {
        let identity = certificate_der.map(|der| ClientIdentity::new(vec![der.to_vec().into()]));
        let certificate = identity.as_ref().map_or(Ok(None), |identity| self.certificate_user(identity));
        match (certificate, token) {
            (Ok(Some(user)), _) => Outcome::User(user),
            (_, Some(token)) => match self.verify(token) {
                Judgement::Good(good) => self.still_good(&good).map_or(Outcome::Rejected, Outcome::User),
                Judgement::Bad => Outcome::Rejected,
                Judgement::Unknown => self.unknown(),
            },
            (Err(_), None) => Outcome::Rejected,
            (Ok(None), None) => self.nobody(),
        }
    }

    /// The user of a token and those of `audiences` (all configured ones when empty) that it is meant for.
    pub fn review(&self, token: &str, audiences: &[String]) -> Option<(Arc<UserInfo>, Vec<String>)> {
        if let Some(user) = self.put_user(token) {
            return Some((user, audiences.to_vec()));
        }
        let issuer = self.issuer.load_full()?;
        let wanted = if audiences.is_empty() { issuer.audiences() } else { audiences };
        let (bound, fitting) = issuer.verify(token, wanted, self.now()).ok()?;
        let user = bound.user_if_valid(&*self.lookup, self.now())?;
        Some((user, fitting))
    }

    fn certificate_user(
        &self,
        identity: &ClientIdentity,
    ) -> Result<Option<Arc<UserInfo>>, certificate::Refused> {
        match &*self.client_ca.load() {
            Some(ca) => identity.user(ca, self.generation(), self.now()),
            None => Ok(None),
        }
    }

    fn remembered_token(&self, memo: &TokenMemo, value: &HeaderValue, token: &str) -> Outcome {
        let generation = self.generation();
        let remembered = match &*memo.0.lock() {
            Some((known, of, good)) if *of == generation && known == value => Some(good.clone()),
            _ => None,
        };
        let good = match remembered {
            Some(good) => good,
            None => match self.verify(token) {
                Judgement::Good(good) => {
                    *memo.0.lock() = Some((value.clone(), generation, good.clone()));
                    good
                }
                Judgement::Bad => return Outcome::Rejected,
                Judgement::Unknown => return self.unknown(),
            },
        };
        self.still_good(&good).map_or(Outcome::Rejected, Outcome::User)
    }

    fn verify(&self, token: &str) -> Judgement {
        if let Some((user, expires)) = self.tokens.read().get(&fingerprint(token)) {
            return Judgement::Good(GoodToken::Put { user: user.clone(), expires: *expires });
        }
        let Some(issuer) = self.issuer.load_full() else { return Judgement::Unknown };
        match issuer.verify(token, issuer.audiences(), self.now()) {
            Ok((bound, _)) => Judgement::Good(GoodToken::Bound(Arc::new(bound))),
            Err(jwt::Refused::Foreign) => Judgement::Unknown,
            Err(jwt::Refused::Bad) => Judgement::Bad,
        }
    }

    fn still_good(&self, token: &GoodToken) -> Option<Arc<UserInfo>> {
        match token {
            GoodToken::Put { user, expires } => (*expires > self.now()).then(|| user.clone()),
            GoodToken::Bound(bound) => bound.user_if_valid(&*self.lookup, self.now()),
        }
    }

    fn put_user(&self, token: &str) -> Option<Arc<UserInfo>> {
        let tokens = self.tokens.read();
        let (user, expires) = tokens.get(&fingerprint(token))?;
        (*expires > self.now()).then(|| user.clone())
    }

    fn unknown(&self) -> Outcome {
        if self.delegate.load(Ordering::Relaxed) { Outcome::Unknown } else { Outcome::Rejected }
    }

    fn nobody(&self) -> Outcome {
        if self.anonymous.load(Ordering::Relaxed) {
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

/// What a first look at a token gives.
enum Judgement {
    Good(GoodToken),
    Bad,
    Unknown,
}

/// Tokens are kept as digests, so that the memory holds none.
fn fingerprint(token: &str) -> Fingerprint {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    out
}

/// The token of a `Bearer` header; other schemes count as no credentials.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?.trim();
    let (scheme, token) = text.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bearer_headers_hold_tokens() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Bearer ", None),
            ("Basic abc", None),
            ("abc", None),
        ] {
            assert_eq!(bearer(&HeaderValue::from_static(value)), token, "{value}");
        }
    }
}
