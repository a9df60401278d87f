//! The messages that JSON shows as something else than an object of their fields, both ways.

use serde::de::{self, Unexpected};
use serde_json::value::RawValue;

use super::Fault;
use super::decode::Decoder;
use super::envelope::{Envelope, MAGIC, wrong_type};
use super::table::{Kind, SCHEMA};
use super::wire::{Reader, Value, put_bytes, put_number};
use crate::schema::time;

/// The one field of Quantity, FieldsV1, JSON and RawExtension, and of lists.
pub const ONLY: u32 = 1;

const SECONDS: u32 = 1;
const NANOS: u32 = 2;

const IS_TEXT: u32 = 1;
const NUMBER: u32 = 2;
const TEXT: u32 = 3;

/// The first second of the year 1: Go's zero time, which JSON does not show.
const ZERO_TIME: i64 = -62_135_596_800;

/// Whether JSON leaves a field out that holds this.
pub fn is_nothing(kind: Kind, data: &[u8]) -> Result<bool, Fault> {
    Ok(match kind {
        Kind::Time | Kind::MicroTime => read_time(kind, data)?.is_none(),
        Kind::Json | Kind::Extension => only_bytes(data)?.is_empty(),
        _ => false,
    })
}

pub fn decode(decoder: &mut Decoder<'_>, kind: Kind, data: &[u8]) -> Result<(), Fault> {
    match kind {
        Kind::Time | Kind::MicroTime => match read_time(kind, data)? {
            Some(text) => decoder.string(text.as_bytes()),
            None => decoder.out.extend_from_slice(b"null"),
        },
        Kind::Quantity => {
            let text = only_bytes(data)?;
            decoder.string(if text.is_empty() { b"0" } else { text });
        }
        Kind::IntOrString => int_or_string(decoder, data)?,
        Kind::Json => raw(decoder, only_bytes(data)?)?,
        Kind::Extension => {
            let bytes = only_bytes(data)?;
            if bytes.starts_with(MAGIC) { enveloped(decoder, bytes)? } else { raw(decoder, bytes)? }
        }
        Kind::Strings => strings(decoder, &numbered(data, ONLY)?)?,
        Kind::SchemaOrList | Kind::SchemaOrBool | Kind::SchemaOrStrings => schema_or(decoder, kind, data)?,
        _ => return Err(Fault::new(format!("{kind:?} is no message"))),
    }
    Ok(())
}

/// None for the zero time.
fn read_time(kind: Kind, data: &[u8]) -> Result<Option<String>, Fault> {
    if data.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(data);
    while let Some((number, value)) = reader.field("Timestamp")? {
        match (number, value) {
            (SECONDS, Value::Varint(value)) => seconds = value as i64,
            (NANOS, Value::Varint(value)) => nanos = value as i32,
            (SECONDS, value) => return Err(wrong_type(value, "Seconds")),
            (NANOS, value) => return Err(wrong_type(value, "Nanos")),
            _ => {}
        }
    }
    let micro = kind == Kind::MicroTime;
    let micros = if micro { u32::try_from(nanos / 1000).unwrap_or(u32::MAX) } else { 0 };
    if seconds == ZERO_TIME && micros == 0 {
        return Ok(None);
    }
    let outside = || Fault::new("Time.MarshalJSON: year outside of range [0,9999]");
    time::from_unix(seconds, micros, micro).map(Some).ok_or_else(outside)
}

fn int_or_string(decoder: &mut Decoder<'_>, data: &[u8]) -> Result<(), Fault> {
    let (mut is_text, mut digits, mut text) = (0, 0, &b""[..]);
    let mut reader = Reader::new(data);
    while let Some((number, value)) = reader.field("IntOrString")? {
        match (number, value) {
            (IS_TEXT, Value::Varint(value)) => is_text = value,
            (NUMBER, Value::Varint(value)) => digits = value,
            (TEXT, Value::Bytes(bytes)) => text = bytes,
            (IS_TEXT, value) => return Err(wrong_type(value, "Type")),
            (NUMBER, value) => return Err(wrong_type(value, "IntVal")),
            (TEXT, value) => return Err(wrong_type(value, "StrVal")),
            _ => {}
        }
    }
    match is_text {
        0 => decoder.number(i64::from(digits as i32)),
        1 => decoder.string(text),
        _ => return Err(Fault::new("impossible IntOrString.Type")),
    }
    Ok(())
}

