//! Schemas as the types of expressions, with the bounds that the estimate of costs goes by.
//!
//! Semantics of apiserver `pkg/cel/common/schemas.go` and `pkg/cel/limits.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::Node;
use super::node::{Checks, JsonType};
use crate::cel::declared::{Declared, Shape};
use crate::cel::escape;

/// The largest request that costs are estimated for, in bytes.
pub(super) const MAX_REQUEST: u64 = 3 << 20;
const LONGEST_TEXT: u64 = MAX_REQUEST - 2;
const TEXT_SIZE: u64 = 2;
const DATE_SIZE: u64 = 12;
const TIME_SIZE: u64 = 21;
const LONGEST_TIME: u64 = 32;
const DURATION_SIZE: u64 = 3;
const LONGEST_DURATION: u64 = 32;

/// The type of values of a schema; None for what expressions cannot see. `root`: the values are whole resources.
pub(crate) fn declared(node: &Node, root: bool, name: &str) -> Option<Arc<Declared>> {
    let checks = node.checks.as_deref();
    if node.int_or_string {
        let most = checks.and_then(longest).unwrap_or(LONGEST_TEXT);
        return Some(Arc::new(Declared::new(Shape::Dyn, most, 1)));
    }
    let one = |shape, size| Some(Arc::new(Declared::new(shape, 0, size)));
    match node.ty? {
        JsonType::Object => object(node, root, name),
        JsonType::Array => {
            let items = node.items.as_deref()?;
            let item = declared(items, items.embedded_resource, &format!("{name}.@idx"))?;
            let most = checks
                .and_then(|checks| bound(checks.max_items))
                .unwrap_or((MAX_REQUEST - 2) / (item.min_size + 1));
            Some(Arc::new(Declared { name: name.into(), ..Declared::new(Shape::List(item), most, 2) }))
        }
        JsonType::String => Some(Arc::new(text(checks))),
        JsonType::Boolean => one(Shape::Bool, 4),
        JsonType::Number => one(Shape::Double, 1),
        JsonType::Integer => one(Shape::Int, 1),
    }
}

/// Of a limit below zero upstream makes zero.
fn bound(limit: Option<i64>) -> Option<u64> {
    limit.map(|limit| u64::try_from(limit).unwrap_or_default())
}

/// In bytes, of which a character may take four.
fn longest(checks: &Checks) -> Option<u64> {
    bound(checks.max_length).map(|most| most.saturating_mul(4))
}

fn text(checks: Option<&Checks>) -> Declared {
    let format = checks.map(|checks| &*checks.format_text).unwrap_or_default();
    match format {
        "byte" => {
            let most = checks.and_then(|checks| bound(checks.max_length)).unwrap_or(LONGEST_TEXT);
            Declared::new(Shape::Bytes, most, TEXT_SIZE)
        }
        "duration" => Declared::new(Shape::Duration, LONGEST_DURATION, DURATION_SIZE),
        "date" => Declared::new(Shape::Timestamp, DATE_SIZE, DATE_SIZE),
        "date-time" => Declared::new(Shape::Timestamp, LONGEST_TIME, TIME_SIZE),
        _ => {
            let of_allowed = |checks: &Checks| {
                let lengths = checks.allowed.iter().filter_map(Value::as_str).map(str::len);
                (!checks.allowed.is_empty()).then(|| lengths.max().unwrap_or_default() as u64)
            };
            let most = checks
                .and_then(|checks| longest(checks).or_else(|| of_allowed(checks)))
                .unwrap_or(LONGEST_TEXT);
            Declared::new(Shape::String, most, TEXT_SIZE)
        }
    }
}

fn object(node: &Node, root: bool, name: &str) -> Option<Arc<Declared>> {
    let checks = node.checks.as_deref();
    if let Some(values) = node.additional_schema() {
        let value = declared(values, values.embedded_resource, &format!("{name}.@elem"))?;
        let most = checks
            .and_then(|checks| bound(checks.max_properties))
            .unwrap_or((MAX_REQUEST - 2) / (value.min_size + 6));
        return Some(Arc::new(Declared { name: name.into(), ..Declared::new(Shape::Map(value), most, 2) }));
    }
    let mut fields = BTreeMap::new();
    let mut min_size = 2;
    let identity = root && !has_identity(node);
    let required: &[Box<str>] = checks.map(|checks| &*checks.required).unwrap_or_default();
    let mut add = |property: &str, ty: Arc<Declared>, default: bool| {
        if !default && required.iter().any(|name| **name == *property) {
            min_size += property.len() as u64 + ty.min_size + 4;
        }
        if let Some(escaped) = escape(property) {
            fields.insert(Box::from(&*escaped), ty);
        }
    };
    for (property, schema) in &node.properties {
        if identity && is_identity(property) {
            continue;
        }
        if let Some(ty) = declared(schema, schema.embedded_resource, &format!("{name}.{property}")) {
            add(property, ty, schema.default.is_some());
        }
    }
    if identity {
        for (property, ty) in identity_fields(name) {
            add(property, ty, false);
        }
    }
    let mut object = Declared::new(Shape::Object(fields), 0, min_size);
    object.name = name.into();
    Some(Arc::new(object))
}

fn is_identity(property: &str) -> bool {
    matches!(property, "apiVersion" | "kind" | "metadata")
}

/// Whether a schema tells by itself of all that every resource has.
fn has_identity(node: &Node) -> bool {
    let is =
        |node: &Node, name: &str, ty| node.property(name.as_bytes()).is_some_and(|node| node.ty == Some(ty));
    let text = JsonType::String;
    is(node, "kind", text)
        && is(node, "apiVersion", text)
        && is(node, "metadata", JsonType::Object)
        && node
            .property(b"metadata")
            .is_some_and(|meta| is(meta, "name", text) && is(meta, "generateName", text))
}

fn identity_fields(name: &str) -> [(&'static str, Arc<Declared>); 3] {
    let text = Arc::new(Declared::new(Shape::String, LONGEST_TEXT, TEXT_SIZE));
    let names = [("generateName".into(), text.clone()), ("name".into(), text.clone())];
    let mut metadata = Declared::new(Shape::Object(names.into()), 0, 2);
    metadata.name = format!("{name}.metadata").into();
    [("apiVersion", text.clone()), ("kind", text), ("metadata", Arc::new(metadata))]
}
