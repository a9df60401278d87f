//! A `JSONSchemaProps` as it was written, before anything is known of its sense.

use serde_json::{Map, Value};

use crate::schema::custom::field_path::Traversed;

/// A schema; None where something else stands in its place, which counts as an empty one.
#[derive(Clone, Copy)]
pub(super) struct Schema<'a>(Option<&'a Map<String, Value>>);

/// `items`.
#[derive(Clone, Copy)]
pub(super) enum Items<'a> {
    One(Schema<'a>),
    Many(&'a [Value]),
    Neither,
}

/// `additionalProperties`.
#[derive(Clone, Copy)]
pub(super) enum Additional<'a> {
    Allows(bool),
    Schema(Schema<'a>),
}

/// Keywords that stand for several schemas, of which a value must satisfy some.
pub(super) const ALTERNATIVES: [&str; 3] = ["allOf", "oneOf", "anyOf"];

impl<'a> Schema<'a> {
    pub fn of(value: &'a Value) -> Self {
        Self(value.as_object())
    }

    pub fn get(self, name: &str) -> Option<&'a Value> {
        self.0?.get(name).filter(|value| !value.is_null())
    }

    pub fn text(self, name: &str) -> &'a str {
        self.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// None where it is not there; it may be empty.
    pub fn maybe_text(self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str)
    }

    pub fn flag(self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    pub fn ty(self) -> &'a str {
        self.text("type")
    }

    /// A schema below that keyword.
    pub fn schema(self, name: &str) -> Option<Schema<'a>> {
        self.get(name).map(Schema::of)
    }

    /// The values of a list.
    pub fn list(self, name: &str) -> &'a [Value] {
        self.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn schemas(self, name: &str) -> impl Iterator<Item = Schema<'a>> {
        self.list(name).iter().map(Schema::of)
    }

    pub fn strings(self, name: &str) -> impl Iterator<Item = &'a str> {
        self.list(name).iter().filter_map(Value::as_str)
    }

    /// The members of a map of schemas.
    pub fn members(self, name: &str) -> impl Iterator<Item = (&'a str, Schema<'a>)> {
        let members = self.get(name).and_then(Value::as_object).into_iter().flatten();
        members.map(|(name, schema)| (name.as_str(), Schema::of(schema)))
    }

    pub fn properties(self) -> impl Iterator<Item = (&'a str, Schema<'a>)> {
        self.members("properties")
    }

    pub fn property(self, name: &str) -> Option<Schema<'a>> {
        self.get("properties")?.get(name).map(Schema::of)
    }

    /// Whether the map or list is there and has something in it.
    pub fn has_any(self, name: &str) -> bool {
        match self.get(name) {
            Some(Value::Object(members)) => !members.is_empty(),
            Some(Value::Array(elements)) => !elements.is_empty(),
            _ => false,
        }
    }

    pub fn items(self) -> Option<Items<'a>> {
        Some(match self.get("items")? {
            items @ Value::Object(_) => Items::One(Schema::of(items)),
            Value::Array(items) if !items.is_empty() => Items::Many(items),
            _ => Items::Neither,
        })
    }

    /// The schema of elements, where there is one.
    pub fn item(self) -> Option<Schema<'a>> {
        match self.items()? {
            Items::One(schema) => Some(schema),
            _ => None,
        }
    }

    pub fn additional(self) -> Option<Additional<'a>> {
        Some(match self.get("additionalProperties")? {
            schema @ Value::Object(_) => Additional::Schema(Schema::of(schema)),
            allows => Additional::Allows(*allows == Value::Bool(true)),
        })
    }

    pub fn additional_schema(self) -> Option<Schema<'a>> {
        match self.additional()? {
            Additional::Schema(schema) => Some(schema),
            Additional::Allows(_) => None,
        }
    }

    /// Keywords that say something, besides those that structural schemas do not keep.
    pub fn keywords(self) -> impl Iterator<Item = &'a str> {
        let members = self.0.into_iter().flatten();
        members.filter(|(name, value)| says_something(name, value)).map(|(name, _)| name.as_str())
    }

    /// Whether `found` holds for it or any schema below it.
    pub fn any(self, found: &mut dyn FnMut(Schema<'a>) -> bool) -> bool {
        if found(self) {
            return true;
        }
        let items = match self.items() {
            Some(Items::One(schema)) => schema.any(found),
            Some(Items::Many(schemas)) => schemas.iter().any(|schema| Schema::of(schema).any(found)),
            _ => false,
        };
        items
            || ALTERNATIVES.iter().any(|name| self.schemas(name).any(|schema| schema.any(found)))
            || self.schema("not").is_some_and(|schema| schema.any(found))
            || self.additional_schema().is_some_and(|schema| schema.any(found))
            || self.get("additionalItems").is_some_and(|schema| Schema::of(schema).any(found))
            || ["properties", "patternProperties", "definitions", "dependencies"]
                .iter()
                .any(|name| self.members(name).any(|(_, schema)| schema.any(found)))
    }
}

impl Traversed for Schema<'_> {
    fn has_properties(self) -> bool {
        self.has_any("properties")
    }

    fn property(self, name: &str) -> Option<Self> {
        Schema::property(self, name)
    }

    fn additional(self) -> Option<Option<Self>> {
        Schema::additional(self).map(|_| self.additional_schema())
    }
}

fn says_something(name: &str, value: &Value) -> bool {
    if matches!(name, "externalDocs" | "example") {
        return false;
    }
    match value {
        Value::Null | Value::Bool(false) => matches!((name, value), ("additionalProperties", Value::Bool(_))),
        Value::String(text) => !text.is_empty(),
        Value::Array(elements) => {
            let told_empty = ["required", "x-kubernetes-list-map-keys", "x-kubernetes-validations"];
            !elements.is_empty() || told_empty.contains(&name)
        }
        Value::Object(members) => {
            !members.is_empty() || matches!(name, "items" | "not" | "additionalProperties")
        }
        _ => true,
    }
}

/// All schemas of which a value must satisfy some.
pub(super) fn alternatives(schema: Schema<'_>) -> impl Iterator<Item = Schema<'_>> {
    ALTERNATIVES.into_iter().flat_map(move |name| schema.schemas(name))
}
