//! The current policy: read without a lock, replaced by each change.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::edition::Edition;

use super::model::{Binding, BindingObject, RoleObject};
use super::policy::{Policy, Rules, Scope};
use super::rule::CompiledRule;

/// The four kinds that make up the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    Role,
    ClusterRole,
    RoleBinding,
    ClusterRoleBinding,
}

impl PolicyKind {
    /// By plural resource name.
    pub fn of_resource(plural: &str) -> Option<Self> {
        match plural {
            "roles" => Some(Self::Role),
            "clusterroles" => Some(Self::ClusterRole),
            "rolebindings" => Some(Self::RoleBinding),
            "clusterrolebindings" => Some(Self::ClusterRoleBinding),
            _ => None,
        }
    }
}

/// A role or binding put (`object` is its JSON) or deleted (None).
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub kind: PolicyKind,
    pub namespace: &'a str,
    pub name: &'a str,
    pub object: Option<&'a [u8]>,
}

/// Holds the current [`Policy`].
#[derive(Default)]
pub struct PolicyStore {
    current: ArcSwap<Policy>,
    edition: Edition,
    writing: Mutex<()>,
}

impl PolicyStore {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn current(&self) -> Guard<Arc<Policy>> {
        self.current.load()
    }

    /// Of the current policy.
    pub fn edition(&self) -> &Edition {
        &self.edition
    }

    fn put(&self, next: Policy) {
        self.current.store(Arc::new(next));
        self.edition.renew();
    }

    /// Applies changes in order, as one. An object that cannot be read grants nothing.
    pub fn apply<'a>(&self, changes: impl IntoIterator<Item = Change<'a>>) {
        let _writing = self.writing.lock();
        let mut next = Policy::clone(&self.current.load());
        for change in changes {
            apply_one(&mut next, change);
        }
        self.put(next);
    }

    /// Puts `objects` (namespace, name, JSON) in the place of all objects of the kind.
    pub fn replace<'a>(
        &self,
        kind: PolicyKind,
        objects: impl IntoIterator<Item = (&'a str, &'a str, &'a [u8])>,
    ) {
        let _writing = self.writing.lock();
        let mut next = Policy::clone(&self.current.load());
        next.clear(kind);
        for (namespace, name, json) in objects {
            apply_one(&mut next, Change { kind, namespace, name, object: Some(json) });
        }
        self.put(next);
    }
}

fn apply_one(policy: &mut Policy, change: Change<'_>) {
    let cluster = matches!(change.kind, PolicyKind::ClusterRole | PolicyKind::ClusterRoleBinding);
    let scope = if cluster {
        Arc::make_mut(&mut policy.cluster)
    } else {
        Arc::make_mut(policy.namespaces.entry(change.namespace.into()).or_default())
    };
    match change.kind {
        PolicyKind::Role | PolicyKind::ClusterRole => put_role(scope, change),
        PolicyKind::RoleBinding | PolicyKind::ClusterRoleBinding => put_binding(scope, change, cluster),
    }
    if !cluster && scope.is_empty() {
        policy.namespaces.remove(change.namespace);
    }
}

fn put_role(scope: &mut Scope, change: Change<'_>) {
    let role = change.object.and_then(|json| serde_json::from_slice::<RoleObject>(json).ok());
    match role {
        Some(role) => {
            let rules: Rules = role.rules.into_iter().map(CompiledRule::new).collect();
            scope.roles.insert(change.name.into(), rules);
        }
        None => {
            scope.roles.remove(change.name);
        }
    }
}

fn put_binding(scope: &mut Scope, change: Change<'_>, cluster: bool) {
    let namespace = if cluster { "" } else { change.namespace };
    let binding = change.object.and_then(|json| serde_json::from_slice::<BindingObject>(json).ok());
    match binding {
        Some(object) => scope.put_binding(Binding::new(namespace, change.name, object)),
        None => scope.remove_binding(change.name),
    }
}
