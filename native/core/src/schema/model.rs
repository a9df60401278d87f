//! Types compiled from OpenAPI v2 definitions and their `x-kubernetes-*` extensions.

use std::collections::HashMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::Value;

use super::custom::Node;

pub type StructId = u32;

/// A kind that a body may be of. Index into [`Schemas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KindId(pub(crate) u32);

/// What a value looks like in JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    /// Base64 in JSON.
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// Whatever JSON holds; a `RawExtension` or `FieldsV1` (`object: true`), which is kept as it came.
    Any {
        object: bool,
    },
    Struct(StructId),
    List(Box<Type>),
    Map(Box<Type>),
    /// `JSONSchemaPropsOrBool` and its likes: an object is of the struct.
    SchemaOr {
        schema: StructId,
        other: Alternative,
    },
}

/// What may be where a schema of a definition may be, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alternative {
    Bool,
    Schemas,
    Strings,
}

/// `x-kubernetes-list-type`. A list without one is atomic for ownership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    Atomic,
    Set,
    /// Elements are known by these fields.
    Map(Vec<ListKey>),
}

/// A field by which list elements are known, and what it counts as where it is left out, as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListKey {
    pub name: Box<str>,
    pub default: Option<Box<str>>,
}

impl ListKey {
    /// Of a built-in kind, whose elements are of `item`. Sources of defaults: `+default` markers of ports in core/v1, and
    /// the zero values that Go always writes.
    fn built_in(name: Box<str>, item: Option<&Value>) -> Self {
        let zero = item.map(|item| &item["properties"][&*name]["x-always"]).filter(|zero| !zero.is_null());
        let default = match (&*name, zero) {
            ("protocol", _) => Some("\"TCP\"".into()),
            (_, zero) => zero.map(|zero| zero.to_string().into()),
        };
        Self { name, default }
    }
}

/// A shape and how values of it are merged.
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    pub shape: Shape,
    pub list: ListKind,
    /// `x-kubernetes-map-type: atomic`: owned and replaced as a whole.
    pub atomic: bool,
    /// `x-kubernetes-patch-strategy` of strategic merge patch.
    pub patch_merge: bool,
    pub patch_replace: bool,
    pub patch_retain_keys: bool,
    pub patch_merge_key: Option<Box<str>>,
}

impl Type {
    pub(crate) fn plain(shape: Shape) -> Self {
        Self {
            shape,
            list: ListKind::Atomic,
            atomic: false,
            patch_merge: false,
            patch_replace: false,
            patch_retain_keys: false,
            patch_merge_key: None,
        }
    }

    /// The type of free JSON, as found below a `RawExtension`.
    pub fn free() -> Self {
        Self::plain(Shape::Any { object: false })
    }
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: Box<str>,
    pub required: bool,
    /// Go always marshals it: it is there even in an empty object, so nobody adds it.
    pub always_present: bool,
    pub ty: Type,
    /// A scalar that is left out when it is `""`, 0 or false (`x-omit-zero`).
    pub omit_zero: bool,
    /// What an object shows when nobody gave the field (`x-always`): the JSON of its zero value.
    pub always: Option<Box<str>>,
    /// A list whose rules tell an empty one from none (`x-keep-empty`).
    pub keep_empty: bool,
}

impl Field {
    fn built_in(name: &str, schema: &Value, required: bool, ty: Type) -> Self {
        let always = schema.get("x-always").map(|zero| zero.to_string().into_boxed_str());
        let always_present = match &ty.shape {
            // One that is owned as a whole is null there, and so is written by whoever fills it.
            Shape::Struct(_) if !ty.atomic => always.is_some(),
            Shape::List(_) | Shape::Map(_) => required && !ty.atomic && ty.list != ListKind::Atomic,
            _ => false,
        };
        Self {
            name: name.into(),
            required,
            always_present,
            ty,
            omit_zero: schema["x-omit-zero"] == true,
            always,
            keep_empty: schema["x-keep-empty"] == true,
        }
    }
}

/// A Go struct: its fields by name.
#[derive(Clone, Debug)]
pub struct Struct {
    /// The definition's full name, `io.k8s.api.apps.v1.Deployment`.
    pub definition: Box<str>,
    pub fields: Vec<Field>,
    pub atomic: bool,
    /// Fields that it does not declare are free JSON instead of unknown.
    pub open: bool,
    /// The fields with `always`, a bit each.
    pub always: u64,
    index: FxHashMap<Box<[u8]>, u16>,
}

