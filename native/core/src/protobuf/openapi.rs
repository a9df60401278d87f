//! Documents of OpenAPI v3 as `openapi.v3.Document`, into which gnostic makes them for upstream: by the table of its
//! messages, and by a few rules of what its messages are in JSON.

use std::sync::LazyLock;

use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Fault;
use super::wire::{FIXED64, put_bytes, put_nested, put_number, put_tag};

/// A document's JSON in protobuf. Members that the messages have no field for are left out.
pub fn encode_openapi_v3(json: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    // Schemas of custom resources may be deep; whoever wrote the document went as deep.
    reader.disable_recursion_limit();
    let document = Value::deserialize(&mut reader).map_err(|error| Fault::new(error.to_string()))?;
    let mut out = Vec::with_capacity(json.len());
    MESSAGES.document.map_or(Ok(()), |message| MESSAGES.write(&mut out, message, &document))?;
    Ok(out)
}

static MESSAGES: LazyLock<Messages> = LazyLock::new(|| Messages::read(include_str!("openapi.txt")));

struct Messages {
    all: Vec<Message>,
    document: Option<usize>,
}

struct Message {
    shape: Shape,
    /// By number.
    fields: Vec<Field>,
}

/// What a message is in JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// An object of its fields.
    Object,
    /// What one of its fields is.
    Union,
    /// A list, or its only element.
    List,
    /// Any value; in protobuf its text.
    Any,
}

struct Field {
    name: &'static str,
    number: u32,
    kind: Kind,
    repeated: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Flag,
    Integer,
    Double,
    Message(usize),
    /// In a list: a name and a value, which stand as a member in JSON.
    Entry(usize),
}

const EXTENSIONS: &str = "specificationExtension";
const REFERENCE: &str = "$ref";

impl Messages {
    fn read(table: &'static str) -> Self {
        let lines: Vec<_> = table.lines().filter(|line| !line.starts_with('#')).collect();
        let named = lines.iter().filter_map(|line| line.split_once(':')).enumerate();
        let named: FxHashMap<&str, usize> = named.map(|(number, (name, _))| (name, number)).collect();
        let all = lines.iter().filter_map(|line| line.split_once(':'));
        let all = all.map(|(name, fields)| Message::read(name, fields, &named)).collect();
        Self { all, document: named.get("Document").copied() }
    }

    fn write(&self, out: &mut Vec<u8>, message: usize, value: &Value) -> Result<(), Fault> {
        let message = &self.all[message];
        match message.shape {
            Shape::Any => self.write_field(out, &message.fields[0], &Value::from(value.to_string())),
            Shape::Union => match message.fields.iter().find(|field| self.fits(field, value)) {
                // Which one it is counts, even if it is zero.
                Some(field) => self.write_one(out, field, value),
                None => Ok(()),
            },
            Shape::List => self.write_field(out, &message.fields[0], value),
            Shape::Object => {
                let Value::Object(members) = value else { return Ok(()) };
                message.fields.iter().try_for_each(|field| match field.kind {
                    Kind::Entry(_) => self.write_entries(out, message, field, members),
                    _ => members.get(field.name).map_or(Ok(()), |value| self.write_field(out, field, value)),
                })
            }
        }
    }

    /// Whether a union is this one of its fields.
    fn fits(&self, field: &Field, value: &Value) -> bool {
        match field.kind {
            Kind::Text => value.is_string(),
            Kind::Flag => value.is_boolean(),
            Kind::Integer | Kind::Double => value.is_number(),
            Kind::Entry(_) => false,
            Kind::Message(message) => match self.all[message].shape {
                Shape::Any => true,
                Shape::Union | Shape::List => value.is_object(),
                Shape::Object => {
                    let refers =
                        self.all[message].fields.first().is_some_and(|field| field.name == REFERENCE);
                    value.as_object().is_some_and(|members| members.contains_key(REFERENCE) == refers)
                }
            },
        }
    }

