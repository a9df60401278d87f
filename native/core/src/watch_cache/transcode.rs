//! How objects, lists and watch frames are rendered. The cache keeps what a transcoder made per object, per run of a
//! list and per event, under the transcoder's id.

use bytes::Bytes;

use super::ResourceInfo;
use super::object::Object;
use crate::status::Status;

/// Tells renderings of one resource apart; 0 is the stored JSON.
pub type FormId = u32;

pub const STORED: FormId = 0;
/// Other served versions in JSON count from here, in the order of `ResourceInfo::versions`.
const JSON_VERSIONS: FormId = 1;
const PARTIAL_METADATA: FormId = 1 << 15;
/// Transcoders made elsewhere take ids from here on.
pub const FOREIGN: FormId = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

impl EventType {
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
            Self::Error => "ERROR",
        }
    }

    pub fn is_deletion(self) -> bool {
        self == Self::Deleted
    }

    /// All before the object in a JSON frame.
    pub fn json_head(self) -> &'static [u8] {
        match self {
            Self::Added => br#"{"type":"ADDED","object":"#,
            Self::Modified => br#"{"type":"MODIFIED","object":"#,
            Self::Deleted => br#"{"type":"DELETED","object":"#,
            Self::Bookmark => br#"{"type":"BOOKMARK","object":"#,
            Self::Error => br#"{"type":"ERROR","object":"#,
        }
    }
}

pub const JSON_FRAME_TAIL: &[u8] = b"}\n";

/// What a list says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListMeta {
    pub revision: u64,
    pub continue_token: Option<String>,
    pub remaining: Option<usize>,
}

/// A rendering of objects, lists and watch events.
///
/// Object, item and frame must depend on the object and the resource alone: results are shared among clients.
pub trait Transcoder: Send + Sync {
    fn id(&self) -> FormId;

    /// The body of a GET.
    fn object(&self, info: &ResourceInfo, object: &Object) -> Result<Bytes, Status>;

    /// One item of a list with its separator in front.
    fn append_item(&self, info: &ResourceInfo, object: &Object, out: &mut Vec<u8>) -> Result<(), Status>;

    /// Bytes of the separator, cut off before the first item.
    fn separator_length(&self) -> usize;

    /// What goes before and after `items_length` bytes of items.
    fn list_frame(&self, info: &ResourceInfo, meta: &ListMeta, items_length: usize) -> (Bytes, Bytes);

    /// A watch frame around an object rendered by `object`.
    fn frame(&self, event: EventType, object: &[u8]) -> Bytes;

    /// The object of a BOOKMARK.
    fn bookmark(&self, info: &ResourceInfo, revision: u64, initial_events_end: bool) -> Bytes;

    /// The object of an ERROR.
    fn status(&self, status: &Status) -> Bytes {
        Bytes::from(status.to_json())
    }
}

/// JSON in one served version.
pub struct Json {
    id: FormId,
    /// None: as stored.
    api_version: Option<String>,
}

impl Json {
    pub fn stored() -> Self {
        Self { id: STORED, api_version: None }
    }

    /// None when the resource is not served in `version`.
    pub fn version(info: &ResourceInfo, version: &str) -> Option<Self> {
        if version == info.storage_version {
            return Some(Self::stored());
        }
        let number = info.versions.iter().position(|known| known == version)?;
        let id = JSON_VERSIONS + FormId::try_from(number).ok()?;
        Some(Self { id, api_version: Some(info.api_version(version)) })
    }
}

impl Transcoder for Json {
    fn id(&self) -> FormId {
        self.id
    }

    fn object(&self, _info: &ResourceInfo, object: &Object) -> Result<Bytes, Status> {
        Ok(match &self.api_version {
            None => object.json().clone(),
            Some(version) => object.in_version(version),
        })
    }

    fn append_item(&self, info: &ResourceInfo, object: &Object, out: &mut Vec<u8>) -> Result<(), Status> {
        out.push(b',');
        // Typed lists say for all their items what these are; lists of custom resources have items that say it, too.
        if !info.custom {
            object.append_untyped(out);
        } else if self.api_version.is_none() {
            out.extend_from_slice(object.json());
        } else {
            out.extend_from_slice(&self.object(info, object)?);
        }
        Ok(())
    }

