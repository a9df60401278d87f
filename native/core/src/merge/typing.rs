//! Whether values that are owned as a whole are of the type their schema says.
//!
//! Semantics and words of structured-merge-diff `typed/validate.go`.

use serde_json::Value;

use super::conflict::path_text;
use super::fields::PathElement;
use super::refusing::{go_text, go_type};
use crate::go::quote;
use crate::schema::{Schemas, Shape, Type};

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
            for (index, element) in (0..).zip(elements) {
                at.push(PathElement::Index(index));
                check(schemas, item, element, at, faults);
                at.pop();
            }
        }
        _ => {}
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
