//! Scalars of YAML as go-yaml v2 resolves them (`resolve.go`), in JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::escapes::write_string;
use crate::go::json_float;

const TAGS: &str = "tag:yaml.org,2002:";

/// The JSON of a scalar with this tag, of which `plain` says whether it stands there as it is. Errors are those that
/// upstream tells.
pub(super) fn scalar(text: &str, plain: bool, tag: Option<&str>) -> Result<Vec<u8>, String> {
    let mut quoted = Vec::new();
    write_string(text.as_bytes(), &mut quoted);
    let wanted = match tag {
        None if !plain => return Ok(quoted),
        None => "",
        Some(tag) => tag.strip_prefix(TAGS).unwrap_or("of its own"),
    };
    match wanted {
        "binary" => {
            let decoded =
                STANDARD.decode(text).map_err(|_| "yaml: !!binary value contains invalid base64 data")?;
            let mut json = Vec::new();
            write_string(String::from_utf8_lossy(&decoded).as_bytes(), &mut json);
            return Ok(json);
        }
        "" | "bool" | "int" | "float" | "null" | "timestamp" => {}
        _ => return Ok(quoted),
    }
    let (found, json) = resolved(text).unwrap_or(("str", Ok(quoted.clone())));
    match (wanted, found) {
        ("", _) | ("float", "int") => json,
        // Timestamps are texts, for those who read them before there were any.
        ("timestamp", "str") if is_timestamp(text) => Ok(quoted),
        _ if wanted == found => json,
        _ => Err(format!("yaml: cannot decode !!{found} `{text}` as a !!{wanted}")),
    }
}

type Resolved = (&'static str, Result<Vec<u8>, String>);

/// What a plain scalar is, None for a text.
fn resolved(text: &str) -> Option<Resolved> {
    let unsupported = |value: &str| Err(format!("json: unsupported value: {value}"));
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => ("null", Ok(b"null".to_vec())),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            ("bool", Ok(b"true".to_vec()))
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            ("bool", Ok(b"false".to_vec()))
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => ("float", unsupported("+Inf")),
        "-.inf" | "-.Inf" | "-.INF" => ("float", unsupported("-Inf")),
        ".nan" | ".NaN" | ".NAN" => ("float", unsupported("NaN")),
        _ => return number(text).map(|(kind, json)| (kind, Ok(json))),
    })
}

/// A date, which is all that is asked of one: `2001-01-01`, with a time or without.
fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 8 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-'
}

/// Integers in any of go-yaml's bases, and decimal floats.
fn number(text: &str) -> Option<(&'static str, Vec<u8>)> {
    let first = *text.as_bytes().first()?;
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return None;
    }
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let radix = |letter: u8, base| {
        let is_marked = digits.len() > 2 && digits.starts_with('0') && digits.as_bytes()[1] | 0x20 == letter;
        is_marked.then(|| u64::from_str_radix(&digits[2..], base).ok()).flatten()
    };
    let octal = || {
        let is_octal = digits.len() > 1 && digits.starts_with('0');
        is_octal.then(|| u64::from_str_radix(digits, 8).ok()).flatten()
    };
    let is_decimal = digits == "0" || !digits.starts_with('0');
    let is_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let decimal = || (is_decimal && is_digits).then(|| digits.parse::<u64>().ok()).flatten();
    let integer =
        radix(b'x', 16).or_else(|| radix(b'b', 2)).or_else(|| radix(b'o', 8)).or_else(octal).or_else(decimal);
    if let Some(value) = integer {
        let sign = if negative && value != 0 { "-" } else { "" };
        return Some(("int", format!("{sign}{value}").into_bytes()));
    }
    let is_float =
        digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    let value = plain.parse::<f64>().ok().filter(|value| is_float && value.is_finite())?;
    Some(("float", json_float(value).into_bytes()))
}
