//! What the front knows from the watch cache: the RBAC policy, kept current, and the objects tokens are bound to.

use std::sync::Arc;

use bytes::Bytes;
use kubecore_core::rbac::{Change, PolicyKind, PolicyStore};
use kubecore_core::watch_cache::{Event, Observer, ResourceCache, WatchCache};

use crate::authn::{BoundKind, ObjectLookup};

/// Feeds published roles and bindings to the policy before the write is acknowledged.
struct PolicyFollower {
    policy: Arc<PolicyStore>,
}

fn policy_kind(resource: &ResourceCache) -> Option<PolicyKind> {
    let info = resource.info();
    (info.group == "rbac.authorization.k8s.io").then(|| PolicyKind::of_resource(&info.plural)).flatten()
}

impl Observer for PolicyFollower {
    fn published(&self, resource: &Arc<ResourceCache>, events: &[Arc<Event>]) {
        let Some(kind) = policy_kind(resource) else { return };
        self.policy.apply(events.iter().map(|event| {
            let object = event.object();
            Change {
                kind,
                namespace: object.namespace(),
                name: object.name(),
                object: (!event.change().is_deletion()).then(|| object.json().as_ref()),
            }
        }));
    }

    fn loaded(&self, resource: &Arc<ResourceCache>) {
        let Some(kind) = policy_kind(resource) else { return };
        let snapshot = resource.snapshot();
        let objects =
            snapshot.iter().map(|object| (object.namespace(), object.name(), object.json().as_ref()));
        self.policy.replace(kind, objects);
    }
}

/// A policy that follows the cache from now on.
pub fn followed_policy(cache: &WatchCache) -> Arc<PolicyStore> {
    let policy = Arc::new(PolicyStore::new());
    cache.observe(Arc::new(PolicyFollower { policy: policy.clone() }));
    policy
}

/// Bound objects straight from the cache.
pub struct CacheLookup(pub Arc<WatchCache>);

impl CacheLookup {
    fn of_kind(&self, kind: BoundKind) -> Option<Arc<ResourceCache>> {
        self.0.resource_by_key(match kind {
            BoundKind::ServiceAccount => "serviceaccounts",
            BoundKind::Pod => "pods",
            BoundKind::Secret => "secrets",
            BoundKind::Node => "nodes",
        })
    }
}

impl ObjectLookup for CacheLookup {
    fn find(&self, kind: BoundKind, key: &str) -> Option<(u64, Bytes)> {
        let object = self.of_kind(kind)?.get_by_key(key)?;
        Some((object.revision(), object.json().clone()))
    }

    fn revision(&self, kind: BoundKind, key: &str) -> Option<u64> {
        self.of_kind(kind)?.revision_of(key)
    }
}
