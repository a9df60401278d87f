//! JSON to protobuf, in one pass over the text: what JSON has is written, what it has not is left out, which readers
//! take for zero. Members that the kind does not have are passed over.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::envelope::{TAIL, head, room};
use super::table::{Field, Kind, Message, Repeat, SCHEMA, message_of};
use super::wire::{FIXED64, put_bytes, put_nested, put_number, put_tag};
use super::{Fault, special};

/// Encodes an object as the kind it says it is, in its envelope.
pub fn encode(json: &[u8]) -> Result<Vec<u8>, Fault> {
    #[derive(serde::Deserialize)]
    struct Head<'a> {
        #[serde(borrow, default, rename = "apiVersion")]
        api_version: Cow<'a, str>,
        #[serde(borrow, default)]
        kind: Cow<'a, str>,
    }
    let head: Head<'_> = serde_json::from_slice(json).map_err(|error| Fault::new(error.to_string()))?;
    encode_as(&head.api_version, &head.kind, json)
}

/// Encodes an object of a kind, in an envelope; what the JSON says of itself does not matter.
pub fn encode_as(api_version: &str, kind: &str, json: &[u8]) -> Result<Vec<u8>, Fault> {
    let message = form_of(api_version, kind)?;
    // The envelope's head depends on the message's length, so the message is written behind room for it.
    let room = room(api_version, kind);
    let mut out = Vec::with_capacity(room + json.len());
    out.resize(room, 0);
    append(message, json, &mut out)?;
    let head = head(api_version, kind, out.len() - room);
    let start = room - head.len();
    out[start..room].copy_from_slice(&head);
    out.extend_from_slice(TAIL);
    out.drain(..start);
    Ok(out)
}

/// The message of a kind.
pub fn form_of(api_version: &str, kind: &str) -> Result<&'static Message, Fault> {
    let none = || Fault::new(format!("{kind} in version {api_version:?} has no protobuf form"));
    message_of(api_version, kind).ok_or_else(none)
}

/// Writes the bare message of an object.
pub fn append(message: &'static Message, json: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    // Checked once, not string by string.
    let text = std::str::from_utf8(json).map_err(|error| Fault::new(error.to_string()))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let filled = Members { message, out }.deserialize(&mut deserializer);
    filled.and_then(|()| deserializer.end()).map_err(|error| Fault::new(error.to_string()))
}

/// The members of an object into a message.
struct Members<'o> {
    message: &'static Message,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an object: {}", self.message.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut inlined = Vec::new();
        while let Some(position) = map.next_key_seed(Name(self.message))? {
            match position {
                Some((position, name)) => {
                    member(self.message, position, &name, &mut map, self.out, &mut inlined)?
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Inlined::close(inlined, self.message, self.out);
        Ok(())
    }
}

/// A member's name: the position of the field that holds it, and the name where an inlined message has to be asked too.
struct Name(&'static Message);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<(u8, String)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<(u8, String)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let Some(position) = self.0.position(name) else { return Ok(None) };
        let inlined = self.0.fields[usize::from(position)].repeat == Repeat::Inlined;
        Ok(Some((position, if inlined { name.to_owned() } else { String::new() })))
    }
}

/// A message whose fields come among another's, in any order; written when all have come.
struct Inlined {
    position: u8,
    out: Vec<u8>,
    inner: Vec<Inlined>,
}

impl Inlined {
    fn close(all: Vec<Self>, message: &'static Message, out: &mut Vec<u8>) {
        for Self { position, out: mut bytes, inner } in all {
            let field = &message.fields[usize::from(position)];
            if let Some(message) = field.kind.message() {
                Self::close(inner, message, &mut bytes);
            }
            put_bytes(out, field.number, &bytes);
        }
    }
}

/// Writes the next value of `map` as the member `name` of `message`, whose field at `position` holds it.
fn member<'de, A: MapAccess<'de>>(
    message: &'static Message,
    position: u8,
    name: &str,
    map: &mut A,
    out: &mut Vec<u8>,
    inlined: &mut Vec<Inlined>,
) -> Result<(), A::Error> {
    let field = &message.fields[usize::from(position)];
    let inner = field.kind.message().filter(|_| field.repeat == Repeat::Inlined);
    let Some(inner) = inner else { return map.next_value_seed(Value::of(field, out)) };
    let Some(inner_position) = inner.position(name) else {
        return map.next_value::<IgnoredAny>().map(|_| ());
    };
    let open = match inlined.iter().position(|open| open.position == position) {
        Some(found) => found,
        None => {
            inlined.push(Inlined { position, out: Vec::new(), inner: Vec::new() });
            inlined.len() - 1
        }
    };
    let open = &mut inlined[open];
    member(inner, inner_position, name, map, &mut open.out, &mut open.inner)
}

/// A JSON value as the field `number`.
struct Value<'o> {
    number: u32,
    kind: Kind,
    repeat: Repeat,
    /// null is left out, except where a list or map would lose an element by it.
    is_element: bool,
    out: &'o mut Vec<u8>,
}

impl<'o> Value<'o> {
    fn of(field: &Field, out: &'o mut Vec<u8>) -> Self {
        Self { number: field.number, kind: field.kind, repeat: field.repeat, is_element: false, out }
    }

    fn element(number: u32, kind: Kind, out: &'o mut Vec<u8>) -> Self {
        Self { number, kind, repeat: Repeat::Single, is_element: true, out }
    }

