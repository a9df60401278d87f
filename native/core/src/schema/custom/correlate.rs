//! Old values beside new ones, for ratcheting: what has not changed is not judged again.
//!
//! Semantics of apiserver `pkg/cel/common/equality.go` and `maplist.go`.

use std::cell::Cell;

use rustc_hash::FxHashMap;
use serde_json::Value;

use super::Node;
use super::node::ListType;

/// A value, what it was, and its schema, by which its parts find what they were.
pub(crate) struct Correlation<'v> {
    pub new: &'v Value,
    pub old: &'v Value,
    node: &'v Node,
    equal: Cell<Option<bool>>,
}

impl<'v> Correlation<'v> {
    pub fn new(node: &'v Node, new: &'v Value, old: &'v Value) -> Self {
        Self { new, old, node, equal: Cell::new(None) }
    }

    /// The member of that name, where it was there before and has a schema.
    pub fn key(&self, name: &str) -> Option<Correlation<'v>> {
        let (new, old) = (self.new.get(name)?, self.old.get(name)?);
        if !self.new.is_object() {
            return None;
        }
        Some(Correlation::new(self.node.member(name.as_bytes())?, new, old))
    }

    /// The old elements of a list, by key; None where elements are not known by keys.
    pub fn elements(&self) -> Option<OldElements<'v>> {
        OldElements::new(self.node, self.old)
    }

    pub fn unchanged(&self) -> bool {
        let known = self.equal.get().unwrap_or_else(|| equal(self.node, self.new, self.old));
        self.equal.set(Some(known));
        known
    }
}

/// The elements of a list of type map as they were.
pub(crate) struct OldElements<'v> {
    keys: &'v [Box<str>],
    items: &'v Node,
    by_key: FxHashMap<String, &'v Value>,
}

impl<'v> OldElements<'v> {
    pub fn new(node: &'v Node, old: &'v Value) -> Option<Self> {
        let (items, old) = (node.items.as_deref()?, old.as_array()?);
        if node.list_type != ListType::Map || node.list_map_keys.is_empty() || old.is_empty() {
            return None;
        }
        let mut by_key = FxHashMap::default();
        for element in old {
            if let Some(key) = composite_key(&node.list_map_keys, element) {
                by_key.entry(key).or_insert(element);
            }
        }
        Some(Self { keys: &node.list_map_keys, items, by_key })
    }

    /// What the element was that has the keys of `new`.
    pub fn get(&self, new: &Value) -> Option<&'v Value> {
        self.by_key.get(&composite_key(self.keys, new)?).copied()
    }

    pub fn correlate(&self, new: &'v Value) -> Option<Correlation<'v>> {
        Some(Correlation::new(self.items, new, self.get(new)?))
    }
}

/// None where a key is missing or no scalar.
fn composite_key(keys: &[Box<str>], element: &Value) -> Option<String> {
    let members = element.as_object()?;
    let mut composite = String::new();
    for key in keys {
        let value = members.get(&**key)?;
        if value.is_object() || value.is_array() || value.is_null() {
            return None;
        }
        composite.push_str(&value.to_string());
        composite.push('\0');
    }
    Some(composite)
}

fn equal(node: &Node, new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Array(new_elements), Value::Array(old_elements)) => {
            if new_elements.len() != old_elements.len() {
                return false;
            }
            match OldElements::new(node, old) {
                Some(known) => new_elements.iter().all(|element| {
                    known.get(element).is_some_and(|before| equal(known.items, element, before))
                }),
                None => new == old,
            }
        }
        (Value::Object(new_members), Value::Object(old_members)) => {
            // A member without a schema has no counterpart, so that its object counts as changed.
            new_members.len() == old_members.len()
                && new_members.iter().all(|(name, value)| {
                    match (old_members.get(name), node.member(name.as_bytes())) {
                        (Some(before), Some(schema)) => equal(schema, value, before),
                        _ => false,
                    }
                })
        }
        _ => new == old,
    }
}
