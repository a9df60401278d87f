//! Custom kinds: the schema of one version of a CustomResourceDefinition, and what it makes of objects.
//!
//! A custom kind is a [`Schemas`] of one kind whose objects are decoded by their structural schema; patches and
//! ownership are those of built-in kinds.

mod correlate;
mod declared;
mod decode;
mod defaults;
mod definition;
mod embedded;
mod evaluate;
mod fault;
mod field_path;
mod formats;
mod lists;
mod node;
mod path;
mod pattern;
mod rules;
pub mod timing;
mod types;
mod validate;

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::error::SchemaError;
use super::model::{CompileError, Field, KindId, KindInfo, Schemas, Shape, Struct, StructId, Type};
use super::{Decoded, FieldValidation};
use crate::merge::parse_value;
use correlate::Correlation;
use defaults::{NoRoom, Room};
use path::Path;
use rules::Rules;

pub(crate) use declared::declared;
pub(in crate::schema) use decode::Nulls;
pub use definition::{Definition, check};
pub use fault::{Fault, Reason};
pub(crate) use formats::Format;
pub(crate) use node::{JsonType, ListType, Node};

/// The only kind of its [`Schemas`].
pub const KIND: KindId = KindId(0);

/// The schema of one served version.
#[derive(Debug)]
pub struct CustomSchema {
    node: Arc<Node>,
    api_version: Box<str>,
    kind: Box<str>,
    /// Enough to decode by: the structs of metadata.
    decoding: Schemas,
    /// All structs, made when objects are first merged or owned.
    merging: OnceLock<Schemas>,
    /// Compiled when an object is first validated.
    rules: OnceLock<Option<Rules>>,
}

/// What is wrong with an object.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What the schema's types and bounds find.
    pub schema: Vec<Fault>,
    /// What embedded resources, sets and maps, and rules find, told after it.
    pub further: Vec<Fault>,
    /// Faults of rules that an update is forgiven, because what they are about has not changed. They are warned of.
    pub forgiven: Vec<Fault>,
}

impl Schemas {
    /// Whether these are of a custom kind.
    pub(crate) fn is_custom(&self) -> bool {
        self.info(KIND).structural.is_some()
    }
}

const UNCHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing \
                         errors to complete validation";

impl AsRef<Schemas> for CustomSchema {
    fn as_ref(&self) -> &Schemas {
        self.schemas()
    }
}

impl CustomSchema {
    /// Compiles the JSON of an `openAPIV3Schema`. Metadata is of `builtin`'s ObjectMeta.
    pub fn compile(
        schema: &[u8],
        api_version: &str,
        kind: &str,
        builtin: &Schemas,
    ) -> Result<Self, CompileError> {
        let schema = parse_value(schema).map_err(|error| CompileError::Definition {
            definition: "openAPIV3Schema".into(),
            problem: error.message,
        })?;
        let node = Arc::new(Node::compile(&schema)?);
        let info = kind_info(api_version, kind, decode::OBJECT_META, &node);
        let decoding = Schemas::of_custom_kind(metadata_structs(builtin)?, info);
        Ok(Self {
            node,
            api_version: api_version.into(),
            kind: kind.into(),
            decoding,
            merging: OnceLock::new(),
            rules: OnceLock::new(),
        })
    }

    /// The kind for patches, ownership and server-side apply; its only kind is [`KIND`].
    pub fn schemas(&self) -> &Schemas {
        self.merging.get_or_init(|| {
            let mut structs = self.decoding.structs().to_vec();
            let root = types::root(&self.node, &self.kind, &mut structs);
            Schemas::of_custom_kind(structs, kind_info(&self.api_version, &self.kind, root, &self.node))
        })
    }

