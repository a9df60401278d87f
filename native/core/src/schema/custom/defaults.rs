//! Defaulting of custom objects.
//!
//! Semantics of apiextensions-apiserver `schema/defaulting/algorithm.go`.

use serde_json::Value;

use super::Node;
use super::node::Below;

/// Defaults may have defaults within, and each of them may be a list of many: of a short schema they could make
/// gigabytes. Memory in bytes beyond which an object is not completed; a fiftieth of it can be stored.
const MOST: usize = 64 << 20;

/// What the defaults of an object may yet take.
pub(crate) struct Room(usize);

/// There are too many defaults.
#[derive(Debug)]
pub(crate) struct NoRoom;

impl Room {
    pub fn new() -> Self {
        Self(MOST)
    }

    fn take(&mut self, node: &Node) -> Result<(), NoRoom> {
        self.0 = self.0.checked_sub(node.default_weight).ok_or(NoRoom)?;
        Ok(())
    }
}

/// Memory in bytes that a value takes, about.
pub(crate) fn weight(value: &Value) -> usize {
    let within = match value {
        Value::String(text) => text.len(),
        Value::Array(elements) => elements.iter().map(weight).sum(),
        Value::Object(members) => members.iter().map(|(name, member)| name.len() + weight(member)).sum(),
        _ => 0,
    };
    size_of::<Value>() + within
}

/// Sets the defaults of `node` within `value`; says whether that changed anything.
pub(crate) fn apply(value: &mut Value, node: &Node, room: &mut Room) -> Result<bool, NoRoom> {
    if !node.below.defaults {
        return Ok(false);
    }
    let mut changed = false;
    match value {
        Value::Object(members) => {
            for (name, property) in &node.properties {
                let Some(default) = &property.default else { continue };
                match members.get_mut(&**name) {
                    None => {
                        room.take(property)?;
                        members.insert(name.to_string(), (**default).clone());
                        changed = true;
                    }
                    Some(member) => changed |= in_place_of_null(member, property, room)?,
                }
            }
            let Below { defaults: additional_defaults, .. } =
                node.additional_schema().map(|schema| schema.below).unwrap_or_default();
            if additional_defaults {
                for (name, member) in members.iter_mut() {
                    if let Some(schema) = node.member(name.as_bytes()) {
                        changed |= in_place_of_null(member, schema, room)?;
                        changed |= apply(member, schema, room)?;
                    }
                }
            } else {
                for (name, property) in node.properties.iter().filter(|(_, node)| node.below.defaults) {
                    if let Some(member) = members.get_mut(&**name) {
                        changed |= apply(member, property, room)?;
                    }
                }
            }
        }
        Value::Array(elements) => {
            if let Some(items) = &node.items {
                for element in elements {
                    changed |= in_place_of_null(element, items, room)?;
                    changed |= apply(element, items, room)?;
                }
            }
        }
        _ => {}
    }
    Ok(changed)
}

/// A null where the schema allows none counts as nothing given.
fn in_place_of_null(value: &mut Value, node: &Node, room: &mut Room) -> Result<bool, NoRoom> {
    match &node.default {
        Some(default) if value.is_null() && node.refuses_null() => {
            room.take(node)?;
            *value = (**default).clone();
            Ok(true)
        }
        _ => Ok(false),
    }
}
