//! An immutable state of all roles and bindings, and the decision over it.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Attributes;
use super::model::{Binding, Principal};
use super::rule::{CompiledRule, Verb};
use super::store::PolicyKind;
use crate::authn::UserInfo;

/// The rules of one role.
pub(super) type Rules = Arc<[CompiledRule]>;

/// What RBAC says. It has no opinion where it does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    NoOpinion,
}

/// Roles and bindings of one namespace, or of the cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    pub roles: FxHashMap<Box<str>, Rules>,
    pub bindings: FxHashMap<Box<str>, Arc<Binding>>,
    by_user: FxHashMap<Box<str>, Vec<Arc<Binding>>>,
    by_group: FxHashMap<Box<str>, Vec<Arc<Binding>>>,
}

impl Scope {
    pub fn put_binding(&mut self, binding: Binding) {
        self.remove_binding(&binding.name);
        let binding = Arc::new(binding);
        for subject in &binding.subjects {
            let (index, name) = match subject.principal(&binding.namespace) {
                Some(Principal::User(name)) => (&mut self.by_user, name),
                Some(Principal::Group(name)) => (&mut self.by_group, name),
                None => continue,
            };
            let entry = index.entry(name.into()).or_default();
            if !entry.iter().any(|held| Arc::ptr_eq(held, &binding)) {
                entry.push(binding.clone());
                entry.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
        self.bindings.insert(binding.name.clone(), binding);
    }

    pub fn remove_binding(&mut self, name: &str) {
        let Some(old) = self.bindings.remove(name) else { return };
        for subject in &old.subjects {
            let (index, name) = match subject.principal(&old.namespace) {
                Some(Principal::User(name)) => (&mut self.by_user, name),
                Some(Principal::Group(name)) => (&mut self.by_group, name),
                None => continue,
            };
            if let Some(entry) = index.get_mut(name.as_str()) {
                entry.retain(|held| !Arc::ptr_eq(held, &old));
                if entry.is_empty() {
                    index.remove(name.as_str());
                }
            }
        }
    }

    fn clear(&mut self, roles: bool) {
        if roles {
            self.roles.clear();
        } else {
            *self = Self { roles: std::mem::take(&mut self.roles), ..Self::default() };
        }
    }

    pub fn is_empty(&self) -> bool {
        self.roles.is_empty() && self.bindings.is_empty()
    }

    /// The bindings of a user by its name and groups; one that names both comes twice.
    fn bindings_of<'a>(&'a self, user: &'a UserInfo) -> impl Iterator<Item = &'a Arc<Binding>> {
        let of_user = self.by_user.get(user.username.as_str());
        let of_groups = user.groups.iter().filter_map(|group| self.by_group.get(group.as_str()));
        of_user.into_iter().chain(of_groups).flatten()
    }
}

/// All roles and bindings at one moment.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub(super) cluster: Arc<Scope>,
    pub(super) namespaces: FxHashMap<Box<str>, Arc<Scope>>,
}

impl Policy {
    /// Forgets all objects of the kind.
    pub(super) fn clear(&mut self, kind: PolicyKind) {
        let roles = matches!(kind, PolicyKind::Role | PolicyKind::ClusterRole);
        if matches!(kind, PolicyKind::ClusterRole | PolicyKind::ClusterRoleBinding) {
            Arc::make_mut(&mut self.cluster).clear(roles);
            return;
        }
        self.namespaces.values_mut().for_each(|scope| Arc::make_mut(scope).clear(roles));
        self.namespaces.retain(|_, scope| !scope.is_empty());
    }

    /// Whether any rule bound to the user allows it.
    pub fn decide(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        if self.allowing(user, attributes).is_some() { Decision::Allowed } else { Decision::NoOpinion }
    }

    /// The decision with its reason in Kubernetes' words; errors met on the way are the reason of a refusal.
    pub fn explain(&self, user: &UserInfo, attributes: &Attributes<'_>) -> (Decision, String) {
        if let Some(binding) = self.allowing(user, attributes) {
            return (Decision::Allowed, binding.reason(&user.username, &user.groups).to_owned());
        }
        let mut errors = Vec::new();
        self.visit(user, attributes.namespace, |_, rules| {
            if let Err(error) = rules
                && !errors.contains(&error)
            {
                errors.push(error);
            }
        });
        let reason = match errors.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        };
        (Decision::NoOpinion, reason)
    }

    fn allowing<'a>(&'a self, user: &'a UserInfo, attributes: &Attributes<'_>) -> Option<&'a Arc<Binding>> {
        let verb = Verb::new(attributes.verb);
        self.bindings(user, attributes.namespace).find(|binding| {
            self.rules_of(binding).is_some_and(|rules| rules.iter().any(|rule| rule.allows(attributes, verb)))
        })
    }

    /// Every binding of the user that counts in the namespace, the cluster's first.
    fn bindings<'a>(&'a self, user: &'a UserInfo, namespace: &str) -> impl Iterator<Item = &'a Arc<Binding>> {
        let scoped = if namespace.is_empty() { None } else { self.namespaces.get(namespace) };
        self.cluster.bindings_of(user).chain(scoped.into_iter().flat_map(|scope| scope.bindings_of(user)))
    }

    /// None: there is no such role.
    fn rules_of(&self, binding: &Binding) -> Option<&Rules> {
        match binding.role.kind.as_str() {
            "ClusterRole" => self.cluster.roles.get(binding.role.name.as_str()),
            "Role" => self.namespaces.get(&binding.namespace)?.roles.get(binding.role.name.as_str()),
            _ => None,
        }
    }

    /// Each binding with its role's rules, or with what is wrong with the reference. Each binding comes once.
    pub(super) fn visit(
        &self,
        user: &UserInfo,
        namespace: &str,
        mut visitor: impl FnMut(&Binding, Result<&Rules, String>),
    ) {
        let mut seen: Vec<*const Binding> = Vec::new();
        for binding in self.bindings(user, namespace) {
            if seen.contains(&Arc::as_ptr(binding)) {
                continue;
            }
            seen.push(Arc::as_ptr(binding));
            let rules = self.rules_of(binding).ok_or_else(|| {
                let kind = binding.role.kind.to_ascii_lowercase();
                format!("{kind}.rbac.authorization.k8s.io {:?} not found", &*binding.role.name)
            });
            visitor(binding, rules);
        }
    }
}
