//! Defaulting of custom objects.
//!
//! Semantics of apiextensions-apiserver `schema/defaulting/algorithm.go`.

use serde_json::Value;

use super::Node;
use super::node::Below;

/// Sets the defaults of `node` within `value`; says whether that changed anything.
pub(crate) fn apply(value: &mut Value, node: &Node) -> bool {
    if !node.below.defaults {
        return false;
    }
    let mut changed = false;
    match value {
        Value::Object(members) => {
            for (name, property) in &node.properties {
                let Some(default) = &property.default else { continue };
                match members.get_mut(&**name) {
                    None => {
                        members.insert(name.to_string(), (**default).clone());
                        changed = true;
                    }
                    Some(member) => changed |= in_place_of_null(member, property),
                }
            }
            let Below { defaults: additional_defaults, .. } =
                node.additional_schema().map(|schema| schema.below).unwrap_or_default();
            if additional_defaults {
                for (name, member) in members.iter_mut() {
                    if let Some(schema) = node.member(name.as_bytes()) {
                        changed |= in_place_of_null(member, schema);
                        changed |= apply(member, schema);
                    }
                }
            } else {
                for (name, property) in node.properties.iter().filter(|(_, node)| node.below.defaults) {
                    if let Some(member) = members.get_mut(&**name) {
                        changed |= apply(member, property);
                    }
                }
            }
        }
        Value::Array(elements) => {
            if let Some(items) = &node.items {
                for element in elements {
                    changed |= in_place_of_null(element, items);
                    changed |= apply(element, items);
                }
            }
        }
        _ => {}
    }
    changed
}

/// A null where the schema allows none counts as nothing given.
fn in_place_of_null(value: &mut Value, node: &Node) -> bool {
    match &node.default {
        Some(default) if value.is_null() && node.refuses_null() => {
            *value = (**default).clone();
            true
        }
        _ => false,
    }
}
