//! What a schema may say at all, wherever in a definition it stands.
//!
//! Semantics, order and wording of apiextensions-apiserver `pkg/apis/apiextensions/validation/validation.go`
//! (`ValidateCustomResourceDefinitionOpenAPISchema`).

use super::Tolerated;
use super::collected::Collected;
use super::lists;
use super::rules::{self, RULES};
use super::schema::{Additional, Items, Schema};
use super::scope::Scope;
use crate::schema::custom::path::Path;

pub(super) const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const METADATA: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// What is wrong with schemas, and with the rules in them.
pub(super) struct Standard<'t> {
    pub tolerated: &'t Tolerated,
    pub schemas: Collected,
    pub rules: Collected,
}

/// What holds for a schema because of where it stands.
#[derive(Clone, Copy, Default)]
pub(super) struct Surroundings<'p> {
    /// Why it may have no default.
    no_default: Option<NoDefault<'p>>,
    inside_metadata: bool,
    is_root: bool,
    /// The outermost schema whose values cannot be told which is which, so that a rule cannot compare them.
    uncorrelatable: Option<&'p Path<'p>>,
}

#[derive(Clone, Copy)]
enum NoDefault<'p> {
    AtTopLevel(&'p str),
    InMetadataValues,
}

impl Surroundings<'_> {
    pub fn of_root() -> Self {
        Self { is_root: true, ..Self::default() }
    }
}

