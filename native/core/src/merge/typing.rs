//! Whether values that are owned as a whole are of the type their schema says.
//!
//! Semantics and words of structured-merge-diff `typed/validate.go`.

use rustc_hash::FxHashSet;
use serde_json::Value;

use super::conflict::path_text;
use super::fields::PathElement;
use super::refusing::{go_text, go_type};
use super::sets;
use crate::go::quote;
use crate::schema::{ListKind, Schemas, Shape, Type};

/// Tells, with the path `at`, of values of another type and of unknown ones, after which nothing more of their object
/// is looked at.
pub(super) fn check(
    schemas: &Schemas,
    ty: &Type,
    value: &Value,
    at: &mut Vec<PathElement>,
    faults: &mut Vec<String>,
) {
    if let Some(problem) = mistyped(&ty.shape, value) {
        faults.push(format!("{}: {problem}", path_text(at)));
        return;
    }
    match (&ty.shape, value) {
        (Shape::Struct(id), Value::Object(members)) => {
            let declared = schemas.structure(*id);
            for (name, member) in members {
                at.push(PathElement::field(name));
                let field = declared.field(name);
                match field {
                    Some(field) => check(schemas, &field.ty, member, at, faults),
                    None if declared.open => {}
                    None => faults.push(undeclared(at)),
                }
                at.pop();
                if field.is_none() && !declared.open {
                    break;
                }
            }
        }
        (Shape::Map(inner), Value::Object(members)) => {
            for (name, member) in members {
                at.push(PathElement::field(name));
                check(schemas, inner, member, at, faults);
                at.pop();
            }
        }
        (Shape::List(item), Value::Array(elements)) => {
            let mut seen = FxHashSet::default();
            for (index, element) in elements.iter().enumerate() {
                let Some(key) = place(&ty.list, index, element, &mut seen, at, faults) else { break };
                at.push(key);
                check(schemas, item, element, at, faults);
                at.pop();
            }
        }
        _ => {}
    }
}

/// Where an element is: by its key in a list that is merged. Tells of one that has none, after which no more elements
/// are looked at, and of one that is there twice.
pub(super) fn place(
    list: &ListKind,
    index: usize,
    element: &Value,
    seen: &mut FxHashSet<PathElement>,
    at: &[PathElement],
    faults: &mut Vec<String>,
) -> Option<PathElement> {
    if *list == ListKind::Atomic {
        return Some(PathElement::Index(index as u64));
    }
    if let Some(problem) = keyless(list, element) {
        faults.push(format!("{}: element {index}: {problem}", path_text(at)));
        return None;
    }
    let key = sets::element_key(list, element);
    if !seen.insert(key.clone()) {
        let told = path_text(std::slice::from_ref(&key));
        faults.push(format!("{}: duplicate entries for key {told}", path_text(at)));
    }
    Some(key)
}

/// Why an element of a list that is merged by keys or values has none; as structured-merge-diff `typed/helpers.go`.
fn keyless(list: &ListKind, element: &Value) -> Option<String> {
    let told = |problem: &str| Some(problem.to_owned());
    match (list, element) {
        (ListKind::Map(_), Value::Null) => told("associative list with keys may not have a null element"),
        (ListKind::Map(keys), Value::Object(members)) => {
            let has_key = keys.iter().any(|key| key.default.is_some() || members.contains_key(&*key.name));
            (!has_key && !keys.is_empty()).then(|| {
                let names: Vec<String> = keys.iter().map(|key| format!("{:?}", key.name)).collect();
                format!(
                    "associative list with keys has an element that omits all key fields [{}] (and doesn't have \
                     default values for any key fields)",
                    names.join(" ")
                )
            })
        }
        (ListKind::Map(_), _) => told("associative list with keys may not have non-map elements"),
        (_, Value::Object(_)) => told("associative list without keys has an element that's a map type"),
        (_, Value::Array(_)) => told("not supported: associative list with lists as elements"),
        (_, Value::Null) => told("associative list without keys has an element that's an explicit null"),
        _ => None,
    }
}

pub(super) fn undeclared(at: &[PathElement]) -> String {
    format!("{}: field not declared in schema", path_text(at))
}

/// What is told of faults; None where there is none. Go has no order of members, here they come as they were sent.
pub(super) fn summed_up(faults: Vec<String>) -> Option<String> {
    match faults.as_slice() {
        [] => None,
        [fault] => Some(fault.clone()),
        several => Some(format!("errors:\n  {}", several.join("\n  "))),
    }
}

fn mistyped(shape: &Shape, value: &Value) -> Option<String> {
    let wanted = match (shape, value) {
        (_, Value::Null)
        // What these take, their own decoders say.
        | (Shape::Any { .. } | Shape::SchemaOr { .. } | Shape::Time | Shape::MicroTime | Shape::IntOrString, _)
        | (Shape::String | Shape::Bytes, Value::String(_))
        | (Shape::Bool, Value::Bool(_))
        | (Shape::Int32 | Shape::Int64 | Shape::Double, Value::Number(_))
        | (Shape::Struct(_) | Shape::Map(_), Value::Object(_))
        | (Shape::List(_), Value::Array(_)) => return None,
        (Shape::String | Shape::Bytes, _) => {
            return Some(format!("expected string, got &value.valueUnstructured{{Value:{}}}", source(value)));
        }
        (Shape::Int32 | Shape::Int64 | Shape::Double, _) => {
            return Some(format!("expected numeric (int or float), got {}", go_type(value)));
        }
        (Shape::Bool, _) => "boolean",
        (Shape::Struct(_) | Shape::Map(_), _) => "map",
        (Shape::List(_), _) => "list",
        (Shape::Quantity, Value::Object(_) | Value::Array(_)) => "any scalar",
        (Shape::Quantity, _) => return None,
    };
    Some(format!("expected {wanted}, got &{{{}}}", go_text(value)))
}

/// A value as Go's `%#v` prints it.
fn source(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => quote(text),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(source).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let mut pairs: Vec<_> = members.iter().collect();
            pairs.sort_by_key(|(name, _)| *name);
            let pairs: Vec<_> =
                pairs.iter().map(|(name, member)| format!("{}:{}", quote(name), source(member))).collect();
            format!("map[string]interface {{}}{{{}}}", pairs.join(", "))
        }
        _ => go_text(value),
    }
}
