//! The hash by which Kubernetes tells pod templates apart: FNV-1a over Go's print of a PodTemplateSpec.
//!
//! (kubernetes `pkg/controller/controller_utils.go`, ComputeHash; `pkg/util/hash`; go-spew's `%#v` without methods and
//! pointers' addresses.) `pod_template.txt` has the types in the order of Go's fields: a type's name, and below it, per
//! field, its name in Go, its name in JSON (- for one that is embedded) and its type, `name=kind` unless it is a struct.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::LazyLock;

use serde_json::Value;

use super::quantity_print::quantity;

enum Type {
    Pointer(Box<Type>),
    Struct(&'static str),
    List(&'static str, Box<Type>),
    Map(&'static str, Box<Type>),
    /// A kind of Go's: string, bool or a number.
    Plain(&'static str, &'static str),
}

struct Field {
    name: &'static str,
    tag: &'static str,
    of: Type,
}

static TYPES: LazyLock<HashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let mut types: HashMap<&str, Vec<Field>> = HashMap::new();
    let mut current = "";
    for line in include_str!("pod_template.txt").lines() {
        let Some(field) = line.strip_prefix(' ') else {
            current = line;
            types.insert(line, Vec::new());
            continue;
        };
        let mut parts = field.splitn(3, ' ');
        let (name, tag, of) = (parts.next(), parts.next(), parts.next());
        if let (Some(name), Some(tag), Some(of), Some(fields)) = (name, tag, of, types.get_mut(current)) {
            fields.push(Field { name, tag, of: Type::read(of) });
        }
    }
    types
});

impl Type {
    fn read(text: &'static str) -> Self {
        if let Some(rest) = text.strip_prefix('*') {
            return Self::Pointer(Box::new(Self::read(rest)));
        }
        let Some((name, shape)) = text.split_once('=') else { return Self::Struct(text) };
        if let Some(of) = shape.strip_prefix("[]") {
            return Self::List(name, Box::new(Self::read(of)));
        }
        match shape.strip_prefix("map ") {
            Some(of) => Self::Map(name, Box::new(Self::read(of))),
            None => Self::Plain(name, shape),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Pointer(of) => format!("*{}", of.name()),
            Self::Struct(name) | Self::List(name, _) | Self::Map(name, _) | Self::Plain(name, _) => {
                (*name).to_owned()
            }
        }
    }

    /// What is empty is nil, as it is once it has come by protobuf.
    fn print(&self, value: Option<&Value>, typed: bool, out: &mut String) {
        let value = value.filter(|value| !value.is_null());
        if let (Self::Pointer(of), Some(_)) = (self, value) {
            let _ = write!(out, "(*{})", of.name());
            return of.print(value, false, out);
        }
        if typed {
            let _ = write!(out, "({})", self.name());
        }
        match self {
            Self::Pointer(_) => out.push_str("<nil>"),
            Self::Struct(name) => print_struct(name, value, out),
            Self::List(_, of) => match value.and_then(Value::as_array) {
                Some(items) if !items.is_empty() => {
                    let each = items.iter().map(|item| (String::new(), item));
                    print_items("[", each, of, out);
                }
                _ => out.push_str("<nil>"),
            },
            Self::Map(_, of) => match value.and_then(Value::as_object) {
                Some(entries) if !entries.is_empty() => {
                    let mut sorted: Vec<(String, &Value)> =
                        entries.iter().map(|(key, value)| (format!("{key}:"), value)).collect();
                    sorted.sort_by(|one, other| one.0[..one.0.len() - 1].cmp(&other.0[..other.0.len() - 1]));
                    print_items("map[", sorted.into_iter(), of, out);
                }
                _ => out.push_str("<nil>"),
            },
            Self::Plain(_, kind) => print_plain(kind, value, out),
        }
    }
}

fn print_items<'a>(
    open: &str,
    items: impl Iterator<Item = (String, &'a Value)>,
    of: &Type,
    out: &mut String,
) {
    out.push_str(open);
    for (index, (key, item)) in items.enumerate() {
        if index > 0 {
            out.push(' ');
        }
        out.push_str(&key);
        of.print(Some(item), false, out);
    }
    out.push(']');
}

fn print_struct(name: &str, value: Option<&Value>, out: &mut String) {
    match name {
        "resource.Quantity" => out.push_str(&quantity(value.map(plain_text).unwrap_or_default().trim())),
        "intstr.IntOrString" => print_int_or_string(value, out),
        // templates have none that is set
        "v1.Time" => {
            out.push_str("{Time:(time.Time){wall:(uint64)0 ext:(int64)0 loc:(*time.Location)<nil>}}");
        }
        _ => {
            out.push('{');
            for (index, field) in TYPES.get(name).into_iter().flatten().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                let of_field =
                    if field.tag == "-" { value } else { value.and_then(|value| value.get(field.tag)) };
                let _ = write!(out, "{}:", field.name);
                field.of.print(of_field, true, out);
            }
            out.push('}');
        }
    }
}

fn print_int_or_string(value: Option<&Value>, out: &mut String) {
    let (kind, number, text) = match value {
        Some(Value::String(text)) => (1, 0, text.as_str()),
        Some(number) => (0, number.as_i64().unwrap_or_default(), ""),
        None => (0, 0, ""),
    };
    let _ = write!(out, "{{Type:(intstr.Type){kind} IntVal:(int32){number} StrVal:(string){text}}}");
}

fn print_plain(kind: &str, value: Option<&Value>, out: &mut String) {
    match (kind, value) {
        ("string", Some(Value::String(text))) => out.push_str(text),
        ("string", _) => {}
        ("bool", given) => out.push_str(if given == Some(&Value::Bool(true)) { "true" } else { "false" }),
        (_, given) => out.push_str(&given.map_or_else(|| "0".to_owned(), plain_text)),
    }
}

fn plain_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Go's print of the template (PodTemplateSpec as JSON, with its defaults).
pub fn printed(template: &Value) -> String {
    let mut out = String::new();
    Type::Struct("v1.PodTemplateSpec").print(Some(template), true, &mut out);
    out
}

/// `collisions`: status.collisionCount; None when it is not set, which is another hash than 0.
pub fn template_hash(template: &Value, collisions: Option<i32>) -> u32 {
    let mut bytes = printed(template).into_bytes();
    if let Some(count) = collisions {
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
    }
    bytes.iter().fold(FNV_OFFSET, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(FNV_PRIME))
}

const FNV_OFFSET: u32 = 2_166_136_261;
const FNV_PRIME: u32 = 16_777_619;

/// FNV-1 (not 1a), which tells ControllerRevisions apart.
pub fn fnv1(bytes: &[u8]) -> u32 {
    bytes.iter().fold(FNV_OFFSET, |hash, &byte| hash.wrapping_mul(FNV_PRIME) ^ u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_a_field_has_is_there() {
        fn named(of: &Type) -> Option<&str> {
            match of {
                Type::Pointer(of) | Type::List(_, of) | Type::Map(_, of) => named(of),
                Type::Struct(name) => Some(name),
                Type::Plain(..) => None,
            }
        }
        for field in TYPES.values().flatten() {
            assert!(named(&field.of).is_none_or(|name| TYPES.contains_key(name)), "{}", field.name);
        }
    }

    #[test]
    fn hashes_are_the_reference_s() {
        assert_eq!(fnv1(b"foobar"), 0x31f0_b262);
    }
}
