//! `runtime.Unknown`, in which every object travels: its apiVersion and kind, and its message.

use super::Fault;
use super::wire::{LENGTH, Reader, Value, put_bytes, put_nested, put_tag, put_varint, varint_length};

pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";
pub const STREAM_CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// In front of every envelope; its last byte is the style, of which there is one.
pub const MAGIC: &[u8; 4] = b"k8s\0";

const TYPE_META: u32 = 1;
const RAW: u32 = 2;
const CONTENT_ENCODING: u32 = 3;
const CONTENT_TYPE_FIELD: u32 = 4;
const API_VERSION: u32 = 1;
const KIND: u32 = 2;

/// What came in an envelope; apiVersion and kind may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub api_version: String,
    pub kind: String,
    pub content_type: String,
    pub raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    pub fn open(body: &'a [u8]) -> Result<Self, Fault> {
        if body.is_empty() {
            return Err(Fault::new("empty data"));
        }
        let Some(data) = body.strip_prefix(MAGIC) else {
            return Err(Fault::new(
                "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
            ));
        };
        if data.is_empty() {
            return Err(Fault::new("empty body"));
        }
        let mut envelope = Self::default();
        let mut reader = Reader::new(data);
        while let Some((number, value)) = reader.field("Unknown")? {
            match (number, value) {
                (TYPE_META, Value::Bytes(bytes)) => envelope.read_type(bytes)?,
                (RAW, Value::Bytes(bytes)) => envelope.raw = bytes,
                (CONTENT_TYPE_FIELD, Value::Bytes(bytes)) => envelope.content_type = text(bytes),
                (TYPE_META..=CONTENT_TYPE_FIELD, value) if value.wire_type() != LENGTH => {
                    let field = ["TypeMeta", "Raw", "ContentEncoding", "ContentType"][number as usize - 1];
                    return Err(wrong_type(value, field));
                }
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn read_type(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut reader = Reader::new(bytes);
        while let Some((number, value)) = reader.field("TypeMeta")? {
            let (target, name) = match number {
                API_VERSION => (&mut self.api_version, "APIVersion"),
                KIND => (&mut self.kind, "Kind"),
                _ => continue,
            };
            let Value::Bytes(bytes) = value else { return Err(wrong_type(value, name)) };
            *target = text(bytes);
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn wrong_type(value: Value<'_>, field: &str) -> Fault {
    Fault::new(format!("proto: wrong wireType = {} for field {field}", value.wire_type()))
}

/// The magic, apiVersion and kind of an object whose message takes `length` bytes: all that goes before it.
pub fn head(api_version: &str, kind: &str, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAGIC.len() + api_version.len() + kind.len() + 16);
    out.extend_from_slice(MAGIC);
    let filled: Result<(), Fault> = put_nested(&mut out, TYPE_META, |out| {
        put_bytes(out, API_VERSION, api_version.as_bytes());
        put_bytes(out, KIND, kind.as_bytes());
        Ok(())
    });
    debug_assert!(filled.is_ok());
    put_tag(&mut out, RAW, LENGTH);
    put_varint(&mut out, length as u64);
    out
}

/// What goes after the message: the fields that Go always writes.
pub const TAIL: &[u8] =
    &[(CONTENT_ENCODING << 3) as u8 | LENGTH, 0, (CONTENT_TYPE_FIELD << 3) as u8 | LENGTH, 0];

/// How much longer than its message an enveloped object is, at most.
pub fn room(api_version: &str, kind: &str) -> usize {
    MAGIC.len() + api_version.len() + kind.len() + 16 + varint_length(usize::MAX)
}
