//! A structural schema, compiled: the tree that decoding, defaulting, validation and rules walk.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::defaults;
use super::formats::Format;
use super::pattern::Pattern;
use crate::schema::model::CompileError;

/// `type` of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonType {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl JsonType {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// `additionalProperties`.
#[derive(Debug, Default)]
pub(crate) enum Additional {
    #[default]
    Undefined,
    Allowed,
    Forbidden,
    Schema(Box<Node>),
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListType {
    #[default]
    Undefined,
    Atomic,
    Set,
    Map,
}

/// `x-kubernetes-map-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MapType {
    #[default]
    Undefined,
    Granular,
    Atomic,
}

/// One of `x-kubernetes-validations`, as written.
#[derive(Debug)]
pub(crate) struct Rule {
    pub rule: Box<str>,
    pub message: Box<str>,
    pub message_expression: Box<str>,
    pub field_path: Box<str>,
    pub reason: Box<str>,
    pub optional_old_self: bool,
}

impl Rule {
    /// As faults tell of the rule.
    pub fn told(&self) -> &str {
        let text = if self.message.is_empty() { &self.rule } else { &self.message };
        text.trim()
    }
}

/// A schema and all below it. Also what stands within `allOf`, `anyOf`, `oneOf` and `not`.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub ty: Option<JsonType>,
    pub nullable: bool,
    pub preserve_unknown: bool,
    pub embedded_resource: bool,
    pub int_or_string: bool,
    pub list_type: ListType,
    pub map_type: MapType,
    pub below: Below,
    /// Sorted by name.
    pub properties: Box<[(Box<str>, Node)]>,
    pub additional: Additional,
    pub items: Option<Box<Node>>,
    pub list_map_keys: Box<[Box<str>]>,
    pub default: Option<Box<Value>>,
    /// What its default takes, in bytes.
    pub default_weight: usize,
    pub checks: Option<Box<Checks>>,
    pub rules: Box<[Arc<Rule>]>,
}

/// What a schema or one below it has, so that walks can leave out what is of no use to them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Below {
    pub defaults: bool,
    pub rules: bool,
    pub embedded: bool,
    pub list_types: bool,
}

/// The validations of values.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// Enforced, and as written.
    pub format: Option<Format>,
    pub format_text: Box<str>,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub pattern: Option<Pattern>,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub unique_items: bool,
    pub multiple_of: Option<f64>,
    pub allowed: Box<[Value]>,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub required: Box<[Box<str>]>,
    pub all_of: Box<[Node]>,
    pub any_of: Box<[Node]>,
    pub one_of: Box<[Node]>,
    pub not: Option<Box<Node>>,
}

