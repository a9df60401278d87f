//! What expressions of mutating policies make, as JSON.
//!
//! Semantics and wording of apiserver `pkg/cel/mutation` and `pkg/admission/plugin/policy/mutating/patch`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map as JsonMap, Number, Value as Json};

use super::messages::OBJECT;
use super::show;
use super::value::{Key, List, Map, OwnedMap, Value};
use crate::go;

/// An apply configuration: `Object{...}`.
pub(crate) fn configuration(value: &Value<'_>) -> Result<Json, String> {
    check_names(value, OBJECT)?;
    json_of(value)
}

/// The operations of a JSON patch: a list of `JSONPatch{...}`.
pub(crate) fn operations(value: &Value<'_>) -> Result<Json, String> {
    let Value::List(List::Owned { elements, .. }) = value else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".into());
    };
    elements.iter().map(operation).collect::<Result<Vec<Json>, String>>().map(Json::Array)
}

fn operation(value: &Value<'_>) -> Result<Json, String> {
    let Value::Map(Map::Owned(fields)) = value else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch".into());
    };
    let mut made = JsonMap::new();
    for name in ["op", "path", "from"] {
        match fields.get(&Key::String(name.into())) {
            Some(Value::String(text)) => made.insert(name.into(), Json::from(text.as_str())),
            _ if name == "from" => None,
            _ => made.insert(name.into(), Json::from("")),
        };
    }
    if let Some(value) = fields.get(&Key::String("value".into())) {
        if let Value::Map(Map::Owned(inner)) = value
            && let Some(name) = &inner.message
        {
            check_names(value, name)?;
        }
        let value = json_of(value).map_err(|why| {
            format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}")
        })?;
        made.insert("value".into(), value);
    }
    Ok(Json::Object(made))
}

/// Fails where an object is of another type than its place says.
fn check_names(value: &Value<'_>, root: &str) -> Result<(), String> {
    let mut wrong = Vec::new();
    find_misnamed(value, root, &mut wrong);
    if wrong.is_empty() { Ok(()) } else { Err(format!("type mismatch: {}", wrong.join("\n"))) }
}

fn find_misnamed(value: &Value<'_>, path: &str, wrong: &mut Vec<String>) {
    match value {
        Value::Map(Map::Owned(map)) => match &map.message {
            Some(name) => {
                if **name != *path {
                    let (name, wanted) = (go::quote(name), go::quote(path));
                    wrong.push(format!(
                        "unexpected type name {name}, expected {wanted}, which matches field name path from root \
                         Object type"
                    ));
                }
                for (field, value) in &map.entries {
                    find_misnamed(value, &format!("{path}.{}", show::plain(field)), wrong);
                }
            }
            None => map.entries.iter().for_each(|(_, value)| find_misnamed(value, path, wrong)),
        },
        Value::List(List::Owned { elements, .. }) => {
            elements.iter().for_each(|element| find_misnamed(element, path, wrong));
        }
        _ => {}
    }
}

fn json_of(value: &Value<'_>) -> Result<Json, String> {
    Ok(match value {
        Value::Null | Value::Optional(None) => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::Uint(value) => Json::from(*value),
        Value::Double(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
        Value::String(text) => Json::from(text.as_str()),
        Value::Bytes(bytes) => Json::from(STANDARD.encode(bytes)),
        Value::Duration(nanos) => Json::from(show::duration(*nanos)),
        Value::Timestamp(time) => Json::from(time.shown()),
        Value::Optional(Some(inner)) => json_of(inner)?,
        Value::List(List::Plain(elements)) => Json::Array(elements.to_vec()),
        Value::List(List::Owned { elements, .. }) => {
            Json::Array(elements.iter().map(json_of).collect::<Result<_, _>>()?)
        }
        Value::Map(Map::Plain(members)) => Json::Object((*members).clone()),
        Value::Map(Map::Owned(map)) => Json::Object(members_of(map)?),
        other => return Err(format!("unsupported type: {}", other.type_name())),
    })
}

fn members_of(map: &OwnedMap<'_>) -> Result<JsonMap<String, Json>, String> {
    let member = |(key, value): &(Value<'_>, Value<'_>)| match key {
        Value::String(name) => Ok((name.as_str().to_owned(), json_of(value)?)),
        other => Err(format!("map key {} is of type {}, not string", show::plain(other), other.type_name())),
    };
    map.entries.iter().map(member).collect()
}