impl Standard<'_> {
    /// `scope` is what rules of the schema are compiled in; None where there can be none.
    pub fn walk(
        &mut self,
        schema: Schema<'_>,
        at: &Path<'_>,
        around: Surroundings<'_>,
        scope: Option<&Scope<'_>>,
    ) {
        let before = self.schemas.mark();
        self.unsupported(schema, at, around);
        let below = Surroundings { is_root: false, ..around };
        if let Some(additional) = schema.additional() {
            self.additional(schema, additional, at, below, scope);
        }
        self.properties(schema, at, around, scope);
        if let Some(not) = schema.schema("not") {
            self.walk(not, &at.field("not"), below, None);
        }
        for keyword in super::schema::ALTERNATIVES {
            let list = at.field(keyword);
            for (index, alternative) in schema.schemas(keyword).enumerate() {
                self.walk(alternative, &list.index(index), below, None);
            }
        }
        for keyword in ["definitions", "dependencies"] {
            let members = at.field(keyword);
            for (name, member) in schema.members(keyword) {
                self.walk(member, &members.key(name), below, None);
            }
        }
        self.items(schema, at, below, scope);
        let preserve = "x-kubernetes-preserve-unknown-fields";
        if schema.get(preserve).is_some_and(|value| *value == false) {
            self.schemas.invalid(&at.field(preserve), &false.into(), "must be true or undefined");
        }
        lists::check(schema, at, self.tolerated, &mut self.schemas);
        rules::check_shape(schema, at, &mut self.schemas);
        // A schema that is wrong may have no types, or such that nobody could make sense of what is told of rules.
        let sound = self.schemas.mark() == before;
        if let Some(scope) = scope.filter(|_| sound && schema.has_any(RULES)) {
            rules::compile(schema, at, around.uncorrelatable, scope, self.tolerated.costs, &mut self.rules);
        }
    }

    fn unsupported(&mut self, schema: Schema<'_>, at: &Path<'_>, around: Surroundings<'_>) {
        let faults = &mut self.schemas;
        let ty = schema.ty();
        if !self.tolerated.types && !ty.is_empty() && !TYPES.contains(&ty) {
            faults.not_supported(&at.field("type"), ty, &TYPES);
        }
        if let Some(reason) = around.no_default.filter(|_| schema.get("default").is_some()) {
            let detail = match reason {
                NoDefault::AtTopLevel(name) => format!("must not be set in top-level {name}"),
                NoDefault::InMetadataValues => {
                    "must not be set inside additionalProperties applying to object metadata".to_owned()
                }
            };
            faults.forbidden(&at.field("default"), &detail);
        }
        let unsupported = [
            ("id", !schema.text("id").is_empty()),
            ("additionalItems", schema.get("additionalItems").is_some()),
            ("patternProperties", schema.has_any("patternProperties")),
            ("definitions", schema.has_any("definitions")),
            ("dependencies", schema.get("dependencies").is_some()),
            ("$ref", schema.get("$ref").is_some()),
        ];
        for (name, _) in unsupported.into_iter().filter(|(_, there)| *there) {
            faults.forbidden(&at.field(name), &format!("{name} is not supported"));
        }
        if ty == "null" {
            let detail = "type cannot be set to null, use nullable as an alternative";
            faults.forbidden(&at.field("type"), detail);
        }
        if matches!(schema.items(), Some(Items::Many(_))) {
            faults.forbidden(&at.field("items"), "items must be a schema object and not an array");
        }
        let embedded = "x-kubernetes-embedded-resource";
        if around.inside_metadata && schema.flag(embedded) {
            faults.forbidden(&at.field(embedded), "must not be used inside of resource meta");
        }
        if schema.flag("uniqueItems") {
            let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            faults.forbidden(&at.field("uniqueItems"), detail);
        }
    }

    fn additional(
        &mut self,
        schema: Schema<'_>,
        additional: Additional<'_>,
        at: &Path<'_>,
        mut around: Surroundings<'_>,
        scope: Option<&Scope<'_>>,
    ) {
        let place = at.field("additionalProperties");
        if schema.has_any("properties") && !matches!(additional, Additional::Allows(true)) {
            self.schemas.forbidden(&place, "additionalProperties and properties are mutual exclusive");
        }
        if let Additional::Schema(values) = additional {
            if around.inside_metadata {
                around.no_default = Some(NoDefault::InMetadataValues);
            }
            let scope = scope.map(|scope| scope.of_values(schema, values));
            self.walk(values, &place, around, scope.as_ref());
        }
    }

    fn properties(
        &mut self,
        schema: Schema<'_>,
        at: &Path<'_>,
        around: Surroundings<'_>,
        scope: Option<&Scope<'_>>,
    ) {
        let place = at.field("properties");
        let map_type = schema.maybe_text("x-kubernetes-map-type");
        let uncorrelatable = map_type.is_some_and(|ty| !matches!(ty, "granular" | "atomic"));
        let is_resource = around.is_root || schema.flag("x-kubernetes-embedded-resource");
        for (name, property) in schema.properties() {
            let mut below = Surroundings { is_root: false, ..around };
            if uncorrelatable {
                below.uncorrelatable = below.uncorrelatable.or(Some(at));
            }
            if is_resource && METADATA.contains(&name) {
                below.inside_metadata = true;
                if around.is_root {
                    below.no_default = Some(NoDefault::AtTopLevel(name));
                }
            }
            let scope = scope.map(|scope| scope.of_property(schema, name, property));
            self.walk(property, &place.key(name), below, scope.as_ref());
        }
    }

    fn items(
        &mut self,
        schema: Schema<'_>,
        at: &Path<'_>,
        around: Surroundings<'_>,
        scope: Option<&Scope<'_>>,
    ) {
        let mut around = Surroundings { ..around };
        if schema.text("x-kubernetes-list-type") != "map" {
            around.uncorrelatable = around.uncorrelatable.or(Some(at));
        }
        let place = at.field("items");
        match schema.items() {
            Some(Items::One(items)) => {
                let scope = scope.map(|scope| scope.of_items(schema, items));
                self.walk(items, &place, around, scope.as_ref());
            }
            Some(Items::Many(schemas)) => {
                for (index, items) in schemas.iter().enumerate() {
                    self.walk(Schema::of(items), &place.index(index), around, None);
                }
            }
            _ => {}
        }
    }
}