impl Node {
    /// Compiles the JSON of a `JSONSchemaProps`.
    pub fn compile(schema: &Value) -> Result<Self, CompileError> {
        let Value::Object(schema) = schema else {
            return Err(refused("a schema must be an object"));
        };
        let text = |name: &str| schema.get(name).and_then(Value::as_str).unwrap_or_default();
        let flag = |name: &str| schema.get(name).and_then(Value::as_bool).unwrap_or_default();
        let ty = match text("type") {
            "" => None,
            name => {
                Some(JsonType::parse(name).ok_or_else(|| refused(&format!("type {name:?} is not known")))?)
            }
        };
        let mut node = Node {
            ty,
            nullable: flag("nullable"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded_resource: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            list_type: match text("x-kubernetes-list-type") {
                "atomic" => ListType::Atomic,
                "set" => ListType::Set,
                "map" => ListType::Map,
                _ => ListType::Undefined,
            },
            map_type: match text("x-kubernetes-map-type") {
                "granular" => MapType::Granular,
                "atomic" => MapType::Atomic,
                _ => MapType::Undefined,
            },
            properties: properties(schema.get("properties"))?,
            additional: additional(schema.get("additionalProperties"))?,
            items: schema.get("items").map(items).transpose()?,
            list_map_keys: strings(schema.get("x-kubernetes-list-map-keys")),
            default: schema.get("default").filter(|value| !value.is_null()).cloned().map(Box::new),
            default_weight: 0,
            checks: checks(schema)?,
            rules: rules(schema.get("x-kubernetes-validations")),
            below: Below::default(),
        };
        node.default_weight = node.default.as_deref().map_or(0, defaults::weight);
        node.below = node.look_below();
        Ok(node)
    }

    pub fn property(&self, name: &[u8]) -> Option<&Node> {
        let at = self.properties.binary_search_by(|(other, _)| other.as_bytes().cmp(name)).ok()?;
        Some(&self.properties[at].1)
    }

    /// The schema of the values of undeclared properties.
    pub fn additional_schema(&self) -> Option<&Node> {
        match &self.additional {
            Additional::Schema(schema) => Some(schema),
            _ => None,
        }
    }

    /// The schema of a member, declared or additional.
    pub fn member(&self, name: &[u8]) -> Option<&Node> {
        self.property(name).or_else(|| self.additional_schema())
    }

    /// A null here is as if nothing had been given, unless there is a default to take its place.
    pub fn refuses_null(&self) -> bool {
        !self.nullable
    }

    /// Whether no type is refused here, so that a null passes, too, until the object is read back without it.
    pub fn is_untyped(&self) -> bool {
        self.ty.is_none() && !self.int_or_string
    }

    fn look_below(&self) -> Below {
        let mut below = Below {
            defaults: self.default.is_some(),
            rules: !self.rules.is_empty(),
            embedded: self.embedded_resource,
            list_types: matches!(self.list_type, ListType::Set | ListType::Map),
        };
        let members = self.properties.iter().map(|(_, node)| node);
        for node in members.chain(self.additional_schema()).chain(self.items.as_deref()) {
            below.defaults |= node.below.defaults;
            below.rules |= node.below.rules;
            below.embedded |= node.below.embedded;
            below.list_types |= node.below.list_types;
        }
        below
    }
}

fn refused(problem: &str) -> CompileError {
    CompileError::Definition { definition: "openAPIV3Schema".into(), problem: problem.into() }
}

type Properties = Box<[(Box<str>, Node)]>;

fn properties(properties: Option<&Value>) -> Result<Properties, CompileError> {
    let members = properties.and_then(Value::as_object).into_iter().flatten();
    let compiled = members.map(|(name, schema)| Ok((name.as_str().into(), Node::compile(schema)?)));
    let mut compiled = compiled.collect::<Result<Vec<(Box<str>, Node)>, CompileError>>()?;
    compiled.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(compiled.into())
}

fn additional(additional: Option<&Value>) -> Result<Additional, CompileError> {
    Ok(match additional {
        None | Some(Value::Null) => Additional::Undefined,
        Some(Value::Bool(true)) => Additional::Allowed,
        Some(Value::Bool(false)) => Additional::Forbidden,
        Some(schema) => Additional::Schema(Box::new(Node::compile(schema)?)),
    })
}

fn items(items: &Value) -> Result<Box<Node>, CompileError> {
    if items.is_array() {
        return Err(refused("items must be a schema object and not an array"));
    }
    Node::compile(items).map(Box::new)
}

fn nodes(list: Option<&Value>) -> Result<Box<[Node]>, CompileError> {
    list.and_then(Value::as_array).into_iter().flatten().map(Node::compile).collect()
}

pub(super) fn strings(list: Option<&Value>) -> Box<[Box<str>]> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(Into::into).collect()
}

fn rules(list: Option<&Value>) -> Box<[Arc<Rule>]> {
    let compile = |rule: &Value| {
        let text = |name: &str| rule[name].as_str().unwrap_or_default().into();
        Arc::new(Rule {
            rule: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            field_path: text("fieldPath"),
            reason: text("reason"),
            optional_old_self: rule["optionalOldSelf"].as_bool().unwrap_or_default(),
        })
    };
    list.and_then(Value::as_array).into_iter().flatten().map(compile).collect()
}

fn checks(schema: &Map<String, Value>) -> Result<Option<Box<Checks>>, CompileError> {
    const KEYWORDS: [&str; 20] = [
        "allOf",
        "anyOf",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "not",
        "oneOf",
        "pattern",
        "required",
        "uniqueItems",
    ];
    if !KEYWORDS.iter().any(|keyword| schema.contains_key(*keyword)) {
        return Ok(None);
    }
    let flag = |name: &str| schema.get(name).and_then(Value::as_bool).unwrap_or_default();
    let number = |name: &str| schema.get(name).and_then(Value::as_f64);
    let count = |name: &str| schema.get(name).and_then(Value::as_i64);
    let text = |name: &str| schema.get(name).and_then(Value::as_str).unwrap_or_default();
    Ok(Some(Box::new(Checks {
        format: Format::parse(text("format")),
        format_text: text("format").into(),
        maximum: number("maximum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        minimum: number("minimum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        max_length: count("maxLength"),
        min_length: count("minLength"),
        pattern: Some(text("pattern")).filter(|pattern| !pattern.is_empty()).map(Pattern::new),
        max_items: count("maxItems"),
        min_items: count("minItems"),
        unique_items: flag("uniqueItems"),
        multiple_of: number("multipleOf"),
        allowed: schema.get("enum").and_then(Value::as_array).cloned().unwrap_or_default().into(),
        max_properties: count("maxProperties"),
        min_properties: count("minProperties"),
        required: strings(schema.get("required")),
        all_of: nodes(schema.get("allOf"))?,
        any_of: nodes(schema.get("anyOf"))?,
        one_of: nodes(schema.get("oneOf"))?,
        not: schema.get("not").map(|not| Node::compile(not).map(Box::new)).transpose()?,
    })))
}
