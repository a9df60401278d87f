//! Values as Go prints them, for messages.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// From which power of ten on floats are printed with an exponent.
const EXPONENT_FROM: i32 = 6;

/// A value as upstream shows it in a field error.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Number(number) => self::number(number),
        Value::Bool(_) | Value::Null => value.to_string(),
        _ => {
            let mut out = String::new();
            json(value, &mut out);
            out
        }
    }
}

/// What Go calls JSON that it cannot put somewhere; None for null, which it can put anywhere.
pub(crate) fn json_kind(value: &Value) -> Option<&'static str> {
    match value {
        Value::Null => None,
        Value::Bool(_) => Some("bool"),
        Value::Number(_) => Some("number"),
        Value::String(_) => Some("string"),
        Value::Array(_) => Some("array"),
        Value::Object(_) => Some("object"),
    }
}

/// `strconv.Quote`.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\x7f' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x1_0000 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => {
                let _ = write!(out, "\\U{:08x}", c as u32);
            }
        }
    }
    out.push('"');
    out
}

/// Letters, marks, numbers, punctuation, symbols and the ASCII space; what Rust shows plainly in a string, too.
fn is_printable(c: char) -> bool {
    c.is_ascii() || (!c.is_whitespace() && !matches!(c.escape_debug().next(), Some('\\')))
}

/// A JSON number as `%v` prints it.
fn number(number: &Number) -> String {
    match number.as_i64() {
        Some(integer) => integer.to_string(),
        None => float(number.as_f64().unwrap_or_default()),
    }
}

/// `%v` and `strconv.FormatFloat(value, 'g', -1, 64)`: the shortest text that reads as `value`, with an exponent below
/// 1e-4 and from 1e6 on.
pub(crate) fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if !(-4..EXPONENT_FROM).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}

/// `json.Marshal`: keys sorted, `<`, `>` and `&` escaped.
fn json(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            out.push('{');
            for (at, name) in names.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                json_text(name, out);
                out.push(':');
                json(&members[name], out);
            }
            out.push('}');
        }
        Value::Array(elements) => {
            out.push('[');
            for (at, element) in elements.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                json(element, out);
            }
            out.push(']');
        }
        Value::String(text) => json_text(text, out),
        Value::Number(number) => out.push_str(&json_number(number)),
        Value::Bool(_) | Value::Null => out.push_str(&value.to_string()),
    }
}

fn json_number(number: &Number) -> String {
    match number.as_i64() {
        Some(integer) => integer.to_string(),
        None => json_float(number.as_f64().unwrap_or_default()),
    }
}

/// As `json.Marshal` writes a float: with an exponent below 1e-6 and from 1e21 on.
pub(crate) fn json_float(value: f64) -> String {
    if value == 0.0 || (1e-6..1e21).contains(&value.abs()) {
        return format!("{value}");
    }
    let scientific = format!("{value:e}");
    if scientific.contains("e-") { scientific } else { scientific.replace('e', "e+") }
}

fn json_text(text: &str, out: &mut String) {
    let plain = Value::from(text).to_string();
    for c in plain.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
}

/// A text as `json.Marshal` writes it.
pub(crate) fn marshalled_text(text: &str) -> String {
    let mut out = String::new();
    json_text(text, &mut out);
    out
}

/// A value as `json.Marshal` writes it.
pub(crate) fn marshalled(value: &Value) -> String {
    let mut out = String::new();
    json(value, &mut out);
    out
}