impl Struct {
    /// A struct of a custom kind.
    pub(crate) fn custom(definition: &str, fields: Vec<Field>, open: bool) -> Self {
        let names = fields.iter().enumerate();
        let index = names.map(|(at, field)| (field.name.as_bytes().into(), at as u16)).collect();
        Self { definition: definition.into(), fields, atomic: false, open, always: 0, index }
    }

    pub fn field_index(&self, name: &[u8]) -> Option<usize> {
        self.index.get(name).map(|&position| position as usize)
    }

    pub fn field(&self, name: &str) -> Option<&Field> {
        self.field_index(name.as_bytes()).map(|position| &self.fields[position])
    }

    /// `DeploymentSpec`.
    pub fn go_name(&self) -> &str {
        self.definition.rsplit('.').next().unwrap_or(&self.definition)
    }

    /// `v1.DeploymentSpec`.
    pub fn go_type(&self) -> String {
        let mut parts = self.definition.rsplit('.');
        let name = parts.next().unwrap_or_default();
        let package = parts.next().unwrap_or_default();
        format!("{package}.{name}")
    }
}

#[derive(Debug)]
pub(crate) struct KindInfo {
    pub api_version: Box<str>,
    pub version: Box<str>,
    pub kind: Box<str>,
    pub root: StructId,
    /// A custom kind's schema: its objects are decoded by this, not by their struct.
    pub structural: Option<Arc<Node>>,
}

/// Every struct and kind of a set of definitions.
#[derive(Debug)]
pub struct Schemas {
    structs: Vec<Struct>,
    kinds: Vec<KindInfo>,
    by_name: HashMap<Box<str>, KindId>,
}

#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("definitions are not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("definition {definition}: {problem}")]
    Definition { definition: String, problem: String },
}

impl Schemas {
    /// Compiles `{"io.k8s.api.core.v1.Pod": {schema}, ...}`.
    pub fn compile(definitions: &[u8]) -> Result<Self, CompileError> {
        let definitions: serde_json::Map<String, Value> = serde_json::from_slice(definitions)?;
        let mut compiler = Compiler { definitions: &definitions, ids: FxHashMap::default() };
        for (name, schema) in &definitions {
            if special_shape(name).is_none() && is_struct(schema) {
                let next = compiler.ids.len() as StructId;
                compiler.ids.insert(name, next);
            }
        }
        let mut structs = Vec::with_capacity(compiler.ids.len());
        let mut kinds = Vec::new();
        let mut by_name = HashMap::new();
        for (name, schema) in &definitions {
            let Some(&root) = compiler.ids.get(name.as_str()) else { continue };
            structs.push(compiler.compile_struct(name, schema)?);
            for identity in schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
                let info = kind_info(identity, root);
                let full = format!("{}/{}", info.api_version, info.kind);
                by_name.insert(full.into_boxed_str(), KindId(kinds.len() as u32));
                kinds.push(info);
            }
        }
        fill_always(&mut structs);
        Ok(Self { structs, kinds, by_name })
    }

    /// One custom kind over structs made of its schema; `info.root` is one of them.
    pub(crate) fn of_custom_kind(structs: Vec<Struct>, info: KindInfo) -> Self {
        Self { structs, kinds: vec![info], by_name: HashMap::new() }
    }

    /// The kind named `apps/v1/Deployment` or `v1/Pod`.
    pub fn kind(&self, name: &str) -> Option<KindId> {
        self.by_name.get(name).copied()
    }

    pub fn structure(&self, id: StructId) -> &Struct {
        &self.structs[id as usize]
    }

    /// The struct of a kind's objects.
    pub fn root(&self, kind: KindId) -> &Struct {
        self.structure(self.info(kind).root)
    }

    pub fn root_type(&self, kind: KindId) -> Type {
        Type::plain(Shape::Struct(self.info(kind).root))
    }

    pub(crate) fn structs(&self) -> &[Struct] {
        &self.structs
    }

    /// The struct of a definition's full name.
    pub(crate) fn definition(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|structure| &*structure.definition == name)
    }

    pub fn api_version(&self, kind: KindId) -> &str {
        &self.info(kind).api_version
    }

    pub fn kind_name(&self, kind: KindId) -> &str {
        &self.info(kind).kind
    }

    pub(crate) fn info(&self, kind: KindId) -> &KindInfo {
        &self.kinds[kind.0 as usize]
    }

    /// The type's name as Go prints it in a decoding error.
    pub(crate) fn go_shape(&self, shape: &Shape) -> String {
        match shape {
            Shape::String => "string".into(),
            Shape::Bool => "bool".into(),
            Shape::Int32 => "int32".into(),
            Shape::Int64 => "int64".into(),
            Shape::Double => "float64".into(),
            Shape::Bytes => "[]uint8".into(),
            Shape::Time => "v1.Time".into(),
            Shape::MicroTime => "v1.MicroTime".into(),
            Shape::Quantity => "resource.Quantity".into(),
            Shape::IntOrString => "intstr.IntOrString".into(),
            Shape::Any { object: true } => "runtime.RawExtension".into(),
            Shape::Any { object: false } => "interface {}".into(),
            Shape::Struct(id) => self.structure(*id).go_type(),
            Shape::List(item) => format!("[]{}", self.go_shape(&item.shape)),
            Shape::Map(value) => format!("map[string]{}", self.go_shape(&value.shape)),
            Shape::SchemaOr { .. } => "v1.JSONSchemaProps".into(),
        }
    }
}

