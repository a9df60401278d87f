//! The right by which something goes on that lasts: looked at again whenever the policy has become another one.

use std::sync::Arc;

use kubecore_core::authn::UserInfo;
use kubecore_core::rbac::Policy;

use super::{Authorizer, Selectors};
use crate::exchange::attributes_of;
use crate::request_info::RequestInfo;

pub struct HeldRight {
    authorizer: Arc<Authorizer>,
    user: Arc<UserInfo>,
    info: Arc<RequestInfo>,
    selectors: Selectors,
    /// The policy under which it was seen last.
    seen: Arc<Policy>,
}

impl HeldRight {
    /// Of a user who has just been allowed what the request asks.
    pub fn new(
        authorizer: Arc<Authorizer>,
        user: Arc<UserInfo>,
        info: Arc<RequestInfo>,
        selectors: Selectors,
    ) -> Self {
        let seen = Arc::clone(&authorizer.policy().current());
        Self { authorizer, user, info, selectors, seen }
    }

    /// Whether it would be refused now. What other modes than RBAC's decide elsewhere goes on.
    pub fn has_lapsed(&mut self) -> bool {
        {
            let current = self.authorizer.policy().current();
            if Arc::ptr_eq(&current, &self.seen) {
                return false;
            }
            self.seen = Arc::clone(&current);
        }
        let selectors = || self.selectors.clone();
        self.authorizer.decide(&self.user, &attributes_of(&self.info), selectors, None).refuses()
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use kubecore_core::clock::Clock;
    use kubecore_core::rbac::{Change, PolicyKind, PolicyStore};

    use super::*;

    fn put<'a>(kind: PolicyKind, name: &'a str, object: Option<&'a [u8]>) -> [Change<'a>; 1] {
        [Change { kind, namespace: "", name, object }]
    }

    #[test]
    fn a_right_lapses_with_the_binding_that_gave_it() {
        let policy = Arc::new(PolicyStore::new());
        let role = br#"{"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["watch"]}]}"#;
        let binding =
            br#"{"subjects":[{"kind":"User","name":"jane"}],"roleRef":{"kind":"ClusterRole","name":"r"}}"#;
        policy.apply(put(PolicyKind::ClusterRole, "r", Some(role)));
        policy.apply(put(PolicyKind::ClusterRoleBinding, "b", Some(binding)));
        let authorizer = Arc::new(Authorizer::new(policy.clone(), Clock::system()));
        let info = RequestInfo::parse(&Method::GET, "/api/v1/pods", "watch=1").unwrap();
        let jane = Arc::new(UserInfo::new("jane", &[]));
        let mut right = HeldRight::new(authorizer, jane, info.into(), Selectors::default());
        assert!(!right.has_lapsed());
        policy.apply(put(PolicyKind::ClusterRole, "other", Some(role)));
        assert!(!right.has_lapsed());
        policy.apply(put(PolicyKind::ClusterRoleBinding, "b", None));
        assert!(right.has_lapsed());
    }
}
