//! Patches and ownership: JSON patch, merge patch, strategic merge patch, managedFields.

mod amend;
mod apply;
mod compare;
mod configure;
mod conflict;
mod create;
mod fields;
mod json;
mod json_patch;
mod lists;
mod merge_patch;
mod ownership;
mod patch;
mod refusing;
mod repeated;
mod sets;
mod splice;
mod strategic;
mod told;
mod topology;
mod track;
mod typing;
mod versions;
mod wrapping;

use serde::Deserialize;
use serde_json::Value;

use crate::schema::{SchemaError, check_json};

pub use amend::Amendment;
pub use apply::{Applied, Apply, ApplyFailure};
pub use conflict::{Conflict, message as conflict_message};
pub use create::LastOwned;
pub use fields::{FieldSet, PathElement};
pub use json_patch::{MAX_COPIED_BYTES, MAX_OPERATIONS};
pub use ownership::{Entry, Operation};
pub use patch::Patched;
pub use splice::{Apart, apart, with_members};
pub use track::Update;
pub use versions::{Convert, Converted};

/// Why a patch cannot be applied: what the Status will say, and in `detail` what the patching library upstream keeps
/// to itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PatchFailure {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
    pub detail: String,
}

impl PatchFailure {
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self { code: 400, reason: "BadRequest", message: message.into(), detail: String::new() }
    }

    pub(crate) fn unprocessable(detail: impl Into<String>) -> Self {
        Self {
            code: 422,
            reason: "Invalid",
            message: "the server rejected our request due to an error in our request".into(),
            detail: detail.into(),
        }
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self { code: 413, reason: "RequestEntityTooLarge", message: message.into(), detail: String::new() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
}

impl PatchType {
    /// By media type, without parameters.
    pub fn from_content_type(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            _ => None,
        }
    }
}

/// Parses JSON of bounded depth; the last of duplicate members counts.
pub(crate) fn parse_value(input: &[u8]) -> Result<Value, SchemaError> {
    check_json(input)?;
    parse_checked(input)
}

/// Parses JSON whose depth is known to be bounded: what the decoder has let through.
fn parse_checked(input: &[u8]) -> Result<Value, SchemaError> {
    let mut parser = serde_json::Deserializer::from_slice(input);
    parser.disable_recursion_limit();
    Value::deserialize(&mut parser).map_err(|error| SchemaError::syntax(error.to_string()))
}