/// A struct that is always there shows what its own type always shows.
fn fill_always(structs: &mut [Struct]) {
    for id in 0..structs.len() {
        for position in 0..structs[id].fields.len() {
            let field = &structs[id].fields[position];
            if let (Some("{}"), Shape::Struct(inner)) = (field.always.as_deref(), &field.ty.shape) {
                let zero = zero_object(structs, *inner, 0);
                structs[id].fields[position].always = Some(zero.into_boxed_str());
            }
        }
    }
}

fn zero_object(structs: &[Struct], id: StructId, depth: usize) -> String {
    // No struct holds itself but through a pointer, which is not always there.
    assert!(depth < 32, "{} holds itself", structs[id as usize].definition);
    let shown = structs[id as usize].fields.iter().filter_map(|field| {
        let zero = match (field.always.as_deref()?, &field.ty.shape) {
            ("{}", Shape::Struct(inner)) => zero_object(structs, *inner, depth + 1),
            (zero, _) => zero.to_owned(),
        };
        Some(format!("\"{}\":{zero}", field.name))
    });
    format!("{{{}}}", shown.collect::<Vec<_>>().join(","))
}

const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const JSON_SCHEMA_PROPS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// Definitions that Go marshals by hand, so that their schema does not tell their form.
fn special_shape(definition: &str) -> Option<Shape> {
    Some(match definition {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => Shape::Quantity,
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => Shape::IntOrString,
        "io.k8s.apimachinery.pkg.apis.meta.v1.Time" => Shape::Time,
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => Shape::MicroTime,
        "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1" | RAW_EXTENSION => Shape::Any { object: true },
        _ => return None,
    })
}

/// An object type is a struct, even one without fields (`subresources.status: {}` of a CRD).
fn is_struct(schema: &Value) -> bool {
    schema["type"] == "object" && schema.get("additionalProperties").is_none()
}

fn kind_info(identity: &Value, root: StructId) -> KindInfo {
    let text = |key: &str| identity[key].as_str().unwrap_or_default();
    let (group, version) = (text("group"), text("version"));
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    KindInfo {
        api_version: api_version.into_boxed_str(),
        version: version.into(),
        kind: text("kind").into(),
        root,
        structural: None,
    }
}

struct Compiler<'d> {
    definitions: &'d serde_json::Map<String, Value>,
    ids: FxHashMap<&'d str, StructId>,
}

