//! What upstream says of patches of the wrong types: Go's decoder of JSON, and apimachinery's converter
//! (`pkg/runtime/converter.go`), which the outcome of a strategic merge goes through.

use serde_json::Value;

use super::PatchFailure;
use crate::go::{Underlying, float, json_kind, underlying};
use crate::schema::{ErrorKind, Rejection};

/// Why these are no operations of a JSON patch, by type alone.
pub(super) fn no_operations(patch: &Value) -> Option<PatchFailure> {
    let refused = |given: &str, place: &str| {
        let told = format!("error decoding patch: json: cannot unmarshal {given} into Go {place}");
        Some(PatchFailure::bad_request(told))
    };
    let Value::Array(operations) = patch else {
        return json_kind(patch).and_then(|given| refused(given, "value of type []handlers.jsonPatchOp"));
    };
    operations.iter().find_map(|operation| {
        let Value::Object(members) = operation else {
            return json_kind(operation)
                .and_then(|given| refused(given, "value of type handlers.jsonPatchOp"));
        };
        members.iter().find_map(|(name, member)| {
            let given = json_kind(member).filter(|given| *given != "string")?;
            let place = format!("struct field jsonPatchOp.{name} of type string");
            matches!(name.as_str(), "op" | "path" | "from").then(|| refused(given, &place)).flatten()
        })
    })
}

/// Why this is no object to be merged.
pub(super) fn no_members(patch: &Value) -> String {
    let given = json_kind(patch).unwrap_or("null");
    format!("json: cannot unmarshal {given} into Go value of type map[string]interface {{}}")
}

/// What is wrong with what a converter, and no decoder, makes an object of its kind.
pub(super) fn converted_by(rejection: &Rejection, problem: &str) -> String {
    if !rejection.errors.iter().any(|error| error.kind == ErrorKind::OwnType) {
        return converted(problem);
    }
    // The value's own type reads it, and does not know where it stands.
    let placed = problem.split_once(" into Go struct field ");
    let bare = placed.and_then(|(given, place)| {
        let (_, wanted) = place.split_once(" of type ")?;
        Some(format!("{given} into Go value of type {wanted}"))
    });
    bare.unwrap_or_else(|| problem.to_owned())
}

/// What the converter says where the decoder says `json: cannot unmarshal …`; anything else stays as it is.
pub(super) fn converted(problem: &str) -> String {
    let told = problem.strip_prefix("json: cannot unmarshal ").and_then(|rest| {
        let (given, place) = rest.split_once(" into Go struct field ")?;
        let (_, wanted) = place.split_once(" of type ")?;
        Some(conversion_problem(given, wanted))
    });
    told.unwrap_or_else(|| problem.to_owned())
}

fn conversion_problem(given: &str, wanted: &str) -> String {
    let from = match given.split_once(' ') {
        Some((_, number)) if number.parse::<i64>().is_err() => "float64",
        _ => match given {
            "object" => "map",
            "array" => "slice",
            "string" | "bool" => given,
            _ => "int64",
        },
    };
    let underlying = if wanted == "string" { Some(Underlying::Text) } else { underlying(wanted) };
    match wanted {
        slice if slice.starts_with("[]") || underlying == Some(Underlying::List) => {
            format!("cannot restore slice from {from}")
        }
        map if map.starts_with("map[") || underlying == Some(Underlying::Map) => {
            format!("cannot restore map from {from}")
        }
        // Go converts an integer to a string, and would make a letter of it.
        text if underlying.is_some() && from == "int64" => format!("cannot convert int64 to {text}"),
        _ if underlying.is_some() => "unrecognized type: string".to_owned(),
        named if named.contains('.') => format!("cannot restore struct from: {from}"),
        number if from == "float64" && number.contains("int") => {
            format!("cannot convert float64 to {number}")
        }
        other => format!("unrecognized type: {other}"),
    }
}

/// What Go calls the type of a decoded value.
pub(super) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// This is not the list that a directive must have.
pub(super) fn no_list(value: &Value) -> PatchFailure {
    plain(format!("expected a []interface {{}}, but received a {}", go_type(value)))
}

