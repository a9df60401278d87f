//! `metadata.managedFields`: its entries, read, ordered and written as Kubernetes does.

use memchr::memmem;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;
use serde_json::value::RawValue;

use super::fields::{FieldSet, PathElement};
use crate::go::marshalled_text;
use crate::schema::write_string;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "Apply" => Some(Self::Apply),
            "Update" => Some(Self::Update),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What one manager owns by one kind of operation through one version of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    /// RFC 3339, empty if unknown.
    pub time: String,
    pub subresource: String,
    pub fields: FieldSet,
}

/// An entry as it is stored.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Stored {
    manager: String,
    operation: String,
    api_version: String,
    time: String,
    subresource: String,
    fields_type: String,
    #[serde(rename = "fieldsV1")]
    fields: FieldSet,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        if stored.fields_type != "FieldsV1" || stored.api_version.is_empty() {
            return Err(D::Error::custom("no owner's entry"));
        }
        Ok(Self {
            operation: Operation::parse(&stored.operation).ok_or_else(|| D::Error::custom("no operation"))?,
            manager: stored.manager,
            api_version: stored.api_version,
            time: stored.time,
            subresource: stored.subresource,
            fields: stored.fields,
        })
    }
}

impl Entry {
    /// Entries of the same identity are one.
    pub fn same_manager(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            // An applier keeps its fields when it moves on to another version.
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// What upstream knows it by, and has entries of one time in the order of: its head as JSON.
    pub fn identity(&self) -> String {
        let subresource = match &*self.subresource {
            "" => String::new(),
            name => format!(",\"subresource\":{}", marshalled_text(name)),
        };
        let (manager, version) = (marshalled_text(&self.manager), marshalled_text(&self.api_version));
        let operation = self.operation.as_str();
        format!(
            "{{\"manager\":{manager},\"operation\":\"{operation}\",\"apiVersion\":{version}{subresource}}}"
        )
    }

    /// `unread`: its fields, where they are still JSON.
    fn write(&self, unread: Option<&[u8]>, out: &mut Vec<u8>) {
        let mut separator = b'{';
        let mut text = |name: &str, value: &str| {
            if !value.is_empty() {
                out.push(separator);
                separator = b',';
                write_string(name.as_bytes(), out);
                out.push(b':');
                write_string(value.as_bytes(), out);
            }
        };
        text("manager", &self.manager);
        text("operation", self.operation.as_str());
        text("apiVersion", &self.api_version);
        text("time", &self.time);
        text("fieldsType", "FieldsV1");
        out.extend_from_slice(b",\"fieldsV1\":");
        match unread {
            Some(json) => out.extend_from_slice(json),
            None => self.fields.write(out),
        }
        if !self.subresource.is_empty() {
            out.extend_from_slice(b",\"subresource\":");
            write_string(self.subresource.as_bytes(), out);
        }
        out.push(b'}');
    }
}

/// The entries of an object, None if they are forged or there are none.
pub(crate) fn parse(managed_fields: Option<&Value>) -> Option<Vec<Entry>> {
    Vec::deserialize(managed_fields?).ok().filter(|entries: &Vec<Entry>| !entries.is_empty())
}

/// The same of managedFields that are still JSON.
pub(crate) fn parse_json(managed_fields: Option<&[u8]>) -> Option<Vec<Entry>> {
    let mut parser = serde_json::Deserializer::from_slice(managed_fields?);
    parser.disable_recursion_limit();
    Vec::deserialize(&mut parser).ok().filter(|entries: &Vec<Entry>| !entries.is_empty())
}

/// An entry whose fields are JSON until somebody asks for them: most entries have nothing to do with a write, and are
/// passed on as they were stored.
pub(crate) struct Held<'a> {
    pub entry: Entry,
    unread: Option<&'a [u8]>,
}

/// An entry as it is stored, without its fields.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StoredHead<'a> {
    manager: String,
    operation: String,
    api_version: String,
    time: String,
    subresource: String,
    fields_type: String,
    #[serde(rename = "fieldsV1", borrow)]
    fields: Option<&'a RawValue>,
}

impl<'a> Held<'a> {
    fn of(stored: StoredHead<'a>) -> Option<Self> {
        if stored.fields_type != "FieldsV1" || stored.api_version.is_empty() {
            return None;
        }
        let entry = Entry {
            operation: Operation::parse(&stored.operation)?,
            manager: stored.manager,
            api_version: stored.api_version,
            time: stored.time,
            subresource: stored.subresource,
            fields: FieldSet::default(),
        };
        Some(Self { entry, unread: stored.fields.map(|fields| fields.get().as_bytes()) })
    }

    /// With its fields read; None if they are forged.
    pub fn read(mut self) -> Option<Self> {
        if let Some(json) = self.unread.take() {
            let mut parser = serde_json::Deserializer::from_slice(json);
            parser.disable_recursion_limit();
            self.entry.fields = FieldSet::deserialize(&mut parser).ok()?;
        }
        Some(self)
    }

    /// Whether it may own anything at or below a member of the object.
    pub fn may_own(&self, member: &PathElement) -> bool {
        match (self.unread, member) {
            (Some(json), PathElement::Field(name)) => {
                memmem::find(json, format!("\"f:{name}\"").as_bytes()).is_some()
            }
            _ => true,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.unread.is_none() && self.entry.fields.is_empty()
    }
}

impl From<Entry> for Held<'_> {
    fn from(entry: Entry) -> Self {
        Self { entry, unread: None }
    }
}

/// The entries of an object that was stored, their fields unread; None if they are forged or there are none.
pub(crate) fn parse_heads(managed_fields: Option<&[u8]>) -> Option<Vec<Held<'_>>> {
    let mut parser = serde_json::Deserializer::from_slice(managed_fields?);
    parser.disable_recursion_limit();
    let stored: Vec<StoredHead<'_>> = Vec::deserialize(&mut parser).ok()?;
    let held: Option<Vec<Held<'_>>> = stored.into_iter().map(Held::of).collect();
    held.filter(|entries| !entries.is_empty())
}

/// `managedFields: [{}]` asks to forget all owners.
pub(crate) fn is_reset(managed_fields: Option<&[u8]>) -> bool {
    let json = managed_fields.unwrap_or_default();
    json.iter().filter(|byte| !byte.is_ascii_whitespace()).eq(b"[{}]")
}

/// The JSON array, in Kubernetes' order.
pub(crate) fn write(entries: Vec<Entry>) -> Vec<u8> {
    write_held(entries.into_iter().map(Held::from).collect())
}

pub(crate) fn write_held(mut entries: Vec<Held<'_>>) -> Vec<u8> {
    fn order<'e>(held: &'e Held<'_>) -> impl Ord + 'e {
        let Entry { operation, time, manager, api_version, subresource, .. } = &held.entry;
        (*operation, time, manager, api_version, subresource)
    }
    entries.sort_by(|a, b| order(a).cmp(&order(b)));
    let mut out = Vec::with_capacity(1024);
    out.push(b'[');
    for (position, held) in entries.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        held.entry.write(held.unread, &mut out);
    }
    out.push(b']');
    out
}
