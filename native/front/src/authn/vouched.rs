//! Tokens that Python has found good, for as long as it said; and where nobody needs one.

use std::sync::Arc;

use kubecore_core::authn::UserInfo;
use parking_lot::RwLock;
use ring::digest::{SHA256, digest};
use rustc_hash::FxHashMap;

/// As upstream's cache of token decisions.
const LIMIT: usize = 32 * 1024;

/// SHA-256 of a token, so that the memory holds none.
pub(super) type Fingerprint = [u8; 32];

pub(super) fn fingerprint(token: &str) -> Fingerprint {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    out
}

/// Users by their tokens, with the Unix seconds until which they count.
#[derive(Default)]
pub(super) struct Vouched(RwLock<FxHashMap<Fingerprint, (Arc<UserInfo>, f64)>>);

impl Vouched {
    pub fn get(&self, token: &Fingerprint, now: f64) -> Option<(Arc<UserInfo>, f64)> {
        let known = self.0.read();
        known.get(token).filter(|(_, expires)| *expires > now).cloned()
    }

    pub fn put(&self, token: Fingerprint, user: Arc<UserInfo>, expires: f64, now: f64) {
        let mut known = self.0.write();
        if known.len() >= LIMIT {
            known.retain(|_, (_, expires)| *expires > now);
        }
        if known.len() >= LIMIT {
            known.clear();
        }
        known.insert(token, (user, expires));
    }

    pub fn clear(&self) {
        self.0.write().clear();
    }
}

/// Where requests without credentials are anyone's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anonymous {
    Nowhere,
    Everywhere,
    /// At exactly these paths.
    At(Vec<String>),
}

impl Anonymous {
    pub(super) fn may_ask(&self, path: &str) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Everywhere => true,
            Self::At(paths) => paths.iter().any(|known| known == path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_until_it_expires() {
        let known = Vouched::default();
        known.put(fingerprint("a"), Arc::new(UserInfo::new("jane", &[])), 10.0, 0.0);
        assert_eq!(known.get(&fingerprint("a"), 9.0).unwrap().0.username, "jane");
        assert!(known.get(&fingerprint("a"), 10.0).is_none());
        assert!(known.get(&fingerprint("b"), 9.0).is_none());
    }

    #[test]
    fn anonymous_requests_can_be_bound_to_paths() {
        let health = Anonymous::At(vec!["/livez".into()]);
        assert!(health.may_ask("/livez") && !health.may_ask("/livez/etcd") && !health.may_ask("/api"));
        assert!(Anonymous::Everywhere.may_ask("/api") && !Anonymous::Nowhere.may_ask("/livez"));
    }
}
