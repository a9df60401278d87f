//! Compiled RBAC: who may do what, decided without a lock and without an allocation.
//!
//! A [`PolicyStore`] takes roles and bindings as the watch cache publishes them; each change makes a new immutable
//! [`Policy`] that shares what did not change. Deciding looks up the user's and its groups' bindings, cluster-wide and
//! of the namespace, and asks their roles' rules. Aggregated ClusterRoles are filled in by a controller, not here.
//!
//! Source of the semantics: kubernetes `plugin/pkg/auth/authorizer/rbac`, `pkg/apis/rbac/v1/evaluation_helpers.go`,
//! `pkg/registry/rbac/validation`.

mod model;
mod policy;
mod review;
mod rule;
mod store;

pub use model::{Binding, BindingObject, RoleObject, RoleRef, Subject};
pub use policy::{Decision, Policy};
pub use review::{TooMany, covers, described, rules_for};
pub use rule::{CompiledRule, PolicyRule};
pub use store::{Change, PolicyKind, PolicyStore};

/// What is to be decided. For non-resource requests only `verb` and `path` count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub path: &'a str,
    pub is_resource: bool,
}
