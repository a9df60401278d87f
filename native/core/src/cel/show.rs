//! Values as messages show them, and as `string()` and `format()` write them.

use crate::go;

use super::value::Value;

/// As Go prints the value in an error.
pub(crate) fn plain(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => go::float(*value),
        Value::String(text) => text.as_str().into(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Duration(nanos) => go::duration_text(*nanos),
        Value::Timestamp(time) => time.shown(),
        Value::Type(name) => name.to_string(),
        Value::Opaque(json) => super::json::shown(json),
        Value::List(_) | Value::Map(_) => value.type_name().into(),
        Value::Ip(address) => address.to_string(),
        Value::Cidr(address, bits) => format!("{address}/{bits}"),
        other => other.type_name().into(),
    }
}

/// The seconds of a duration, as `string()` writes it.
pub(crate) fn duration(nanos: i64) -> String {
    let seconds = nanos / 1_000_000_000;
    let rest = nanos % 1_000_000_000;
    // As a float, in the fewest digits that read the same.
    let float = seconds as f64 + rest as f64 / 1e9;
    format!("{float}s")
}
