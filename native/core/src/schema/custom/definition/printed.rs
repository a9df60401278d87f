//! Schemas and rules as upstream shows them in faults: the fields of its own types, under Go's names, all of them.

use serde_json::{Map, Value};

use super::schema::{Items, Schema};
use crate::go;

/// Keywords and Go's names of their fields, in the order of `JSONSchemaProps`.
pub(super) const FIELDS: [(&str, &str); 44] = [
    ("id", "ID"),
    ("$schema", "Schema"),
    ("$ref", "Ref"),
    ("description", "Description"),
    ("type", "Type"),
    ("nullable", "Nullable"),
    ("format", "Format"),
    ("title", "Title"),
    ("default", "Default"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("enum", "Enum"),
    ("maxProperties", "MaxProperties"),
    ("minProperties", "MinProperties"),
    ("required", "Required"),
    ("items", "Items"),
    ("allOf", "AllOf"),
    ("oneOf", "OneOf"),
    ("anyOf", "AnyOf"),
    ("not", "Not"),
    ("properties", "Properties"),
    ("additionalProperties", "AdditionalProperties"),
    ("patternProperties", "PatternProperties"),
    ("dependencies", "Dependencies"),
    ("additionalItems", "AdditionalItems"),
    ("definitions", "Definitions"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
    ("x-kubernetes-embedded-resource", "XEmbeddedResource"),
    ("x-kubernetes-int-or-string", "XIntOrString"),
    ("x-kubernetes-list-map-keys", "XListMapKeys"),
    ("x-kubernetes-list-type", "XListType"),
    ("x-kubernetes-map-type", "XMapType"),
    ("x-kubernetes-validations", "XValidations"),
];

/// Fields of a rule, in the order of `ValidationRule`.
const RULE_FIELDS: [(&str, &str); 6] = [
    ("rule", "Rule"),
    ("message", "Message"),
    ("messageExpression", "MessageExpression"),
    ("reason", "Reason"),
    ("fieldPath", "FieldPath"),
    ("optionalOldSelf", "OptionalOldSelf"),
];

/// Whether the field of a keyword is not Go's zero.
pub(super) fn is_set(schema: Schema<'_>, keyword: &str) -> bool {
    match schema.get(keyword) {
        None => false,
        Some(Value::String(text)) => !text.is_empty() || is_pointer(keyword),
        Some(Value::Bool(false)) => matches!(
            keyword,
            "additionalProperties" | "additionalItems" | "x-kubernetes-preserve-unknown-fields"
        ),
        Some(_) => true,
    }
}

fn is_pointer(keyword: &str) -> bool {
    matches!(keyword, "$ref" | "x-kubernetes-list-type" | "x-kubernetes-map-type")
}

/// A rule as JSON.
pub(super) fn rule(rule: Schema<'_>) -> String {
    let zero = |keyword: &str| match keyword {
        "reason" | "optionalOldSelf" => Value::Null,
        _ => "".into(),
    };
    let fields = RULE_FIELDS.iter().map(|(keyword, name)| {
        let value = rule.get(keyword).cloned().unwrap_or_else(|| zero(keyword));
        format!("\"{name}\":{}", go::marshalled(&value))
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

/// A schema as JSON.
pub(super) fn schema(schema: Schema<'_>) -> String {
    let mut out = String::from("{");
    for (at, (keyword, name)) in FIELDS.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(&format!("\"{name}\":"));
        field(schema, keyword, &mut out);
    }
    out.push('}');
    out
}

fn field(of: Schema<'_>, keyword: &str, out: &mut String) {
    let list = |schemas: &[Value], out: &mut String| {
        let shown: Vec<String> = schemas.iter().map(|one| schema(Schema::of(one))).collect();
        out.push_str(&format!("[{}]", shown.join(",")));
    };
    match (keyword, of.get(keyword)) {
        ("description" | "type" | "format" | "title" | "pattern" | "id" | "$schema", value) => {
            out.push_str(&go::marshalled(value.unwrap_or(&"".into())));
        }
        (
            "nullable"
            | "exclusiveMaximum"
            | "exclusiveMinimum"
            | "uniqueItems"
            | "x-kubernetes-embedded-resource"
            | "x-kubernetes-int-or-string",
            value,
        ) => out.push_str(&go::marshalled(value.unwrap_or(&false.into()))),
        (_, None) => out.push_str("null"),
        ("allOf" | "oneOf" | "anyOf", Some(Value::Array(schemas))) => list(schemas, out),
        ("not", Some(not)) => out.push_str(&schema(Schema::of(not))),
        ("properties" | "patternProperties" | "definitions", Some(Value::Object(members))) => {
            map(members, out, &mut |member, out| out.push_str(&schema(Schema::of(member))));
        }
        ("dependencies", Some(Value::Object(members))) => {
            map(members, out, &mut |member, out| {
                let property = if member.is_array() { go::marshalled(member) } else { "null".to_owned() };
                let schema = if member.is_object() { schema(Schema::of(member)) } else { "null".to_owned() };
                out.push_str(&format!("{{\"Schema\":{schema},\"Property\":{property}}}"));
            });
        }
        ("items", Some(_)) => match of.items() {
            Some(Items::One(items)) => {
                out.push_str(&format!("{{\"Schema\":{},\"JSONSchemas\":null}}", schema(items)));
            }
            Some(Items::Many(schemas)) => {
                out.push_str("{\"Schema\":null,\"JSONSchemas\":");
                list(schemas, out);
                out.push('}');
            }
            _ => out.push_str("{\"Schema\":null,\"JSONSchemas\":null}"),
        },
        ("additionalProperties" | "additionalItems", Some(value)) => {
            let allows = *value != Value::Bool(false);
            let schema = if value.is_object() { schema(Schema::of(value)) } else { "null".to_owned() };
            out.push_str(&format!("{{\"Allows\":{allows},\"Schema\":{schema}}}"));
        }
        ("externalDocs", Some(docs)) => {
            let docs = Schema::of(docs);
            let (description, url) = (go::marshalled(&docs.text("description").into()), docs.text("url"));
            out.push_str(&format!(
                "{{\"Description\":{description},\"URL\":{}}}",
                go::marshalled(&url.into())
            ));
        }
        ("x-kubernetes-validations", Some(Value::Array(rules))) => {
            let shown: Vec<String> = rules.iter().map(|one| rule(Schema::of(one))).collect();
            out.push_str(&format!("[{}]", shown.join(",")));
        }
        (_, Some(value)) => out.push_str(&go::marshalled(value)),
    }
}

/// Members in the order of their names.
fn map(members: &Map<String, Value>, out: &mut String, write: &mut dyn FnMut(&Value, &mut String)) {
    let mut names: Vec<&String> = members.keys().collect();
    names.sort();
    out.push('{');
    for (at, name) in names.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(&format!("{}:", go::marshalled(&name.as_str().into())));
        write(&members[name], out);
    }
    out.push('}');
}
