//! Conflicts of server-side apply, in Kubernetes' words (apimachinery `managedfields/internal/conflict.go`).

use serde_json::Value;

use super::fields::PathElement;
use super::ownership::{Entry, Operation};
use crate::go::shown;

/// A field that another manager owns and that would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// `"name"`, with subresource and version where they matter.
    pub manager: String,
    /// `.spec.containers[name="a"].image`
    pub field: String,
}

impl Conflict {
    pub(crate) fn new(entry: &Entry, path: &[PathElement]) -> Self {
        let mut manager = format!("{:?}", entry.manager);
        if !entry.subresource.is_empty() {
            manager.push_str(&format!(" with subresource {:?}", entry.subresource));
        }
        if entry.operation == Operation::Update {
            manager.push_str(&format!(" using {}", entry.api_version));
        }
        Self { manager, field: path_text(path) }
    }
}

/// The message of the Status; conflicts of one manager stand together.
pub fn message(conflicts: &[Conflict]) -> String {
    if let [conflict] = conflicts {
        let Conflict { manager, field } = conflict;
        return format!("Apply failed with 1 conflict: conflict with {manager}: {field}");
    }
    let mut text = format!("Apply failed with {} conflicts: ", conflicts.len());
    let mut last = None;
    for conflict in conflicts {
        if last != Some(&conflict.manager) {
            if last.is_some() {
                text.push('\n');
            }
            text.push_str(&format!("conflicts with {}:", conflict.manager));
            last = Some(&conflict.manager);
        }
        text.push_str(&format!("\n- {}", conflict.field));
    }
    text
}

pub(crate) fn path_text(path: &[PathElement]) -> String {
    path.iter().map(element_text).collect()
}

fn element_text(element: &PathElement) -> String {
    match element {
        PathElement::Field(name) => format!(".{name}"),
        PathElement::Value(value) => format!("[={}]", told(&serde_json::from_str(value).unwrap_or_default())),
        PathElement::Index(index) => format!("[{index}]"),
        PathElement::Key(keys) => {
            let keys: Value = serde_json::from_str(keys).unwrap_or_default();
            let members = keys.as_object().into_iter().flatten();
            let pairs: Vec<String> = members.map(|(name, value)| format!("{name}={}", told(value))).collect();
            format!("[{}]", pairs.join(","))
        }
    }
}

/// As structured-merge-diff `value.ToString`.
fn told(value: &Value) -> String {
    match value {
        Value::Array(elements) => {
            format!("[{}]", elements.iter().map(told).collect::<Vec<_>>().join(","))
        }
        Value::Object(members) => {
            members.iter().map(|(name, value)| format!("{name}={}", told(value))).collect()
        }
        scalar => shown(scalar),
    }
}
