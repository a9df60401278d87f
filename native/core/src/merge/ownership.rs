//! `metadata.managedFields`: its entries, read, ordered and written as Kubernetes does.

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;

use super::fields::FieldSet;
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
        if !matches!(&*stored.fields_type, "" | "FieldsV1") || stored.api_version.is_empty() {
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

    fn write(&self, out: &mut Vec<u8>) {
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
        self.fields.write(out);
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

/// `managedFields: [{}]` asks to forget all owners.
pub(crate) fn is_reset(managed_fields: Option<&[u8]>) -> bool {
    let json = managed_fields.unwrap_or_default();
    json.iter().filter(|byte| !byte.is_ascii_whitespace()).eq(b"[{}]")
}

/// The JSON array, in Kubernetes' order.
pub(crate) fn write(mut entries: Vec<Entry>) -> Vec<u8> {
    fn order(entry: &Entry) -> impl Ord + '_ {
        let Entry { operation, time, manager, api_version, subresource, .. } = entry;
        (*operation, time, manager, api_version, subresource)
    }
    entries.sort_by(|a, b| order(a).cmp(&order(b)));
    let mut out = Vec::with_capacity(1024);
    out.push(b'[');
    for (position, entry) in entries.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        entry.write(&mut out);
    }
    out.push(b']');
    out
}
