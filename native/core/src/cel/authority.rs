//! What expressions of admission ask the authorizer, step by step, and what they hear.
//!
//! Semantics of apiserver `pkg/cel/library/authz.go`.

use super::functions_declared::{AUTHORIZER, RESOURCE_CHECK};

/// Who decides what a user may.
pub trait Judge {
    fn decide(&self, question: &Question) -> Decision;
}

/// Whether somebody may do something: to a resource, or at a path.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Namespace and name of a service account; None for who makes the request.
    pub account: Option<(String, String)>,
    pub verb: String,
    /// Of what is no resource; None for a resource.
    pub path: Option<String>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
}

#[derive(Clone, Debug, Default)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    /// Why there is no decision.
    pub error: Option<String>,
}

/// A question that is being put together, or its answer.
#[derive(Debug)]
pub(crate) enum Authority {
    Authorizer(Question),
    Path(Question),
    Group(Question),
    Resource(Question),
    Decision(Decision),
}

impl Authority {
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Authorizer(_) => AUTHORIZER,
            Self::Path(_) => "kubernetes.authorization.PathCheck",
            Self::Group(_) => "kubernetes.authorization.GroupCheck",
            Self::Resource(_) => RESOURCE_CHECK,
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }
}