    /// The members that no field is named for, or those that extend the specification.
    fn write_entries(
        &self,
        out: &mut Vec<u8>,
        message: &Message,
        field: &Field,
        members: &Map<String, Value>,
    ) -> Result<(), Fault> {
        let Kind::Entry(entry) = field.kind else { return Ok(()) };
        let extensible = message.fields.iter().any(|field| field.name == EXTENSIONS);
        let [name_field, value_field] = self.all[entry].fields.as_slice() else { return Ok(()) };
        let named = |name: &str| {
            message.fields.iter().any(|one| one.name == name && !matches!(one.kind, Kind::Entry(_)))
        };
        for (name, value) in members {
            let extends = extensible && name.starts_with("x-");
            if extends == (field.name == EXTENSIONS) && !named(name) {
                put_nested(out, field.number, |out| {
                    put_text(out, name_field.number, name);
                    self.write_field(out, value_field, value)
                })?;
            }
        }
        Ok(())
    }

    fn write_field(&self, out: &mut Vec<u8>, field: &Field, value: &Value) -> Result<(), Fault> {
        match value {
            Value::Array(elements) if field.repeated => {
                elements.iter().try_for_each(|element| self.write_one(out, field, element))
            }
            _ if field.repeated || matches!(field.kind, Kind::Message(_)) => {
                self.write_one(out, field, value)
            }
            _ if is_zero(value) => Ok(()),
            _ => self.write_one(out, field, value),
        }
    }

    fn write_one(&self, out: &mut Vec<u8>, field: &Field, value: &Value) -> Result<(), Fault> {
        if let Kind::Message(message) = field.kind {
            return put_nested(out, field.number, |out| self.write(out, message, value));
        }
        put_scalar(out, field, value);
        Ok(())
    }
}

impl Message {
    fn read(name: &str, fields: &'static str, named: &FxHashMap<&str, usize>) -> Self {
        let read: Vec<_> = fields.split_whitespace().filter_map(|word| Field::read(word, named)).collect();
        let shape = match read.as_slice() {
            _ if name == "Any" => Shape::Any,
            _ if fields.contains('|') => Shape::Union,
            [only] if only.repeated && !matches!(only.kind, Kind::Entry(_)) => Shape::List,
            _ => Shape::Object,
        };
        // Of any value there is the text alone.
        let fields = read.into_iter().filter(|field| shape != Shape::Any || field.kind == Kind::Text);
        Self { shape, fields: fields.collect() }
    }
}

impl Field {
    fn read(word: &'static str, named: &FxHashMap<&str, usize>) -> Option<Self> {
        let (name, rest) = word.trim_start_matches('|').split_once(':')?;
        let (number, kind) = rest.split_once(':')?;
        let (repeated, kind) = kind.strip_prefix("[]").map_or((false, kind), |kind| (true, kind));
        let kind = match kind {
            "string" => Kind::Text,
            "bool" => Kind::Flag,
            "int64" => Kind::Integer,
            "double" => Kind::Double,
            entry if repeated && entry.starts_with("Named") => Kind::Entry(*named.get(entry)?),
            message => Kind::Message(*named.get(message)?),
        };
        Some(Self { name, number: number.parse().ok()?, kind, repeated })
    }
}

/// A value of another type than the field's is left out.
fn put_scalar(out: &mut Vec<u8>, field: &Field, value: &Value) {
    match (field.kind, value) {
        (Kind::Text, Value::String(text)) => put_bytes(out, field.number, text.as_bytes()),
        (Kind::Flag, Value::Bool(flag)) => put_number(out, field.number, u64::from(*flag)),
        (Kind::Integer, Value::Number(number)) => {
            // Whole numbers may come with a point.
            let whole = number.as_i64().or_else(|| number.as_f64().map(|float| float as i64));
            put_number(out, field.number, whole.unwrap_or_default() as u64);
        }
        (Kind::Double, Value::Number(number)) => {
            put_tag(out, field.number, FIXED64);
            out.extend_from_slice(&number.as_f64().unwrap_or_default().to_le_bytes());
        }
        _ => {}
    }
}

fn put_text(out: &mut Vec<u8>, number: u32, text: &str) {
    if !text.is_empty() {
        put_bytes(out, number, text.as_bytes());
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}
