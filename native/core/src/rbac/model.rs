//! Roles and bindings as the API writes them, and bindings made ready for look-up.

use std::sync::OnceLock;

use serde::Deserialize;

use super::rule::{PolicyRule, nullable};
use crate::authn::{service_account_username, split_service_account};

/// What of a Role or ClusterRole counts here.
#[derive(Debug, Default, Deserialize)]
pub struct RoleObject {
    #[serde(default, deserialize_with = "nullable")]
    pub rules: Vec<PolicyRule>,
}

/// What of a RoleBinding or ClusterRoleBinding counts here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BindingObject {
    #[serde(default, deserialize_with = "nullable")]
    pub subjects: Vec<Subject>,
    pub role_ref: RoleRef,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Subject {
    pub kind: String,
    pub name: String,
    #[serde(deserialize_with = "nullable")]
    pub namespace: String,
}

impl Subject {
    /// How a reason names it: `User "jane"`, `ServiceAccount "name/namespace"`.
    fn describe(&self, binding_namespace: &str) -> String {
        if self.kind == "ServiceAccount" {
            let namespace = if self.namespace.is_empty() { binding_namespace } else { &self.namespace };
            return format!("{} {:?}", self.kind, format!("{}/{namespace}", self.name));
        }
        format!("{} {:?}", self.kind, self.name)
    }

    /// Whether it names this user, or one of its groups.
    fn names(&self, binding_namespace: &str, username: &str, groups: &[String]) -> bool {
        match self.kind.as_str() {
            "User" => self.name == username,
            "Group" => groups.contains(&self.name),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { binding_namespace } else { &self.namespace };
                split_service_account(username) == Some((namespace, &self.name))
            }
            _ => false,
        }
    }

    /// The user or group that it names; None for subjects nobody can be.
    pub(super) fn principal(&self, binding_namespace: &str) -> Option<Principal> {
        match self.kind.as_str() {
            "User" => Some(Principal::User(self.name.clone())),
            "Group" => Some(Principal::Group(self.name.clone())),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { binding_namespace } else { &self.namespace };
                (!namespace.is_empty())
                    .then(|| Principal::User(service_account_username(namespace, &self.name)))
            }
            _ => None,
        }
    }
}

/// What a request can be recognised by.
pub(super) enum Principal {
    User(String),
    Group(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RoleRef {
    pub kind: String,
    pub name: String,
}

/// A RoleBinding (with a namespace) or ClusterRoleBinding (without).
#[derive(Debug)]
pub struct Binding {
    pub name: Box<str>,
    pub namespace: Box<str>,
    pub subjects: Vec<Subject>,
    pub role: RoleRef,
    /// By subject: why who it names may. Made when somebody asks for the first time.
    reasons: Box<[OnceLock<Box<str>>]>,
}

impl Binding {
    pub fn new(namespace: &str, name: &str, object: BindingObject) -> Self {
        Self {
            name: name.into(),
            namespace: namespace.into(),
            reasons: object.subjects.iter().map(|_| OnceLock::new()).collect(),
            subjects: object.subjects,
            role: object.role_ref,
        }
    }

    /// Why this user may: `RBAC: allowed by RoleBinding "name/ns" of Role "role" to User "jane"`.
    pub(super) fn reason(&self, username: &str, groups: &[String]) -> &str {
        let subjects = self.subjects.iter().zip(&self.reasons);
        let mut named = subjects.filter(|(subject, _)| subject.names(&self.namespace, username, groups));
        named.next().map_or("", |(subject, reason)| reason.get_or_init(|| self.describe(subject).into()))
    }

    fn describe(&self, subject: &Subject) -> String {
        let to = subject.describe(&self.namespace);
        let role = format!("of {} {:?} to {to}", self.role.kind, &*self.role.name);
        if self.namespace.is_empty() {
            format!("RBAC: allowed by ClusterRoleBinding {:?} {role}", &*self.name)
        } else {
            format!("RBAC: allowed by RoleBinding {:?} {role}", format!("{}/{}", self.name, self.namespace))
        }
    }
}
