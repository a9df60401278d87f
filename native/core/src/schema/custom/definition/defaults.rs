//! Defaults of a definition: they must be valid themselves, and hold nothing that would be pruned.
//!
//! Semantics, order and wording of apiextensions-apiserver `pkg/apiserver/schema/defaulting/validation.go`.

use serde_json::Value;

use super::collected::Collected;
use crate::schema::custom::Node;
use crate::schema::custom::node::Additional;
use crate::schema::custom::path::Path;
use crate::schema::custom::validate;

/// `pruned`: defaults may hold no unknown fields. A schema that cannot be compiled has been told of elsewhere.
pub(super) fn check(schema: &Value, at: &Path<'_>, pruned: bool) -> Collected {
    let mut checking = Checking { pruned, faults: Collected::default() };
    if let Ok(mut root) = Node::compile(schema) {
        // Every object is a resource.
        root.embedded_resource = true;
        checking.walk(&root, at, false);
    }
    checking.faults
}

/// What every resource has.
const IDENTITY: [&str; 3] = ["apiVersion", "kind", "metadata"];

struct Checking {
    pruned: bool,
    faults: Collected,
}

impl Checking {
    /// `in_metadata`: within what every resource has.
    fn walk(&mut self, node: &Node, at: &Path<'_>, in_metadata: bool) {
        if !node.below.defaults {
            return;
        }
        let in_metadata = in_metadata && !node.embedded_resource;
        if let Some(default) = &node.default {
            self.default(node, default, &at.field("default"), in_metadata);
        }
        if let Some(items) = &node.items {
            self.walk(items, &at.field("items"), in_metadata);
        }
        let properties = at.field("properties");
        for (name, property) in &node.properties {
            let in_metadata = in_metadata || (node.embedded_resource && IDENTITY.contains(&&**name));
            self.walk(property, &properties.key(name), in_metadata);
        }
    }

    fn default(&mut self, node: &Node, default: &Value, at: &Path<'_>, in_metadata: bool) {
        if self.pruned && !in_metadata && loses_something(default, Some(node)) {
            self.faults.invalid(at, default, "must not have unknown fields");
        }
        self.faults.extend(validate::default_against_schema(node, default, &at.bracketed()));
    }
}

/// Whether a default anywhere in the schema holds what would be pruned.
pub(super) fn any_is_unpruned(schema: &Value) -> bool {
    fn walk(node: &Node) -> bool {
        node.below.defaults
            && (node.default.as_ref().is_some_and(|default| loses_something(default, Some(node)))
                || node.items.as_deref().is_some_and(walk)
                || node.additional_schema().is_some_and(walk)
                || node.properties.iter().any(|(_, property)| walk(property)))
    }
    Node::compile(schema).is_ok_and(|node| walk(&node))
}

/// Whether pruning would take something from the value; None for what has no schema.
///
/// Semantics of apiextensions-apiserver `pkg/apiserver/schema/pruning/algorithm.go`.
fn loses_something(value: &Value, node: Option<&Node>) -> bool {
    let preserves = node.is_some_and(|node| node.preserve_unknown);
    loses(value, node, preserves)
}

/// `preserves`: the schema, or a list around the value, keeps unknown fields.
fn loses(value: &Value, node: Option<&Node>, preserves: bool) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, member)| {
            let Some(node) = node else { return !preserves };
            if node.embedded_resource && IDENTITY.contains(&&**name) {
                return false;
            }
            match (node.property(name.as_bytes()), &node.additional) {
                (Some(property), _) => loses_something(member, Some(property)),
                (None, Additional::Undefined) => !preserves,
                (None, _) => loses_something(member, node.additional_schema()),
            }
        }),
        Value::Array(elements) => {
            let items = node.and_then(|node| node.items.as_deref());
            let preserves = preserves || items.is_some_and(|items| items.preserve_unknown);
            elements.iter().any(|element| loses(element, items, preserves))
        }
        _ => false,
    }
}
