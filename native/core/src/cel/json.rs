//! JSON under a schema as values of expressions.
//!
//! Semantics of apiserver `pkg/cel/common/valuesunstructured.go`.

use serde_json::{Map as JsonMap, Value as Json};

use super::escape::{escape, unescape};
use super::time::Timestamp;
use super::value::{List, Map, Order, Text, Value};
use crate::go;
use crate::schema::custom::{Format, JsonType, ListType, Node};

/// What a value is that its schema gives no meaning.
fn invalid<T>(what: &str) -> Result<T, String> {
    Err(format!("invalid data, {what}"))
}

fn go_type(value: &Json) -> &'static str {
    match value {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(number) if number.as_i64().is_some() => "int64",
        Json::Number(_) => "float64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}

/// A value that is what it looks like: data that no schema is known of.
pub(crate) fn plain(json: &Json) -> Value<'_> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(value) => Value::Int(value),
            None => Value::Double(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(Text::Borrowed(text)),
        Json::Array(elements) => Value::List(List::Plain(elements)),
        Json::Object(members) => Value::Map(Map::Plain(members)),
    }
}

/// A value of the schema `node`; `resource`: the root, which has what every resource has.
pub(crate) fn value_of<'a>(json: &'a Json, node: &'a Node, resource: bool) -> Result<Value<'a>, String> {
    if json.is_null() {
        return match node.nullable {
            true => Ok(Value::Null),
            false => invalid("got null for schema with nullable=false"),
        };
    }
    if node.int_or_string {
        return match json {
            Json::String(text) => Ok(Value::String(Text::Borrowed(text))),
            Json::Number(number) if number.as_i64().is_some() => {
                Ok(Value::Int(number.as_i64().unwrap_or_default()))
            }
            _ => invalid("expected XIntOrString value to be either a string or integer"),
        };
    }
    match node.ty {
        Some(JsonType::Object) => match json {
            Json::Object(members) => {
                Ok(Value::Map(Map::Json { members, node, resource: resource || node.embedded_resource }))
            }
            _ => invalid("expected a map for the provided schema with type=object"),
        },
        Some(JsonType::Array) => {
            let Json::Array(elements) = json else {
                return invalid("expected an array for the provided schema with type=array");
            };
            let Some(items) = node.items.as_deref() else {
                return Err("invalid array type, expected Items with a non-empty Schema".into());
            };
            let order = match node.list_type {
                ListType::Set => Order::Set,
                ListType::Map => Order::Keyed(&node.list_map_keys),
                ListType::Undefined | ListType::Atomic => Order::Plain,
            };
            Ok(Value::List(List::Json { elements, items, order }))
        }
        Some(JsonType::String) => text_of(json, node),
        Some(JsonType::Number) => match json {
            Json::Number(number) => Ok(Value::Double(number.as_f64().unwrap_or_default())),
            _ => invalid(&format!("expected float, got {}", go_type(json))),
        },
        Some(JsonType::Integer) => match json.as_i64() {
            Some(value) => Ok(Value::Int(value)),
            None => invalid(&format!("expected int, got {}", go_type(json))),
        },
        Some(JsonType::Boolean) => match json {
            Json::Bool(value) => Ok(Value::Bool(*value)),
            _ => invalid(&format!("expected bool, got {}", go_type(json))),
        },
        None if node.preserve_unknown => Ok(Value::Opaque(json)),
        None => {
            Err("invalid type, expected object, array, number, integer, boolean or string, or no type with \
                     x-kubernetes-int-or-string or x-kubernetes-preserve-unknown-fields is true, got "
                .into())
        }
    }
}

fn text_of<'a>(json: &'a Json, node: &Node) -> Result<Value<'a>, String> {
    let Json::String(text) = json else {
        return invalid(&format!("expected string, got {}", go_type(json)));
    };
    let format = node.checks.as_deref().map(|checks| &*checks.format_text).unwrap_or_default();
    match format {
        "duration" => match Format::duration(text) {
            Some(nanos) => Ok(Value::Duration(nanos)),
            None => Err(format!("Invalid duration {text}: unable to parse {text} as duration")),
        },
        "date" => Timestamp::parse_date(text)
            .map(Value::Timestamp)
            .map_err(|problem| format!("Invalid date formatted string {text}: {problem}")),
        "date-time" => Timestamp::parse_date_time(text)
            .map(Value::Timestamp)
            .map_err(|problem| format!("Invalid date-time formatted string {text}: {problem}")),
        "byte" => go::decode_base64_url(text).map(|bytes| Value::Bytes(bytes.into())).map_err(|at| {
            format!("Invalid byte formatted string {text}: illegal base64 data at input byte {at}")
        }),
        _ => Ok(Value::String(Text::Borrowed(text))),
    }
}

/// The schemas that every resource has for its own fields.
struct Identity {
    text: Node,
    metadata: Node,
}

static IDENTITY: std::sync::LazyLock<Identity> = std::sync::LazyLock::new(|| {
    let text = || Node { ty: Some(JsonType::String), ..Node::default() };
    let names = [("generateName".into(), text()), ("name".into(), text())];
    let metadata = Node { ty: Some(JsonType::Object), properties: names.into(), ..Node::default() };
    Identity { text: text(), metadata }
});

/// The schema of a member by the name it has in JSON.
fn member_node<'a>(node: &'a Node, resource: bool, name: &str) -> Option<&'a Node> {
    if resource {
        match name {
            "apiVersion" | "kind" => return Some(&IDENTITY.text),
            "metadata" => return Some(&IDENTITY.metadata),
            _ => {}
        }
    }
    if has_fields(node, resource) { node.property(name.as_bytes()) } else { node.additional_schema() }
}

/// Whether members are fields, whose names are escaped, and not the keys of a map.
pub(crate) fn has_fields(node: &Node, resource: bool) -> bool {
    resource || !node.properties.is_empty()
}

/// A member by the name that expressions have for it. A null field counts as absent.
pub(crate) fn member<'a>(
    members: &'a JsonMap<String, Json>,
    node: &'a Node,
    resource: bool,
    key: &str,
) -> Option<Result<Value<'a>, String>> {
    let fields = has_fields(node, resource);
    let name = if fields { unescape(key)? } else { key.into() };
    let json = members.get(&*name)?;
    if fields && json.is_null() {
        return None;
    }
    Some(value_of(json, member_node(node, resource, &name)?, false))
}

/// The names of all members that have a schema, as expressions have them.
pub(crate) fn keys<'a>(
    members: &'a JsonMap<String, Json>,
    node: &'a Node,
    resource: bool,
) -> impl Iterator<Item = Value<'a>> {
    let fields = has_fields(node, resource);
    members.keys().filter(move |name| member_node(node, resource, name).is_some()).map(move |name| {
        match if fields { escape(name) } else { None } {
            Some(escaped) if escaped != **name => Value::text(escaped.into_owned()),
            _ => Value::String(Text::Borrowed(name)),
        }
    })
}

/// Whether two objects of one schema are equal in what has no schema.
pub(crate) fn unknown_members_equal(
    left: &JsonMap<String, Json>,
    right: &JsonMap<String, Json>,
    node: &Node,
    resource: bool,
) -> bool {
    left.iter()
        .filter(|(name, _)| member_node(node, resource, name).is_none())
        .all(|(name, value)| right.get(name).is_none_or(|other| value == other))
}

/// As messages show data that has no schema.
pub(crate) fn shown(json: &Json) -> String {
    go::marshalled(json)
}