/// Bytes that are JSON themselves.
fn raw(decoder: &mut Decoder<'_>, bytes: &[u8]) -> Result<(), Fault> {
    let text = if bytes.is_empty() { b"null" } else { bytes };
    let value: &RawValue =
        serde_json::from_slice(text).map_err(|error| Fault::new(format!("invalid JSON: {error}")))?;
    decoder.out.extend_from_slice(value.get().as_bytes());
    Ok(())
}

/// An object in an envelope of its own, within another.
fn enveloped(decoder: &mut Decoder<'_>, bytes: &[u8]) -> Result<(), Fault> {
    let inner = Envelope::open(bytes)?;
    match inner.content_type.as_str() {
        "application/json" => raw(decoder, inner.raw),
        _ => decoder.object(&inner.api_version, &inner.kind, inner.raw),
    }
}

/// A schema, or what the union has in its place: several, whether anything is allowed, names.
fn schema_or(decoder: &mut Decoder<'_>, kind: Kind, data: &[u8]) -> Result<(), Fault> {
    let (schema, other) = union_numbers(kind);
    if kind == Kind::SchemaOrBool {
        let mut allows = false;
        let mut reader = Reader::new(data);
        while let Some((number, value)) = reader.field("JSONSchemaPropsOrBool")? {
            match (number == other, value) {
                (true, Value::Varint(value)) => allows = value != 0,
                (true, value) => return Err(wrong_type(value, "Allows")),
                _ => {}
            }
        }
        return match numbered(data, schema)?.last() {
            Some(data) => decoder.message(SCHEMA, data),
            None => {
                decoder.out.extend_from_slice(if allows { b"true" } else { b"false" });
                Ok(())
            }
        };
    }
    let others = numbered(data, other)?;
    match (numbered(data, schema)?.last(), kind) {
        (Some(data), _) if others.is_empty() => decoder.message(SCHEMA, data),
        (None, _) if others.is_empty() => {
            decoder.out.extend_from_slice(b"null");
            Ok(())
        }
        (_, Kind::SchemaOrStrings) => strings(decoder, &others),
        _ => {
            decoder.out.push(b'[');
            let start = decoder.out.len();
            for data in others {
                decoder.comma(start);
                decoder.message(SCHEMA, data)?;
            }
            decoder.out.push(b']');
            Ok(())
        }
    }
}

fn strings(decoder: &mut Decoder<'_>, texts: &[&[u8]]) -> Result<(), Fault> {
    decoder.out.push(b'[');
    let start = decoder.out.len();
    for text in texts {
        decoder.comma(start);
        decoder.string(text);
    }
    decoder.out.push(b']');
    Ok(())
}

/// All values of a field that has bytes.
fn numbered(data: &[u8], wanted: u32) -> Result<Vec<&[u8]>, Fault> {
    let mut found = Vec::new();
    let mut reader = Reader::new(data);
    while let Some((number, value)) = reader.field("message")? {
        match (number == wanted, value) {
            (true, Value::Bytes(bytes)) => found.push(bytes),
            (true, value) => return Err(wrong_type(value, "Raw")),
            _ => {}
        }
    }
    Ok(found)
}

fn only_bytes(data: &[u8]) -> Result<&[u8], Fault> {
    Ok(numbered(data, ONLY)?.pop().unwrap_or(b""))
}

/// Numbers of a union's schema and of the other field.
pub fn union_numbers(kind: Kind) -> (u32, u32) {
    if kind == Kind::SchemaOrBool { (2, 1) } else { (1, 2) }
}

/// The fields of a message that JSON shows as a string.
pub fn encode_text<E: de::Error>(kind: Kind, text: &str, out: &mut Vec<u8>) -> Result<(), E> {
    match kind {
        Kind::Time | Kind::MicroTime => {
            let (seconds, micros) = time::to_unix(text).map_err(E::custom)?;
            put_number(out, SECONDS, seconds as u64);
            put_number(out, NANOS, if kind == Kind::MicroTime { u64::from(micros) * 1000 } else { 0 });
        }
        Kind::Quantity => put_bytes(out, ONLY, text.as_bytes()),
        Kind::IntOrString => encode_int_or_string(Err(text), out),
        _ => return Err(E::invalid_type(Unexpected::Str(text), &format!("{kind:?}").as_str())),
    }
    Ok(())
}

pub fn encode_int_or_string(value: Result<i64, &str>, out: &mut Vec<u8>) {
    put_number(out, IS_TEXT, u64::from(value.is_err()));
    put_number(out, NUMBER, value.unwrap_or(0) as u64);
    put_bytes(out, TEXT, value.err().unwrap_or("").as_bytes());
}