    /// Decodes a body of the given Content-Type (JSON if it is empty).
    pub fn decode<'a>(
        &self,
        body: &'a [u8],
        content_type: &str,
        validation: FieldValidation,
    ) -> Result<Decoded<'a>, super::Rejection> {
        self.decoding.decode(KIND, body, content_type, validation)
    }

    /// A stored object without what the schema does not know.
    pub fn prune(&self, body: &[u8]) -> Result<Vec<u8>, super::Rejection> {
        Ok(self.decoding.decode_json(KIND, body, FieldValidation::Ignore)?.body.into_owned())
    }

    /// A stored object with the schema's defaults; None where that changes nothing. It may be too much to be true.
    pub fn with_defaults(&self, body: &[u8]) -> Result<Option<Vec<u8>>, SchemaError> {
        if !self.node.below.defaults {
            return Ok(None);
        }
        let mut value = parse_value(body)?;
        let changed = defaults::apply(&mut value, &self.node, &mut Room::new())
            .map_err(|NoRoom| SchemaError::typed("", "the defaults of its schema make it too large"))?;
        Ok(changed.then(|| value.to_string().into_bytes()))
    }

    /// What is wrong with a defaulted object; `old` is the stored one on update. Through the status subresource only
    /// the status is held against the schema, but the whole object against the rules. `unruled`: metadata is so wrong that
    /// no rule is to see it.
    ///
    /// Order of apiextensions-apiserver `pkg/registry/customresource/{strategy,status_strategy}.go`.
    pub fn validate(
        &self,
        body: &[u8],
        old: Option<&[u8]>,
        subresource: &str,
        unruled: bool,
    ) -> Result<Verdict, SchemaError> {
        let value = parse_value(body)?;
        let old = old.map(parse_value).transpose()?;
        // The types and bounds of an object of another kind are not looked at.
        let mut verdict = Verdict { schema: self.identity_faults(&value), ..Verdict::default() };
        if verdict.schema.is_empty() {
            let correlation = old.as_ref().map(|old| Correlation::new(&self.node, &value, old));
            verdict.schema = match subresource {
                "status" => self.status_faults(&value, correlation.as_ref()),
                _ => validate::against_schema(&self.node, &value, "", correlation.as_ref()),
            };
        }
        if subresource != "status" {
            embedded::check(&self.node, &value, &Path::ROOT, &mut verdict.further);
        }
        let duplicates = |object: &Value| {
            let mut found = Vec::new();
            lists::check(&self.node, object, &Path::ROOT, &mut found);
            found
        };
        if old.as_ref().is_none_or(|old| duplicates(old).is_empty()) {
            verdict.further.extend(duplicates(&value));
        }
        self.follow_rules(&value, old.as_ref(), unruled, &mut verdict);
        Ok(verdict)
    }

    fn follow_rules(&self, value: &Value, old: Option<&Value>, unruled: bool, verdict: &mut Verdict) {
        let Some(rules) = self.rules.get_or_init(|| rules::compile_all(&self.node)) else { return };
        let mut faults = verdict.schema.iter().chain(&verdict.further);
        if unruled || faults.any(|fault| fault.reason.blocks_rules()) {
            verdict.further.push(Fault::invalid("", &Value::Null, UNCHECKED));
            return;
        }
        let found = evaluate::against_rules(rules, &self.node, value, old);
        verdict.further.extend(found.faults);
        verdict.forgiven = found.forgiven;
    }

    fn identity_faults(&self, value: &Value) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (name, wanted) in [("kind", &self.kind), ("apiVersion", &self.api_version)] {
            let found = value.get(name).and_then(Value::as_str).unwrap_or_default();
            if *found != **wanted {
                faults.push(Fault::invalid_text(name, found, &format!("must be {wanted}")));
            }
        }
        faults
    }

    fn status_faults(&self, value: &Value, old: Option<&Correlation<'_>>) -> Vec<Fault> {
        let (Some(status), Some(node)) = (value.get("status"), self.node.property(b"status")) else {
            return Vec::new();
        };
        let was = old.and_then(|old| old.key("status"));
        validate::against_schema(node, status, "status", was.as_ref())
    }
}

fn kind_info(api_version: &str, kind: &str, root: StructId, node: &Arc<Node>) -> KindInfo {
    KindInfo {
        api_version: api_version.into(),
        version: api_version.rsplit('/').next().unwrap_or(api_version).into(),
        kind: kind.into(),
        root,
        structural: Some(node.clone()),
    }
}

/// ObjectMeta, first, and the structs that it refers to.
fn metadata_structs(builtin: &Schemas) -> Result<Vec<Struct>, CompileError> {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
    let names = ["ObjectMeta", "OwnerReference", "ManagedFieldsEntry"].map(|name| format!("{META}{name}"));
    let missing = |name: &str| CompileError::Definition {
        definition: name.to_owned(),
        problem: "is needed for metadata but missing".to_owned(),
    };
    let position = |id: StructId| {
        let name = &builtin.structure(id).definition;
        names.iter().position(|other| **other == **name).map(|at| at as StructId)
    };
    let mut structs = Vec::with_capacity(names.len());
    for name in &names {
        let mut copy = builtin.definition(name).ok_or_else(|| missing(name))?.clone();
        for Field { ty, .. } in &mut copy.fields {
            renumber(ty, &position).ok_or_else(|| missing(name))?;
        }
        structs.push(copy);
    }
    Ok(structs)
}

fn renumber(ty: &mut Type, position: &dyn Fn(StructId) -> Option<StructId>) -> Option<()> {
    match &mut ty.shape {
        Shape::Struct(id) => *id = position(*id)?,
        Shape::List(inner) | Shape::Map(inner) => renumber(inner, position)?,
        _ => {}
    }
    Some(())
}
