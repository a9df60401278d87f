//! Structural schemas: every field that a schema speaks of has a type of its own, outside of what only restricts
//! values.
//!
//! Semantics, order and wording of apiextensions-apiserver `pkg/apiserver/schema/{convert,validation,complete}.go`.

use super::collected::Collected;
use super::schema::{Additional, Items, Schema, alternatives};
use crate::re2;
use crate::schema::custom::path::Path;

/// Why a schema cannot be a structural one at all.
pub(super) fn representable(schema: Schema<'_>) -> Result<(), String> {
    let unsupported = [
        ("id", !schema.text("id").is_empty()),
        ("schema", !schema.text("$schema").is_empty()),
        ("$ref", !schema.text("$ref").is_empty()),
        ("patternProperties", schema.has_any("patternProperties")),
        ("dependencies", schema.has_any("dependencies")),
        ("additionalItems", schema.get("additionalItems").is_some()),
        ("definitions", schema.has_any("definitions")),
    ];
    if let Some((name, _)) = unsupported.iter().find(|(_, there)| *there) {
        return Err(format!("OpenAPIV3Schema '{name}' is not supported"));
    }
    for below in schema.schema("not").into_iter().chain(alternatives(schema)) {
        representable(below)?;
    }
    if schema.get("x-kubernetes-preserve-unknown-fields").is_some_and(|value| *value == false) {
        let problem = "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined";
        return Err(problem.to_owned());
    }
    match schema.items() {
        Some(Items::Many(_)) => {
            return Err("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
        }
        Some(Items::One(items)) => representable(items)?,
        _ => {}
    }
    for (_, property) in schema.properties() {
        representable(property)?;
    }
    schema.additional_schema().map_or(Ok(()), representable)
}

/// What keeps a schema from being structural, sorted.
pub(super) fn faults(schema: Schema<'_>, at: &Path<'_>) -> Collected {
    let mut found = Found(Collected::default());
    found.invariants(schema, Level::Root, at);
    found.completeness(Some(schema), schema, at, at);
    found.0.sorted()
}

/// Whether a schema is not structural.
pub(super) fn is_lacking(schema: Schema<'_>) -> bool {
    representable(schema).is_err() || !faults(schema, &Path::ROOT).is_empty()
}

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

struct Found(Collected);

impl Found {
    // --- the schema itself

    fn invariants(&mut self, schema: Schema<'_>, level: Level, at: &Path<'_>) {
        let items = at.field("items");
        match schema.item() {
            Some(item) => self.invariants(item, Level::Item, &items),
            None if schema.ty() == "array" => self.0.required(&items, "must be specified"),
            None => {}
        }
        let properties = at.field("properties");
        for (name, property) in schema.properties() {
            self.invariants(property, Level::Field, &properties.key(name));
        }
        let additional = at.field("additionalProperties");
        if schema.additional().is_some() && level == Level::Root {
            self.0.forbidden(&additional, "must not be used at the root");
        }
        if let Some(values) = schema.additional_schema() {
            self.invariants(values, Level::Field, &additional);
        }
        self.extensions(schema, at);
        let skip_first = schema.schemas("allOf").next().is_some_and(is_int_or_string);
        self.value_validation(schema, is_int_or_string(schema), skip_first, at);
        self.types(schema, level, at);
        self.metadata(schema, level, at);
    }

    fn extensions(&mut self, schema: Schema<'_>, at: &Path<'_>) {
        if !schema.flag("x-kubernetes-int-or-string") {
            return;
        }
        for name in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
            if schema.flag(name) {
                let detail = "must be false if x-kubernetes-int-or-string is true";
                self.0.invalid(&at.field(name), &true.into(), detail);
            }
        }
    }

    fn types(&mut self, schema: Schema<'_>, level: Level, at: &Path<'_>) {
        let (ty, place) = (schema.ty(), at.field("type"));
        let embedded = schema.flag("x-kubernetes-embedded-resource");
        if embedded && ty != "object" {
            let detail = "must be object if x-kubernetes-embedded-resource is true";
            match ty {
                "" => self.0.required(&place, detail),
                ty => self.0.invalid(&place, &ty.into(), detail),
            }
        } else if ty.is_empty()
            && !schema.flag("x-kubernetes-int-or-string")
            && !schema.flag("x-kubernetes-preserve-unknown-fields")
        {
            self.0.required(
                &place,
                match level {
                    Level::Root => "must not be empty at the root",
                    Level::Item => "must not be empty for specified array items",
                    Level::Field => "must not be empty for specified object fields",
                },
            );
        }
        if embedded && schema.additional().is_some() {
            let detail = "must not be used if x-kubernetes-embedded-resource is set";
            self.0.forbidden(&at.field("additionalProperties"), detail);
        }
        if level == Level::Root && !ty.is_empty() && ty != "object" {
            self.0.invalid(&place, &ty.into(), "must be object at the root");
        }
    }

    /// What a resource may say of what every resource has.
    fn metadata(&mut self, schema: Schema<'_>, level: Level, at: &Path<'_>) {
        let embedded = schema.flag("x-kubernetes-embedded-resource");
        let is_resource = level == Level::Root || embedded;
        let properties = at.field("properties");
        for name in ["kind", "apiVersion"] {
            let property = schema.property(name).filter(|_| is_resource);
            if let Some(ty) = property.map(Schema::ty).filter(|ty| *ty != "string") {
                self.0.invalid(&properties.key(name).field("type"), &ty.into(), "must be string");
            }
        }
        if let Some(metadata) = schema.property("metadata") {
            let place = properties.key("metadata");
            if is_resource && metadata.ty() != "object" {
                self.0.invalid(&place.field("type"), &metadata.ty().into(), "must be object");
            }
            if level == Level::Root && !is_plain_metadata(metadata) {
                let detail = "must not specify anything other than name and generateName, but metadata is implicitly \
                              specified";
                self.0.forbidden(&place, detail);
            }
        }
        if embedded && !schema.flag("x-kubernetes-preserve-unknown-fields") && !schema.has_any("properties") {
            let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
                          x-kubernetes-preserve-unknown-fields";
            self.0.required(&properties, detail);
        }
    }

    // --- what only restricts values

    /// `skip_any`: its `anyOf` is that of an int or string; `skip_first`: that of its first `allOf` is.
    fn value_validation(&mut self, schema: Schema<'_>, skip_any: bool, skip_first: bool, at: &Path<'_>) {
        for (keyword, skipped) in [("anyOf", skip_any), ("allOf", false), ("oneOf", false)] {
            let list = at.field(keyword);
            for (index, below) in schema.schemas(keyword).enumerate().filter(|_| !skipped) {
                let skip = keyword == "allOf" && skip_first && index == 0;
                self.nested(below, skip, &list.index(index));
            }
        }
        if let Some(not) = schema.schema("not") {
            self.nested(not, false, &at.field("not"));
        }
        let pattern = schema.text("pattern");
        if let Err(problem) = re2::check(pattern) {
            let detail = format!("must be a valid regular expression, but isn't: {problem}");
            self.0.invalid(&at.field("pattern"), &pattern.into(), &detail);
        }
    }

    fn nested(&mut self, schema: Schema<'_>, skip_any: bool, at: &Path<'_>) {
        const EMPTY: &str = "must be empty to be structural";
        const UNDEFINED: &str = "must be undefined to be structural";
        const FALSE: &str = "must be false to be structural";
        self.value_validation(schema, skip_any, false, at);
        if let Some(item) = schema.item() {
            self.nested(item, false, &at.field("items"));
        }
        let properties = at.field("properties");
        for (name, property) in schema.properties() {
            self.nested(property, false, &properties.key(name));
        }
        let forbidden = [
            ("type", !schema.ty().is_empty(), EMPTY),
            ("additionalProperties", is_given(schema.additional()), UNDEFINED),
            ("default", schema.get("default").is_some(), UNDEFINED),
            ("title", !schema.text("title").is_empty(), EMPTY),
            ("description", !schema.text("description").is_empty(), EMPTY),
            ("nullable", schema.flag("nullable"), FALSE),
            (
                "x-kubernetes-preserve-unknown-fields",
                schema.flag("x-kubernetes-preserve-unknown-fields"),
                FALSE,
            ),
            ("x-kubernetes-embedded-resource", schema.flag("x-kubernetes-embedded-resource"), FALSE),
            ("x-kubernetes-int-or-string", schema.flag("x-kubernetes-int-or-string"), FALSE),
            ("x-kubernetes-list-map-keys", schema.has_any("x-kubernetes-list-map-keys"), EMPTY),
            ("x-kubernetes-list-type", schema.get("x-kubernetes-list-type").is_some(), UNDEFINED),
            ("x-kubernetes-map-type", schema.get("x-kubernetes-map-type").is_some(), UNDEFINED),
            ("x-kubernetes-validations", schema.has_any("x-kubernetes-validations"), EMPTY),
        ];
        for (name, _, detail) in forbidden.into_iter().filter(|(_, there, _)| *there) {
            self.0.forbidden(&at.field(name), detail);
        }
        if schema.property("metadata").is_some() {
            self.0.forbidden(&properties.key("metadata"), "must not be specified in a nested context");
        }
    }

    // --- completeness

    /// Whatever `values` at `value_at` restricts must be part of `schema` at `at`, which it stands in.
    fn completeness(
        &mut self,
        schema: Option<Schema<'_>>,
        values: Schema<'_>,
        at: &Path<'_>,
        value_at: &Path<'_>,
    ) {
        if let Some(not) = values.schema("not") {
            self.nested_completeness(schema, not, at, &value_at.field("not"));
        }
        for keyword in ["allOf", "anyOf", "oneOf"] {
            let list = value_at.field(keyword);
            for (index, below) in values.schemas(keyword).enumerate() {
                self.nested_completeness(schema, below, at, &list.index(index));
            }
        }
    }

    fn nested_completeness(
        &mut self,
        schema: Option<Schema<'_>>,
        values: Schema<'_>,
        at: &Path<'_>,
        value_at: &Path<'_>,
    ) {
        let Some(known) = schema else {
            self.0.required(at, &format!("because it is defined in {}", value_at.bracketed()));
            return;
        };
        self.completeness(schema, values, at, value_at);
        if let Some(item) = values.item() {
            self.nested_completeness(known.item(), item, &at.field("items"), &value_at.field("items"));
        }
        let (properties, value_properties) = (at.field("properties"), value_at.field("properties"));
        for (name, property) in values.properties() {
            let (at, value_at) = (properties.key(name), value_properties.key(name));
            self.nested_completeness(known.property(name), property, &at, &value_at);
        }
    }
}

fn is_given(additional: Option<Additional<'_>>) -> bool {
    !matches!(additional, None | Some(Additional::Allows(false)))
}

/// `anyOf` an integer and a string, and nothing else.
fn is_int_or_string(schema: Schema<'_>) -> bool {
    let types: Vec<&str> = schema
        .schemas("anyOf")
        .map(|below| if below.keywords().eq(["type"]) { below.ty() } else { "" })
        .collect();
    types == ["integer", "string"]
}

/// Nothing but `name` and `generateName`.
fn is_plain_metadata(schema: Schema<'_>) -> bool {
    let names_only = schema.properties().all(|(name, _)| matches!(name, "name" | "generateName"));
    schema.keywords().all(|keyword| match keyword {
        "type" | "default" => true,
        "properties" => names_only,
        _ => false,
    })
}