    fn separator_length(&self) -> usize {
        1
    }

    fn list_frame(&self, info: &ResourceInfo, meta: &ListMeta, _items_length: usize) -> (Bytes, Bytes) {
        let stored;
        let version = match &self.api_version {
            Some(version) => version,
            None => {
                stored = info.api_version(&info.storage_version);
                &stored
            }
        };
        json_list_frame(&info.list_kind(), version, meta, info.custom)
    }

    fn frame(&self, event: EventType, object: &[u8]) -> Bytes {
        json_frame(event, object)
    }

    fn bookmark(&self, info: &ResourceInfo, revision: u64, initial_events_end: bool) -> Bytes {
        let version = self.api_version.clone().unwrap_or_else(|| info.api_version(&info.storage_version));
        json_bookmark(&info.kind, &version, revision, initial_events_end, info.empty(&version))
    }
}

/// metav1.PartialObjectMetadata(List) in JSON: the same for every kind.
pub struct PartialMetadata;

const META_VERSION: &str = "meta.k8s.io/v1";

impl Transcoder for PartialMetadata {
    fn id(&self) -> FormId {
        PARTIAL_METADATA
    }

    fn object(&self, _info: &ResourceInfo, object: &Object) -> Result<Bytes, Status> {
        let head = br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;
        Ok(Bytes::from([head, object.metadata(), b"}"].concat()))
    }

    fn append_item(&self, info: &ResourceInfo, object: &Object, out: &mut Vec<u8>) -> Result<(), Status> {
        out.push(b',');
        out.extend_from_slice(&self.object(info, object)?);
        Ok(())
    }

    fn separator_length(&self) -> usize {
        1
    }

    fn list_frame(&self, _info: &ResourceInfo, meta: &ListMeta, items_length: usize) -> (Bytes, Bytes) {
        let (head, tail) = json_list_frame("PartialObjectMetadataList", META_VERSION, meta, false);
        if items_length > 0 {
            return (head, tail);
        }
        // As in Kubernetes, where this list is null when there is nothing in it.
        let cut = head.len() - 1;
        (head.slice(..cut), Bytes::from_static(b"null}\n"))
    }

    fn frame(&self, event: EventType, object: &[u8]) -> Bytes {
        json_frame(event, object)
    }

    fn bookmark(&self, _info: &ResourceInfo, revision: u64, initial_events_end: bool) -> Bytes {
        json_bookmark("PartialObjectMetadata", META_VERSION, revision, initial_events_end, b"")
    }
}

pub fn json_frame(event: EventType, object: &[u8]) -> Bytes {
    Bytes::from([event.json_head(), object, JSON_FRAME_TAIL].concat())
}

/// `unstructured`: as upstream's lists of custom resources, which say so when nothing goes on.
fn json_list_frame(kind: &str, api_version: &str, meta: &ListMeta, unstructured: bool) -> (Bytes, Bytes) {
    // Tokens are base64, kinds and versions are names: nothing here needs escaping.
    let mut head = format!(
        r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{{"resourceVersion":"{}""#,
        meta.revision
    );
    match &meta.continue_token {
        Some(token) => head.push_str(&format!(r#","continue":"{token}""#)),
        None if unstructured => head.push_str(r#","continue":"""#),
        None => {}
    }
    if let Some(remaining) = meta.remaining {
        head.push_str(&format!(r#","remainingItemCount":{remaining}"#));
    }
    head.push_str(r#"},"items":["#);
    (Bytes::from(head), Bytes::from_static(b"]}\n"))
}

/// An empty object that says how far the watch is; `rest`: what it has beside its metadata.
pub(crate) fn json_bookmark(
    kind: &str,
    api_version: &str,
    revision: u64,
    initial_events_end: bool,
    rest: &[u8],
) -> Bytes {
    let annotations =
        if initial_events_end { r#","annotations":{"k8s.io/initial-events-end":"true"}"# } else { "" };
    let head = format!(
        r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{{"resourceVersion":"{revision}"{annotations}}}"#
    );
    Bytes::from([head.as_bytes(), rest, b"}"].concat())
}
