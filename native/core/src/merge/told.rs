//! What is told of a patch itself, before it is applied: members given twice, and members that no operation has.

use serde_json::Value;

use super::PatchType;
use crate::schema::repeated_fields;

/// Upstream's decoder stops counting there.
const MOST: usize = 100;

pub(crate) fn told_of(patch: &[u8], change: &Value, patch_type: PatchType) -> Vec<String> {
    let prefix = if patch_type == PatchType::Json { "json patch " } else { "" };
    let repeated = repeated_fields(patch, MOST);
    let mut told: Vec<_> =
        repeated.into_iter().map(|path| format!("{prefix}duplicate field \"{path}\"")).collect();
    if let (PatchType::Json, Value::Array(operations)) = (patch_type, change) {
        for (index, operation) in operations.iter().enumerate() {
            let members = operation.as_object().into_iter().flat_map(|members| members.keys());
            let unknown = members.filter(|name| !matches!(name.as_str(), "op" | "path" | "from" | "value"));
            told.extend(unknown.map(|name| format!("{prefix}unknown field \"[{index}].{name}\"")));
            if told.len() >= MOST {
                break;
            }
        }
    }
    told.truncate(MOST);
    told
}
