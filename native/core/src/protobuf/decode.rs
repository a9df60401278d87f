//! Protobuf to JSON, as Go would write the object that it read.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use smallvec::SmallVec;

use super::envelope::{Envelope, wrong_type};
use super::table::{Field, Kind, Message, Repeat, message_of};
use super::wire::{FIXED64, LENGTH, Reader, VARINT, Value};
use super::{Fault, special};

/// How deep messages may nest: as deep as JSON may.
const MAX_DEPTH: usize = 500;

/// An object out of its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    pub api_version: String,
    pub kind: String,
    /// With apiVersion and kind, in compact JSON.
    pub json: Vec<u8>,
}

/// Opens an envelope and reads the object in it.
pub fn decode(body: &[u8]) -> Result<Decoded, Fault> {
    let envelope = Envelope::open(body)?;
    let json = decode_message(&envelope.api_version, &envelope.kind, envelope.raw)?;
    Ok(Decoded { api_version: envelope.api_version, kind: envelope.kind, json })
}

/// Reads the message of an object.
pub fn decode_message(api_version: &str, kind: &str, raw: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::with_capacity(raw.len() * 2 + 64);
    Decoder::new(&mut out).object(api_version, kind, raw)?;
    Ok(out)
}

/// A field's position in its message, and a value of it.
type Found<'a> = (u8, Value<'a>);

pub struct Decoder<'o> {
    pub out: &'o mut Vec<u8>,
    depth: usize,
}

