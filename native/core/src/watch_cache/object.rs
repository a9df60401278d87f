//! One stored object: its bytes, never parsed as a whole, and what is known of it.

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::Arc;

use super::scan::{Facts, Labels, ScanError, Scanner, slice, without_members};
use super::transcode::FormId;
use crate::selector::Lookup;

pub struct Object {
    key: Arc<str>,
    /// Where the name starts in the key: after "namespace/", or 0.
    name_at: usize,
    revision: u64,
    json: Bytes,
    facts: Facts,
    /// Renderings in other forms, made when first asked for.
    forms: Mutex<SmallVec<[(FormId, Bytes); 1]>>,
}

impl Object {
    /// Reads `json`; makes its metadata.resourceVersion say `revision` when it does not.
    pub fn new(key: Arc<str>, revision: u64, json: Bytes, scanner: &Scanner) -> Result<Self, ScanError> {
        let mut facts = scanner.scan(&json)?;
        let mut json = json;
        if let Some(changed) = with_resource_version(&json, &facts, revision)? {
            json = Bytes::from(changed);
            facts = scanner.scan(&json)?;
        }
        let name_at = key.find('/').map_or(0, |slash| slash + 1);
        Ok(Self { key, name_at, revision, json, facts, forms: Mutex::default() })
    }

    /// With the revision that the bytes tell, 0 when they tell none.
    pub fn stored(key: Arc<str>, json: Bytes, scanner: &Scanner) -> Result<Self, ScanError> {
        let facts = scanner.scan(&json)?;
        let told = facts.resource_version.map_or(&b""[..], |span| slice(&json, span));
        let revision = std::str::from_utf8(told).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let name_at = key.find('/').map_or(0, |slash| slash + 1);
        Ok(Self { key, name_at, revision, json, facts, forms: Mutex::default() })
    }

    /// "namespace/name", or "name".
    pub fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn shared_key(&self) -> &Arc<str> {
        &self.key
    }

    /// Empty for objects outside of namespaces.
    pub fn namespace(&self) -> &str {
        &self.key[..self.name_at.saturating_sub(1)]
    }

    pub fn name(&self) -> &str {
        &self.key[self.name_at..]
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// As stored: in the storage version, with the current resourceVersion.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        let pair = self.facts.labels.iter().find(|(name, _)| name.read(&self.json) == key);
        pair.map(|(_, value)| value.read(&self.json))
    }

    pub fn labels(&self) -> Labels<'_> {
        Labels { json: &self.json, pairs: &self.facts.labels }
    }

    pub fn label_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.facts.labels.iter().map(|(name, value)| (name.read(&self.json), value.read(&self.json)))
    }

    /// The value of the resource's selectable field of that number.
    pub fn field(&self, number: usize) -> &str {
        self.facts.fields.get(number).map_or("", |text| text.read(&self.json))
    }

    /// The bytes of the metadata object.
    pub fn metadata(&self) -> &[u8] {
        self.facts.metadata.map_or(b"{}", |span| slice(&self.json, span))
    }

    /// The bytes with another apiVersion: versions of a resource differ in nothing else.
    pub fn in_version(&self, api_version: &str) -> Bytes {
        let Some((start, end)) = self.facts.api_version else { return self.json.clone() };
        let (start, end) = (start as usize + 1, end as usize - 1);
        if &self.json[start..end] == api_version.as_bytes() {
            return self.json.clone();
        }
        Bytes::from([&self.json[..start], api_version.as_bytes(), &self.json[end..]].concat())
    }

    /// The bytes without kind and apiVersion, as an item of a list that says them for all.
    pub(super) fn append_untyped(&self, out: &mut Vec<u8>) {
        // Stored bytes begin with the two.
        let mut rest = &self.json[..];
        for opening in [&br#"{"apiVersion":""#[..], br#""kind":""#] {
            let after = rest.strip_prefix(opening).and_then(|value| {
                let end = memchr::memchr(b'"', value)?;
                value[end..].strip_prefix(br#"","#)
            });
            let Some(after) = after else { return without_members(&self.json, &["apiVersion", "kind"], out) };
            rest = after;
        }
        out.push(b'{');
        out.extend_from_slice(rest);
    }

    /// The bytes as of a later revision, for a watcher out of whose sight the object moved.
    pub fn at_revision(&self, revision: u64) -> Bytes {
        match with_resource_version(&self.json, &self.facts, revision) {
            Ok(Some(changed)) => Bytes::from(changed),
            _ => self.json.clone(),
        }
    }

    /// A rendering by `make`, kept for the next to ask.
    pub(super) fn cached<E>(
        &self,
        form: FormId,
        make: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        if let Some((_, bytes)) = self.forms.lock().iter().find(|(known, _)| *known == form) {
            return Ok(bytes.clone());
        }
        let bytes = make()?;
        self.forms.lock().push((form, bytes.clone()));
        Ok(bytes)
    }
}

impl Lookup for Object {
    fn lookup(&self, key: &str) -> Option<&str> {
        self.label(key)
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}@{}", self.key, self.revision)
    }
}

/// None when the bytes say so already.
fn with_resource_version(json: &[u8], facts: &Facts, revision: u64) -> Result<Option<Vec<u8>>, ScanError> {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(revision).as_bytes();
    if let Some(span) = facts.resource_version {
        let (start, end) = (span.0 as usize, span.1 as usize);
        return Ok((slice(json, span) != digits).then(|| [&json[..start], digits, &json[end..]].concat()));
    }
    let Some((start, end)) = facts.metadata else {
        return Err(ScanError { problem: "no metadata", at: json.len() });
    };
    let inside = start as usize + 1;
    let bare = json[inside..end as usize - 1].iter().all(u8::is_ascii_whitespace);
    let close: &[u8] = if bare { b"\"" } else { b"\"," };
    Ok(Some([&json[..inside], b"\"resourceVersion\":\"", digits, close, &json[inside..]].concat()))
}