    /// What a single value would be.
    fn single(&self) -> Option<Kind> {
        (self.repeat == Repeat::Single).then_some(self.kind)
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if !matches!(self.single(), Some(Kind::Json | Kind::Extension)) {
            return deserializer.deserialize_any(self);
        }
        let raw = <&RawValue as de::Deserialize>::deserialize(deserializer)?.get();
        if raw != "null" || self.is_element {
            nested(self.out, self.number, |out| put_bytes(out, special::ONLY, raw.as_bytes()));
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.repeat, self.kind.message()) {
            (Repeat::List, _) => formatter.write_str("a list"),
            (Repeat::Map, _) => formatter.write_str("a map"),
            (_, Some(message)) => formatter.write_str(message.name),
            (_, None) => write!(formatter, "{:?}", self.kind),
        }
    }

    /// null is left out, except where a list or map would lose an element by it.
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        if !self.is_element {
            return Ok(());
        }
        match self.kind {
            Kind::Bool | Kind::Int32 | Kind::Int64 => put_number(self.out, self.number, 0),
            Kind::Double => return self.visit_f64(0.0),
            _ => put_bytes(self.out, self.number, b""),
        }
        Ok(())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        match self.single() {
            Some(Kind::String) => put_bytes(self.out, self.number, text.as_bytes()),
            Some(Kind::Bytes) => put_bytes(self.out, self.number, &STANDARD.decode(text).map_err(E::custom)?),
            Some(kind @ (Kind::Time | Kind::MicroTime | Kind::Quantity | Kind::IntOrString)) => {
                return put_nested(self.out, self.number, |out| special::encode_text(kind, text, out));
            }
            _ => return Err(E::invalid_type(de::Unexpected::Str(text), &self)),
        }
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        match self.single() {
            Some(Kind::Bool) => put_number(self.out, self.number, u64::from(value)),
            Some(kind @ Kind::SchemaOrBool) => {
                let (_, allows) = special::union_numbers(kind);
                nested(self.out, self.number, |out| put_number(out, allows, u64::from(value)));
            }
            _ => return Err(E::invalid_type(de::Unexpected::Bool(value), &self)),
        }
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        match self.single() {
            // Negative numbers are sign-extended to 64 bits, whatever their type.
            Some(Kind::Int32 | Kind::Int64) => put_number(self.out, self.number, value as u64),
            Some(Kind::Double) => return self.visit_f64(value as f64),
            Some(Kind::Quantity) => {
                let text = itoa::Buffer::new().format(value).to_owned();
                nested(self.out, self.number, |out| put_bytes(out, special::ONLY, text.as_bytes()));
            }
            Some(Kind::IntOrString) => {
                nested(self.out, self.number, |out| special::encode_int_or_string(Ok(value), out));
            }
            _ => return Err(E::invalid_type(de::Unexpected::Signed(value), &self)),
        }
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        match self.single() {
            Some(Kind::Double) => {
                put_tag(self.out, self.number, FIXED64);
                self.out.extend_from_slice(&value.to_bits().to_le_bytes());
            }
            Some(Kind::Quantity) => {
                let text = value.to_string();
                nested(self.out, self.number, |out| put_bytes(out, special::ONLY, text.as_bytes()));
            }
            _ => return Err(E::invalid_type(de::Unexpected::Float(value), &self)),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let (number, kind) = match (self.repeat, self.kind) {
            (Repeat::List, kind) => {
                while seq.next_element_seed(Value::element(self.number, kind, self.out))?.is_some() {}
                return Ok(());
            }
            (Repeat::Single, Kind::Strings) => (special::ONLY, Kind::String),
            (Repeat::Single, kind @ Kind::SchemaOrList) => (special::union_numbers(kind).1, SCHEMA),
            (Repeat::Single, kind @ Kind::SchemaOrStrings) => (special::union_numbers(kind).1, Kind::String),
            _ => return Err(de::Error::invalid_type(de::Unexpected::Seq, &self)),
        };
        put_nested(self.out, self.number, |out| {
            while seq.next_element_seed(Value::element(number, kind, out))?.is_some() {}
            Ok(())
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        match (self.repeat, self.kind, self.kind.message().or(SCHEMA.message())) {
            (Repeat::Map, kind, _) => {
                while let Some(key) = map.next_key::<Text<'_>>()? {
                    put_nested(self.out, self.number, |out| {
                        put_bytes(out, 1, key.0.as_bytes());
                        map.next_value_seed(Value::element(2, kind, out))
                    })?;
                }
                Ok(())
            }
            (Repeat::Single, Kind::Message(_), Some(message)) => {
                put_nested(self.out, self.number, |out| Members { message, out }.visit_map(map))
            }
            (
                Repeat::Single,
                kind @ (Kind::SchemaOrList | Kind::SchemaOrBool | Kind::SchemaOrStrings),
                Some(message),
            ) => {
                let (schema, other) = special::union_numbers(kind);
                put_nested(self.out, self.number, |out| {
                    if kind == Kind::SchemaOrBool {
                        put_number(out, other, 1);
                    }
                    put_nested(out, schema, |out| Members { message, out }.visit_map(map))
                })
            }
            _ => Err(de::Error::invalid_type(de::Unexpected::Map, &self)),
        }
    }
}

/// A key, borrowed from the text where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn nested(out: &mut Vec<u8>, number: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let filled = put_nested(out, number, |out| {
        fill(out);
        Ok::<_, Infallible>(())
    });
    match filled {
        Ok(()) => {}
    }
}
