//! Reads in protobuf: objects, lists and watch frames as the watch cache keeps them.

use bytes::Bytes;

use super::encode::{append, encode, encode_as, form_of};
use super::envelope::{TAIL, head};
use super::table::Message;
use super::wire::{LENGTH, put_bytes, put_nested, put_number, put_tag, put_varint, varint_length};
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

/// Versions of a resource count from `FOREIGN`, the stored one first.
const METADATA_ALONE: FormId = FOREIGN + (1 << 8);
const META_VERSION: &str = "meta.k8s.io/v1";
const PARTIAL_METADATA: &str = "PartialObjectMetadata";

/// Protobuf in one served version.
pub struct Protobuf {
    id: FormId,
    api_version: String,
    list_kind: String,
    message: &'static Message,
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
        let id = FOREIGN + FormId::try_from(number).ok()?;
        let message = form_of(&api_version, &info.kind).ok()?;
        let list_kind = format!("{}List", info.kind);
        knows(&api_version, &list_kind).then_some(Self { id, api_version, list_kind, message })
    }
}

impl Transcoder for Protobuf {
    fn id(&self) -> FormId {
        self.id
    }

    fn object(&self, info: &ResourceInfo, object: &Object) -> Result<Bytes, Status> {
        encode_as(&self.api_version, &info.kind, object.json()).map(Bytes::from).map_err(internal)
    }

    fn append_item(&self, _info: &ResourceInfo, object: &Object, out: &mut Vec<u8>) -> Result<(), Status> {
        put_nested(out, ITEMS, |out| append(self.message, object.json(), out)).map_err(internal)
    }

    fn separator_length(&self) -> usize {
        0
    }

    fn list_frame(&self, _info: &ResourceInfo, meta: &ListMeta, items_length: usize) -> (Bytes, Bytes) {
        list_frame(&self.api_version, &self.list_kind, meta, items_length)
    }

    fn frame(&self, event: EventType, object: &[u8]) -> Bytes {
        frame(event.name(), object)
    }

    fn bookmark(&self, info: &ResourceInfo, revision: u64, initial_events_end: bool) -> Bytes {
        bookmark(&info.kind, &self.api_version, revision, initial_events_end, info.empty(&self.api_version))
    }

    fn status(&self, status: &Status) -> Bytes {
        Bytes::from(status_body(status))
    }
}

/// metav1.PartialObjectMetadata(List) in protobuf: the same for every kind.
pub struct ProtobufMetadata;

impl Transcoder for ProtobufMetadata {
    fn id(&self) -> FormId {
        METADATA_ALONE
    }

    fn object(&self, _info: &ResourceInfo, object: &Object) -> Result<Bytes, Status> {
        encode_as(META_VERSION, PARTIAL_METADATA, &metadata_alone(object)).map(Bytes::from).map_err(internal)
    }

    fn append_item(&self, _info: &ResourceInfo, object: &Object, out: &mut Vec<u8>) -> Result<(), Status> {
        let message = form_of(META_VERSION, PARTIAL_METADATA).map_err(internal)?;
        put_nested(out, ITEMS, |out| append(message, &metadata_alone(object), out)).map_err(internal)
    }

    fn separator_length(&self) -> usize {
        0
    }

    fn list_frame(&self, _info: &ResourceInfo, meta: &ListMeta, items_length: usize) -> (Bytes, Bytes) {
        list_frame(META_VERSION, "PartialObjectMetadataList", meta, items_length)
    }

    fn frame(&self, event: EventType, object: &[u8]) -> Bytes {
        frame(event.name(), object)
    }

    fn bookmark(&self, _info: &ResourceInfo, revision: u64, initial_events_end: bool) -> Bytes {
        bookmark(PARTIAL_METADATA, META_VERSION, revision, initial_events_end, b"")
    }

    fn status(&self, status: &Status) -> Bytes {
        Bytes::from(status_body(status))
    }
}

fn metadata_alone(object: &Object) -> Vec<u8> {
    [b"{\"metadata\":", object.metadata(), b"}"].concat()
}

fn internal(fault: Fault) -> Status {
    Status::internal(format_args!("cannot encode as protobuf: {fault}"))
}

/// All of a list but its items, which follow its metadata.
fn list_frame(api_version: &str, kind: &str, meta: &ListMeta, items_length: usize) -> (Bytes, Bytes) {
    let mut about = Vec::with_capacity(64);
    put_bytes(&mut about, SELF_LINK, b"");
    put_bytes(&mut about, RESOURCE_VERSION, meta.revision.to_string().as_bytes());
    put_bytes(&mut about, CONTINUE, meta.continue_token.as_deref().unwrap_or_default().as_bytes());
    if let Some(remaining) = meta.remaining {
        put_number(&mut about, REMAINING, remaining as u64);
    }
    let mut metadata = Vec::with_capacity(about.len() + 4);
    put_bytes(&mut metadata, METADATA, &about);
    let mut start = head(api_version, kind, metadata.len() + items_length);
    start.extend_from_slice(&metadata);
    (Bytes::from(start), Bytes::from_static(TAIL))
}

fn bookmark(kind: &str, api_version: &str, revision: u64, initial_events_end: bool, rest: &[u8]) -> Bytes {
    // Only kinds that have a form have a transcoder.
    let bookmark = json_bookmark(kind, api_version, revision, initial_events_end, rest);
    Bytes::from(encode(&bookmark).unwrap_or_default())
}

/// A Status, enveloped.
pub fn status_body(status: &Status) -> Vec<u8> {
    encode(&status.to_json()).unwrap_or_default()
}

/// A length-delimited meta/v1 WatchEvent around an enveloped object.
pub fn frame(event: &str, object: &[u8]) -> Bytes {
    let extension = 1 + varint_length(object.len()) + object.len();
    let mut out = Vec::with_capacity(extension + event.len() + 16);
    out.extend_from_slice(&[0; 4]);
    put_bytes(&mut out, EVENT_TYPE, event.as_bytes());
    put_tag(&mut out, EVENT_OBJECT, LENGTH);
    put_varint(&mut out, extension as u64);
    put_bytes(&mut out, RAW, object);
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    Bytes::from(out)
}
