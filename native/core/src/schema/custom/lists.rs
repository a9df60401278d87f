//! What lists of the types set and map may not hold twice.

use serde_json::Value;

use super::Node;
use super::fault::Fault;
use super::node::ListType;
use super::path::Path;
use super::validate::MOST_FAULTS;
use crate::go;

/// Lists of type set hold nothing twice, lists of type map no key twice.
///
/// Semantics of apiextensions-apiserver `schema/listtype`.
pub(super) fn check(node: &Node, value: &Value, at: &Path<'_>, faults: &mut Vec<Fault>) {
    if !node.below.list_types || faults.len() >= MOST_FAULTS {
        return;
    }
    match value {
        Value::Array(elements) => {
            match node.list_type {
                ListType::Set => duplicates(elements.iter().map(identity), |index| {
                    faults.push(Fault::duplicate(&at.index(index).bracketed(), &elements[index]));
                }),
                ListType::Map => keyed_list(node, elements, at, faults),
                _ => {}
            }
            if let Some(items) = &node.items {
                for (index, element) in elements.iter().enumerate() {
                    check(items, element, &at.index(index), faults);
                }
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                if let Some(schema) = node.additional_schema() {
                    check(schema, member, &at.key(name), faults);
                }
                if let Some(schema) = node.property(name.as_bytes()) {
                    check(schema, member, &at.field(name), faults);
                }
            }
        }
        _ => {}
    }
}

fn keyed_list(node: &Node, elements: &[Value], at: &Path<'_>, faults: &mut Vec<Fault>) {
    if let Some(index) = elements.iter().position(|element| !element.is_object() && !element.is_null()) {
        let problem = "must be an object for an array of list-type map";
        faults.push(Fault::invalid(&at.index(index).bracketed(), &elements[index], problem));
        return;
    }
    let key_of = |element: &Value| {
        let given =
            node.list_map_keys.iter().filter_map(|key| Some((key.to_string(), element.get(&**key)?.clone())));
        Value::Object(given.collect())
    };
    let keys: Vec<Value> = elements.iter().map(key_of).collect();
    // Of one key the value counts, of several the JSON of them all.
    let only = node.list_map_keys.first().filter(|_| node.list_map_keys.len() == 1);
    let known_by = |key: &Value| match only.and_then(|name| key.get(&**name)) {
        Some(value) => identity(value),
        None => go::marshalled(key),
    };
    duplicates(keys.iter().map(known_by), |index| {
        faults.push(Fault::duplicate(&at.index(index).bracketed(), &keys[index]));
    });
}

/// What a value is known by in a Go map: a float is no integer there, though it may have its value and its JSON.
fn identity(value: &Value) -> String {
    match value.as_number().filter(|number| !number.is_i64()).and_then(serde_json::Number::as_f64) {
        // A negative zero is zero.
        Some(float) => format!("float {}", float + 0.0),
        None => go::marshalled(value),
    }
}

/// Tells of the second one of each that is there more than once.
fn duplicates(values: impl Iterator<Item = String>, mut tell: impl FnMut(usize)) {
    let mut seen = rustc_hash::FxHashMap::<String, u32>::default();
    for (index, value) in values.enumerate() {
        let times = seen.entry(value).or_default();
        *times += 1;
        if *times == 2 {
            tell(index);
        }
    }
}