impl Compiler<'_> {
    fn compile_struct(&self, name: &str, schema: &Value) -> Result<Struct, CompileError> {
        let failure = |problem: String| CompileError::Definition { definition: name.to_owned(), problem };
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut fields = Vec::new();
        let mut index = FxHashMap::default();
        for (property, property_schema) in schema["properties"].as_object().into_iter().flatten() {
            index.insert(property.as_bytes().into(), fields.len() as u16);
            let ty = self.compile_type(property_schema).map_err(failure)?;
            fields.push(Field::built_in(
                property,
                property_schema,
                required.contains(&property.as_str()),
                ty,
            ));
        }
        if fields.len() > 64 {
            return Err(failure(format!("{} fields are more than the decoder tracks", fields.len())));
        }
        let atomic = schema["x-kubernetes-map-type"] == "atomic";
        let shown = fields.iter().enumerate().filter(|(_, field)| field.always.is_some());
        let always = shown.fold(0, |bits, (position, _)| bits | 1 << position);
        Ok(Struct { definition: name.into(), fields, atomic, open: false, always, index })
    }

    fn compile_type(&self, schema: &Value) -> Result<Type, String> {
        let mut ty = Type::plain(self.shape(schema)?);
        let referred_atomic = match &ty.shape {
            Shape::Struct(_) => self.referred(schema).is_some_and(|s| s["x-kubernetes-map-type"] == "atomic"),
            _ => false,
        };
        ty.atomic = match schema["x-kubernetes-map-type"].as_str() {
            Some(kind) => kind == "atomic",
            // What is in a RawExtension is nobody's by itself.
            None => referred_atomic || reference(schema) == Some(RAW_EXTENSION),
        };
        ty.list = match schema["x-kubernetes-list-type"].as_str() {
            Some("map") => {
                let keys = strings(&schema["x-kubernetes-list-map-keys"]);
                let item = self.referred(&schema["items"]);
                ListKind::Map(keys.into_iter().map(|key| ListKey::built_in(key, item)).collect())
            }
            Some("set") => ListKind::Set,
            _ => ListKind::Atomic,
        };
        for strategy in schema["x-kubernetes-patch-strategy"].as_str().unwrap_or_default().split(',') {
            match strategy {
                "merge" => ty.patch_merge = true,
                "replace" => ty.patch_replace = true,
                "retainKeys" => ty.patch_retain_keys = true,
                _ => {}
            }
        }
        ty.patch_merge_key = schema["x-kubernetes-patch-merge-key"].as_str().map(Into::into);
        Ok(ty)
    }

    fn referred(&self, schema: &Value) -> Option<&Value> {
        self.definitions.get(reference(schema)?)
    }

    fn shape(&self, schema: &Value) -> Result<Shape, String> {
        if let Some(name) = reference(schema) {
            return self.referred_shape(name);
        }
        if let Some(items) = schema.get("items") {
            return Ok(Shape::List(Box::new(self.compile_type(items)?)));
        }
        if let Some(values) = schema.get("additionalProperties") {
            return Ok(Shape::Map(Box::new(self.compile_type(values)?)));
        }
        let format = schema["format"].as_str().unwrap_or_default();
        Ok(match (schema["type"].as_str().unwrap_or_default(), format) {
            ("string", "byte") => Shape::Bytes,
            ("string", "int-or-string") => Shape::IntOrString,
            ("string", _) => Shape::String,
            ("boolean", _) => Shape::Bool,
            ("integer", "int32") => Shape::Int32,
            ("integer", _) => Shape::Int64,
            ("number", _) => Shape::Double,
            ("object", _) => Shape::Any { object: true },
            ("", _) => Shape::Any { object: false },
            (other, _) => return Err(format!("type {other} is not known")),
        })
    }

    fn referred_shape(&self, name: &str) -> Result<Shape, String> {
        if let Some(shape) = special_shape(name) {
            return Ok(shape);
        }
        if let Some(&id) = self.ids.get(name) {
            return Ok(Shape::Struct(id));
        }
        if let (Some(suffix), Some(&schema)) =
            (name.strip_prefix(JSON_SCHEMA_PROPS), self.ids.get(JSON_SCHEMA_PROPS))
        {
            let other = match suffix {
                "OrBool" => Alternative::Bool,
                "OrArray" => Alternative::Schemas,
                _ => Alternative::Strings,
            };
            return Ok(Shape::SchemaOr { schema, other });
        }
        let target =
            self.definitions.get(name).ok_or_else(|| format!("{name} is referred to but missing"))?;
        self.shape(target)
    }
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/definitions/")
}

fn strings(list: &Value) -> Vec<Box<str>> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
}
