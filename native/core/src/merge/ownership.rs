//! `metadata.managedFields`: its entries, read, ordered and written as Kubernetes does.

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

impl Entry {
    fn parse(value: &Value) -> Option<Self> {
        let text = |name: &str| match value.get(name) {
            None => Some(String::new()),
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => None,
        };
        if !matches!(text("fieldsType")?.as_str(), "" | "FieldsV1") {
            return None;
        }
        Some(Self {
            manager: text("manager")?,
            operation: Operation::parse(&text("operation")?)?,
            api_version: text("apiVersion").filter(|version| !version.is_empty())?,
            time: text("time")?,
            subresource: text("subresource")?,
            fields: value.get("fieldsV1").map_or_else(|| Some(FieldSet::default()), FieldSet::parse)?,
        })
    }

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
    let entries = managed_fields?.as_array()?;
    entries.iter().map(Entry::parse).collect::<Option<Vec<_>>>().filter(|entries| !entries.is_empty())
}

/// `managedFields: [{}]` asks to forget all owners.
pub(crate) fn is_reset(managed_fields: Option<&Value>) -> bool {
    let entries = managed_fields.and_then(Value::as_array);
    entries.is_some_and(|entries| {
        entries.len() == 1 && entries[0].as_object().is_some_and(|entry| entry.is_empty())
    })
}

/// The JSON array, in Kubernetes' order.
pub(crate) fn write(mut entries: Vec<Entry>) -> Vec<u8> {
    entries.sort_by(|a, b| {
        let order = |entry: &Entry| (entry.operation, entry.time.clone(), entry.manager.clone());
        let version = |entry: &Entry| (entry.api_version.clone(), entry.subresource.clone());
        order(a).cmp(&order(b)).then_with(|| version(a).cmp(&version(b)))
    });
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
