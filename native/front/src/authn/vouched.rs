//! Tokens that Python has found good, for as long as it said; and where nobody needs one.

use std::sync::Arc;

use http::HeaderValue;
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

/// What is said of a token, good or not, to who comes with it and in the audit.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// The header's value.
    pub warning: Option<HeaderValue>,
    pub annotations: Vec<(String, String)>,
}

#[derive(Default)]
pub(super) struct Vouched {
    /// Users by their tokens, with the Unix seconds until which they count.
    users: RwLock<FxHashMap<Fingerprint, (Arc<UserInfo>, f64)>>,
    remarks: RwLock<FxHashMap<Fingerprint, Arc<Remarks>>>,
}

impl Vouched {
    pub fn has_remarks(&self) -> bool {
        !self.remarks.read().is_empty()
    }

    pub fn remarks(&self, token: &Fingerprint) -> Option<Arc<Remarks>> {
        self.remarks.read().get(token).cloned()
    }

    pub fn remark(&self, token: Fingerprint, remarks: Arc<Remarks>) {
        let mut known = self.remarks.write();
        if known.len() >= LIMIT {
            known.clear();
        }
        known.insert(token, remarks);
    }

    pub fn get(&self, token: &Fingerprint, now: f64) -> Option<(Arc<UserInfo>, f64)> {
        let known = self.users.read();
        known.get(token).filter(|(_, expires)| *expires > now).cloned()
    }

    pub fn put(&self, token: Fingerprint, user: Arc<UserInfo>, expires: f64, now: f64) {
        let mut known = self.users.write();
        if known.len() >= LIMIT {
            known.retain(|_, (_, expires)| *expires > now);
        }
        if known.len() >= LIMIT {
            known.clear();
        }
        known.insert(token, (user, expires));
    }

    pub fn clear(&self) {
        self.users.write().clear();
        self.remarks.write().clear();
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
    fn what_is_remarked_on_a_token_is_forgotten_with_whom_was_vouched_for() {
        let known = Vouched::default();
        assert!(!known.has_remarks());
        let remarks =
            Arc::new(Remarks { warning: None, annotations: vec![("key".to_owned(), "value".to_owned())] });
        known.remark(fingerprint("a"), remarks.clone());
        assert_eq!(
            (known.remarks(&fingerprint("a")), known.remarks(&fingerprint("b"))),
            (Some(remarks), None)
        );
        known.clear();
        assert!(!known.has_remarks());
    }

    #[test]
    fn anonymous_requests_can_be_bound_to_paths() {
        let health = Anonymous::At(vec!["/livez".into()]);
        assert!(health.may_ask("/livez") && !health.may_ask("/livez/etcd") && !health.may_ask("/api"));
        assert!(Anonymous::Everywhere.may_ask("/api") && !Anonymous::Nowhere.may_ask("/livez"));
    }
}
