//! Roles and bindings as the API writes them, and bindings made ready for look-up.

use serde::Deserialize;

use super::rule::{PolicyRule, nullable};
use crate::authn::service_account_username;

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
}

impl Binding {
    pub fn new(namespace: &str, name: &str, object: BindingObject) -> Self {
        Self {
            name: name.into(),
            namespace: namespace.into(),
            subjects: object.subjects,
            role: object.role_ref,
        }
    }

    /// What a reason says: `RoleBinding "name/ns" of Role "role" to User "jane"`.
    pub(super) fn describe(&self, username: &str, groups: &[String]) -> String {
        let subject = self.subjects.iter().find(|subject| match subject.principal(&self.namespace) {
            Some(Principal::User(name)) => name == username,
            Some(Principal::Group(name)) => groups.contains(&name),
            None => false,
        });
        let to = subject.map(|subject| subject.describe(&self.namespace)).unwrap_or_default();
        let role = format!("of {} {:?} to {to}", self.role.kind, &*self.role.name);
        if self.namespace.is_empty() {
            format!("ClusterRoleBinding {:?} {role}", &*self.name)
        } else {
            format!("RoleBinding {:?} {role}", format!("{}/{}", self.name, self.namespace))
        }
    }
}
