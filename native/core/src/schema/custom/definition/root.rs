//! What the schema of a whole object may say where there is a status subresource: only what is not lost when the status
//! is held against its own schema alone.

use super::collected::Collected;
use super::printed;
use super::schema::Schema;
use crate::schema::custom::path::Path;

/// Go's names of the fields that are allowed, in its order.
const ALLOWED: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength \
                       MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties \
                       ExternalDocs Example XPreserveUnknownFields XValidations]";

pub(super) fn check_status(schema: Schema<'_>, at: &Path<'_>, faults: &mut Collected) {
    for (keyword, name) in printed::FIELDS {
        if !printed::is_set(schema, keyword) {
            continue;
        }
        if keyword == "type" {
            if schema.ty() != "object" {
                let detail = "only \"object\" is allowed as the type at the root of the schema if the status \
                              subresource is enabled";
                faults.invalid(&at.field("type"), &schema.ty().into(), detail);
                return;
            }
        } else if !ALLOWED.trim_matches(['[', ']']).split(' ').any(|allowed| allowed == name) {
            let detail = format!(
                "only {ALLOWED} fields are allowed at the root of the schema if the status subresource is enabled"
            );
            faults.invalid_shown(at, &printed::schema(schema), &detail);
            return;
        }
    }
}
