//! The rules of a definition (`x-kubernetes-validations`).
//!
//! Semantics, order and wording of apiextensions-apiserver `pkg/apis/apiextensions/validation/validation.go`.

use serde_json::Value;

use super::collected::Collected;
use super::schema::Schema;
use crate::schema::custom::field_path;
use crate::schema::custom::path::Path;

pub(super) const RULES: &str = "x-kubernetes-validations";
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// What a rule may look like, whatever it means.
pub(super) fn check_shape(schema: Schema<'_>, at: &Path<'_>, faults: &mut Collected) {
    let place = at.field(RULES);
    for (index, rule) in schema.schemas(RULES).enumerate() {
        let place = place.index(index);
        texts(rule, &place, faults);
        if let Some(reason) = rule.maybe_text("reason").filter(|reason| !REASONS.contains(reason)) {
            faults.not_supported(&place.field("reason"), reason, &REASONS);
        }
        let path = rule.text("fieldPath");
        if path.is_empty() {
            continue;
        }
        let mut wrong = |detail| faults.invalid(&place.field("fieldPath"), &path.into(), detail);
        if path.trim().is_empty() {
            wrong("must be non-empty if specified");
        }
        if has_line_breaks(path) {
            wrong("must not contain line breaks");
        }
        if field_path::parse(path, schema).is_err() {
            wrong("must be a valid path");
        }
    }
}

fn texts(rule: Schema<'_>, place: &Path<'_>, faults: &mut Collected) {
    let (expression, message) = (rule.text("rule"), rule.text("message"));
    let shown = Value::from(message);
    if expression.trim().is_empty() {
        faults.required(&place.field("rule"), "rule is not specified");
    } else if !message.is_empty() && message.trim().is_empty() {
        faults.invalid(&place.field("message"), &shown, "must be non-empty if specified");
    } else if has_line_breaks(message.trim()) {
        faults.invalid(&place.field("message"), &shown, "must not contain line breaks");
    } else if has_line_breaks(expression.trim()) && message.trim().is_empty() {
        faults.required(&place.field("message"), "message must be specified if rule contains line breaks");
    }
    let message_expression = rule.text("messageExpression");
    if !message_expression.is_empty() && message_expression.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        faults.required(&place.field("messageExpression"), detail);
    }
}

fn has_line_breaks(text: &str) -> bool {
    text.contains(['\n', '\r'])
}