/// An element of a list that is merged by key cannot be found.
pub(super) fn no_merge_key(element: &Value, key: &str) -> PatchFailure {
    let shown = go_text(element);
    plain(format!("map: {shown} does not contain declared merge key: {key}"))
}

/// Two lists are merged only if all elements of both are of one type, and none is a list.
pub(super) fn check_alike(before: &[Value], changes: &[Value]) -> Result<(), PatchFailure> {
    let mut types = before.iter().chain(changes).map(go_type);
    match types.next() {
        Some("[]interface {}") => Err(PatchFailure::unprocessable("lists of lists are not supported")),
        Some(first) if types.any(|other| other != first) => {
            let both = [before, changes].map(|list| go_text(&Value::Array(list.to_vec()))).join(" ");
            Err(plain(format!("list element types are not identical: [{both}]")))
        }
        _ => Ok(()),
    }
}

/// A value as Go's `%v` prints it.
pub(super) fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => float(number.as_f64().unwrap_or_default()),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(members) => {
            let mut pairs: Vec<_> = members.iter().collect();
            pairs.sort_by_key(|(name, _)| *name);
            let pairs: Vec<_> =
                pairs.iter().map(|(name, member)| format!("{name}:{}", go_text(member))).collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

/// The outcome of a patch is no object of its kind: invalid, not malformed.
pub(super) fn invalid(shown: &str, problem: &str) -> PatchFailure {
    let detail = format!("Invalid value: {shown:?}: {problem}");
    let message = format!(" \"\" is invalid: patch: {detail}");
    PatchFailure { code: 422, reason: "Invalid", message, detail }
}

/// What upstream gives on as it is, which makes it a 500 of no reason.
pub(super) fn plain(message: String) -> PatchFailure {
    PatchFailure { code: 500, reason: "", message, detail: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operations_of_the_wrong_types_are_refused_as_go_does() {
        let told = |patch: Value| no_operations(&patch).map(|failure| failure.message);
        let head = "error decoding patch: json: cannot unmarshal";
        assert_eq!(
            told(json!({})),
            Some(format!("{head} object into Go value of type []handlers.jsonPatchOp"))
        );
        assert_eq!(
            told(json!([1])),
            Some(format!("{head} number into Go value of type handlers.jsonPatchOp"))
        );
        let path = format!("{head} number into Go struct field jsonPatchOp.path of type string");
        assert_eq!(told(json!([{"op": "add", "path": 1}])), Some(path));
        assert_eq!(told(json!([null])), None);
        assert_eq!(told(json!([{"op": "add", "path": "/a", "value": 1}])), None);
    }

    #[test]
    fn what_cannot_be_decoded_is_told_as_the_converter_tells_it() {
        let told = |given: &str, wanted: &str| {
            converted(&format!("json: cannot unmarshal {given} into Go struct field A.b of type {wanted}"))
        };
        assert_eq!(told("object", "int32"), "unrecognized type: int32");
        assert_eq!(told("number 1.5", "int32"), "cannot convert float64 to int32");
        assert_eq!(told("number", "string"), "cannot convert int64 to string");
        assert_eq!(told("number", "types.UID"), "cannot convert int64 to types.UID");
        assert_eq!(told("object", "types.UID"), "unrecognized type: string");
        assert_eq!(told("number", "bool"), "unrecognized type: bool");
        assert_eq!(told("string", "[]v1.Container"), "cannot restore slice from string");
        assert_eq!(told("array", "map[string]string"), "cannot restore map from slice");
        assert_eq!(told("number", "v1.DeploymentSpec"), "cannot restore struct from: int64");
        assert_eq!(converted("quantities must match"), "quantities must match");
    }

    #[test]
    fn a_patch_is_shown_as_go_prints_it() {
        let patch = json!({"spec": {"b": [1, "x", null], "a": {}, "c": 1.5}, "d": true});
        assert_eq!(go_text(&patch), "map[d:true spec:map[a:map[] b:[1 x <nil>] c:1.5]]");
    }
}
