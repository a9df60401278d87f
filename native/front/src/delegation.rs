//! Group versions that another server answers requests for.

use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use rustc_hash::FxHashSet;

use crate::request_info::RequestInfo;

#[derive(Default)]
pub struct Delegation {
    versions: ArcSwap<FxHashSet<(String, String)>>,
    /// Few servers have any: then this is all that a request looks at.
    is_any: AtomicBool,
}

impl Delegation {
    /// All of them, as (group, version).
    pub fn replace(&self, versions: impl IntoIterator<Item = (String, String)>) {
        let versions: FxHashSet<_> = versions.into_iter().collect();
        let is_any = !versions.is_empty();
        self.versions.store(versions.into());
        self.is_any.store(is_any, Ordering::Release);
    }

    pub fn is_any(&self) -> bool {
        self.is_any.load(Ordering::Acquire)
    }

    /// Whether the path is that of such a version, or below it.
    pub fn covers(&self, info: &RequestInfo) -> bool {
        if !self.is_any() {
            return false;
        }
        let versions = self.versions.load();
        let (group, version) = if info.is_resource() {
            (info.group(), info.version())
        } else {
            let mut parts = info.path().trim_matches('/').split('/');
            match (parts.next(), parts.next(), parts.next()) {
                (Some("apis"), Some(group), Some(version)) => (group, version),
                _ => return false,
            }
        };
        versions.iter().any(|(own_group, own_version)| own_group == group && own_version == version)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn covers(path: &str) -> bool {
        let delegation = Delegation::default();
        delegation.replace([("wardle.example.com".to_owned(), "v1".to_owned())]);
        delegation.covers(&RequestInfo::parse(&Method::GET, path, "").unwrap())
    }

    #[test]
    fn what_is_below_a_delegated_version_is_delegated() {
        assert!(covers("/apis/wardle.example.com/v1"));
        assert!(covers("/apis/wardle.example.com/v1/"));
        assert!(covers("/apis/wardle.example.com/v1/flunders"));
        assert!(covers("/apis/wardle.example.com/v1/namespaces/a/flunders/b/status"));
    }

    #[test]
    fn what_nobody_else_serves_any_more_is_our_own() {
        let (delegation, info) =
            (Delegation::default(), RequestInfo::parse(&Method::GET, "/apis/a/v1/b", "").unwrap());
        assert!(!delegation.covers(&info));
        delegation.replace([("a".to_owned(), "v1".to_owned())]);
        assert!(delegation.is_any() && delegation.covers(&info));
        delegation.replace([]);
        assert!(!delegation.is_any() && !delegation.covers(&info));
    }

    #[test]
    fn groups_and_other_versions_are_not() {
        assert!(!covers("/apis/wardle.example.com"));
        assert!(!covers("/apis/wardle.example.com/v2/flunders"));
        assert!(!covers("/apis/wardle.example.com/v11"));
        assert!(!covers("/api/v1/pods"));
        assert!(!covers("/openapi/v3/apis/wardle.example.com/v1"));
    }
}