impl<'o> Decoder<'o> {
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, depth: 0 }
    }

    pub fn object(&mut self, api_version: &str, kind: &str, raw: &[u8]) -> Result<(), Fault> {
        let Some(message) = message_of(api_version, kind) else {
            return Err(Fault::new(format!("no kind {kind:?} is registered for version {api_version:?}")));
        };
        self.deeper(|decoder| {
            // Options are kinds of any version, whatever it is called.
            decoder.out.extend_from_slice(b"{\"kind\":");
            decoder.string(kind.as_bytes());
            decoder.out.extend_from_slice(b",\"apiVersion\":");
            decoder.string(api_version.as_bytes());
            decoder.members(message, raw, &mut false)?;
            decoder.out.push(b'}');
            Ok(())
        })
    }

    /// A message as a JSON value.
    pub fn message(&mut self, kind: Kind, data: &[u8]) -> Result<(), Fault> {
        self.deeper(|decoder| {
            let Some(message) = kind.message() else { return special::decode(decoder, kind, data) };
            decoder.out.push(b'{');
            decoder.members(message, data, &mut true)?;
            decoder.out.push(b'}');
            Ok(())
        })
    }

    fn deeper(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::new("exceeded max depth"));
        }
        work(self)?;
        self.depth -= 1;
        Ok(())
    }

    /// The members of a JSON object; `first` until one has been written.
    fn members(&mut self, message: &'static Message, data: &[u8], first: &mut bool) -> Result<(), Fault> {
        let found = fields(message, data)?;
        for run in found.chunk_by(|one, other| one.0 == other.0) {
            let field = &message.fields[usize::from(run[0].0)];
            match field.repeat {
                Repeat::Single => self.single(field, run, first)?,
                Repeat::Inlined => {
                    let Some(inner) = field.kind.message() else { continue };
                    self.members(inner, &merged(run), first)?;
                }
                Repeat::List => {
                    self.key(field, first);
                    self.list(field, run)?;
                }
                Repeat::Map => {
                    self.key(field, first);
                    self.map(field, run)?;
                }
            }
        }
        Ok(())
    }

    fn single(&mut self, field: &Field, run: &[Found<'_>], first: &mut bool) -> Result<(), Fault> {
        let Some((_, last)) = run.last() else { return Ok(()) };
        if is_message(field.kind) {
            let data = merged(run);
            if !special::is_nothing(field.kind, &data)? {
                self.key(field, first);
                self.message(field.kind, &data)?;
            }
        } else if field.keeps_zero || !is_zero(*last) {
            self.key(field, first);
            self.value(field, *last)?;
        }
        Ok(())
    }

    fn list(&mut self, field: &Field, run: &[Found<'_>]) -> Result<(), Fault> {
        self.out.push(b'[');
        let start = self.out.len();
        for (_, value) in run {
            match (field.kind, *value) {
                // Numbers may come packed.
                (Kind::Int32 | Kind::Int64 | Kind::Bool, Value::Bytes(packed)) => {
                    let mut reader = Reader::new(packed);
                    while !reader.is_empty() {
                        let value = Value::Varint(reader.varint()?);
                        self.comma(start);
                        self.value(field, value)?;
                    }
                }
                (_, value) => {
                    self.comma(start);
                    self.value(field, value)?;
                }
            }
        }
        self.out.push(b']');
        Ok(())
    }

    /// By key, as Go writes maps; of several values for one key the last counts.
    fn map(&mut self, field: &Field, run: &[Found<'_>]) -> Result<(), Fault> {
        let mut entries = Vec::with_capacity(run.len());
        for (_, entry) in run {
            let Value::Bytes(entry) = entry else { continue };
            entries.push(read_entry(field, entry)?);
        }
        entries.sort_by_key(|(key, _)| *key);
        self.out.push(b'{');
        let start = self.out.len();
        for same in entries.chunk_by(|(one, _), (other, _)| one == other) {
            let Some((key, value)) = same.last() else { continue };
            self.comma(start);
            self.string(key);
            self.out.push(b':');
            let zero = match wire_type(field.kind) {
                VARINT => Value::Varint(0),
                FIXED64 => Value::Fixed64(0),
                _ => Value::Bytes(b""),
            };
            self.value(field, value.unwrap_or(zero))?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn value(&mut self, field: &Field, value: Value<'_>) -> Result<(), Fault> {
        match (field.kind, value) {
            (Kind::String, Value::Bytes(text)) => self.string(text),
            (Kind::Bytes, Value::Bytes(bytes)) => self.string(STANDARD.encode(bytes).as_bytes()),
            (Kind::Bool, Value::Varint(value)) => {
                self.out.extend_from_slice(if value == 0 { b"false" } else { b"true" });
            }
            // Longer than 32 bits: Go cuts off.
            (Kind::Int32, Value::Varint(value)) => self.number(i64::from(value as i32)),
            (Kind::Int64, Value::Varint(value)) => self.number(value as i64),
            (Kind::Double, Value::Fixed64(bits)) => self.double(f64::from_bits(bits))?,
            (kind, Value::Bytes(data)) if is_message(kind) => self.message(kind, data)?,
            (_, value) => return Err(wrong_type(value, &go_name(field))),
        }
        Ok(())
    }

    fn key(&mut self, field: &Field, first: &mut bool) {
        if !std::mem::take(first) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(field.json.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// Before another element of what was opened just before `start`.
    pub fn comma(&mut self, start: usize) {
        if self.out.len() > start {
            self.out.push(b',');
        }
    }

    /// Go keeps any bytes as a string; in JSON what is no UTF-8 shows as U+FFFD.
    pub fn string(&mut self, text: &[u8]) {
        // Writing to memory does not fail, nor does serializing a string.
        let written = serde_json::to_writer(&mut *self.out, &String::from_utf8_lossy(text));
        debug_assert!(written.is_ok());
    }

    pub fn number(&mut self, value: i64) {
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn double(&mut self, value: f64) -> Result<(), Fault> {
        if !value.is_finite() {
            return Err(Fault::new(format!("json: unsupported value: {value}")));
        }
        let plain = value == 0.0 || (1e-6..1e21).contains(&value.abs());
        let text = if plain { format!("{value}") } else { format!("{value:e}") };
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// The known fields of a message, ordered by number; those of one number in their order. Checks wire types.
fn fields<'a>(message: &'static Message, data: &'a [u8]) -> Result<SmallVec<[Found<'a>; 16]>, Fault> {
    let mut found: SmallVec<[Found<'a>; 16]> = SmallVec::new();
    let mut reader = Reader::new(data);
    while let Some((number, value)) = reader.field(message.name)? {
        let Some(position) = message.number(number) else { continue };
        let field = &message.fields[usize::from(position)];
        // Map entries are messages, and numbers of a list may come packed.
        let expected = if field.repeat == Repeat::Map { LENGTH } else { wire_type(field.kind) };
        let packed = value.wire_type() == LENGTH && field.repeat == Repeat::List;
        if value.wire_type() != expected && !packed {
            return Err(wrong_type(value, &go_name(field)));
        }
        found.push((position, value));
    }
    if !found.is_sorted_by_key(|(position, _)| *position) {
        found.sort_by_key(|(position, _)| *position);
    }
    Ok(found)
}

fn wire_type(kind: Kind) -> u8 {
    match kind {
        Kind::Bool | Kind::Int32 | Kind::Int64 => VARINT,
        Kind::Double => FIXED64,
        _ => LENGTH,
    }
}

fn is_message(kind: Kind) -> bool {
    wire_type(kind) == LENGTH && !matches!(kind, Kind::String | Kind::Bytes)
}

/// The name of the struct's field, nearly always.
fn go_name(field: &Field) -> String {
    match field.kind.message() {
        Some(message) if field.json == "metadata" => message.name.to_owned(),
        _ => {
            let mut name = field.json.to_owned();
            if let Some(head) = name.get_mut(..1) {
                head.make_ascii_uppercase();
            }
            name
        }
    }
}

/// Messages sent in several parts are one: their bytes laid end to end.
fn merged<'a>(run: &[Found<'a>]) -> Cow<'a, [u8]> {
    let bytes = |found: &Found<'a>| match found.1 {
        Value::Bytes(bytes) => bytes,
        _ => b"",
    };
    match run {
        [one] => Cow::Borrowed(bytes(one)),
        many => Cow::Owned(many.iter().map(bytes).collect::<Vec<_>>().concat()),
    }
}

fn is_zero(value: Value<'_>) -> bool {
    matches!(value, Value::Varint(0) | Value::Fixed64(0) | Value::Bytes(b""))
}

/// Key and value of a map's entry; without a value, zero is meant.
fn read_entry<'a>(field: &Field, entry: &'a [u8]) -> Result<(&'a [u8], Option<Value<'a>>), Fault> {
    let (mut key, mut value) = (&b""[..], None);
    let mut reader = Reader::new(entry);
    while let Some((number, found)) = reader.field(field.json)? {
        match (number, found) {
            (1, Value::Bytes(bytes)) => key = bytes,
            (2, found) if found.wire_type() == wire_type(field.kind) => value = Some(found),
            (1 | 2, found) => return Err(wrong_type(found, &go_name(field))),
            _ => {}
        }
    }
    Ok((key, value))
}
