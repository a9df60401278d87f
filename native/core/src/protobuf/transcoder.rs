//! Reads in protobuf: objects, lists and watch frames as the watch cache keeps them.

use bytes::Bytes;

use super::encode::{append_message, encode, encode_as};
use super::envelope::{TAIL, head};
use super::wire::{LENGTH, put_bytes, put_number, put_tag, put_varint};
use super::{Fault, knows};
use crate::status::Status;
use crate::watch_cache::{
    EventType, FOREIGN, FormId, ListMeta, Object, ResourceInfo, Transcoder, json_bookmark,
};

// Fields of meta/v1 ListMeta, of every list, and of meta/v1 WatchEvent and runtime.RawExtension.
const SELF_LINK: u32 = 1;
const RESOURCE_VERSION: u32 = 2;
const CONTINUE: u32 = 3;
const REMAINING: u32 = 4;
const METADATA: u32 = 1;
const ITEMS: u32 = 2;
const EVENT_TYPE: u32 = 1;
const EVENT_OBJECT: u32 = 2;
const RAW: u32 = 1;

/// Protobuf in one served version.
pub struct Protobuf {
    id: FormId,
    api_version: String,
}

impl Protobuf {
    /// None when the kind has no protobuf form, or is not served in `version`.
    pub fn version(info: &ResourceInfo, version: &str) -> Option<Self> {
        let api_version = info.api_version(version);
        let number = if version == info.storage_version {
            0
        } else {
            1 + info.versions.iter().position(|known| known == version)?
        };
        let has_form = knows(&api_version, &info.kind) && knows(&api_version, &format!("{}List", info.kind));
        has_form.then_some(Self { id: FOREIGN + FormId::try_from(number).ok()?, api_version })
    }
}

fn internal(fault: Fault) -> Status {
    Status::internal(format_args!("cannot encode as protobuf: {fault}"))
}

impl Transcoder for Protobuf {
    fn id(&self) -> FormId {
        self.id
    }

    fn object(&self, info: &ResourceInfo, object: &Object) -> Result<Bytes, Status> {
        encode_as(&self.api_version, &info.kind, object.json()).map(Bytes::from).map_err(internal)
    }

    fn append_item(&self, info: &ResourceInfo, object: &Object, out: &mut Vec<u8>) -> Result<(), Status> {
        let mut message = Vec::with_capacity(object.json().len());
        append_message(&self.api_version, &info.kind, object.json(), &mut message).map_err(internal)?;
        put_bytes(out, ITEMS, &message);
        Ok(())
    }

    fn separator_length(&self) -> usize {
        0
    }

    fn list_frame(&self, info: &ResourceInfo, meta: &ListMeta, items_length: usize) -> (Bytes, Bytes) {
        let mut about = Vec::with_capacity(64);
        put_bytes(&mut about, SELF_LINK, b"");
        put_bytes(&mut about, RESOURCE_VERSION, meta.revision.to_string().as_bytes());
        put_bytes(&mut about, CONTINUE, meta.continue_token.as_deref().unwrap_or_default().as_bytes());
        if let Some(remaining) = meta.remaining {
            put_number(&mut about, REMAINING, remaining as u64);
        }
        let mut metadata = Vec::with_capacity(about.len() + 4);
        put_bytes(&mut metadata, METADATA, &about);
        let mut start = head(&self.api_version, &format!("{}List", info.kind), metadata.len() + items_length);
        start.extend_from_slice(&metadata);
        (Bytes::from(start), Bytes::from_static(TAIL))
    }

    fn frame(&self, event: EventType, object: &[u8]) -> Bytes {
        frame(event.name(), object)
    }

    fn bookmark(&self, info: &ResourceInfo, revision: u64, initial_events_end: bool) -> Bytes {
        let json = json_bookmark(&info.kind, &self.api_version, revision, initial_events_end);
        // A kind that has a form has one for its metadata alone.
        Bytes::from(encode(&json).unwrap_or_default())
    }

    fn status(&self, status: &Status) -> Bytes {
        Bytes::from(status_body(status))
    }
}

/// A Status, enveloped.
pub fn status_body(status: &Status) -> Vec<u8> {
    encode(&status.to_json()).unwrap_or_default()
}

/// A length-delimited meta/v1 WatchEvent around an enveloped object.
pub fn frame(event: &str, object: &[u8]) -> Bytes {
    let mut extension = Vec::with_capacity(object.len() + 8);
    put_tag(&mut extension, RAW, LENGTH);
    put_varint(&mut extension, object.len() as u64);
    extension.extend_from_slice(object);
    let mut out = Vec::with_capacity(extension.len() + 32);
    out.extend_from_slice(&[0; 4]);
    put_bytes(&mut out, EVENT_TYPE, event.as_bytes());
    put_bytes(&mut out, EVENT_OBJECT, &extension);
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    Bytes::from(out)
}
