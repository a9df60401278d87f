//! What is wrong with the schema of a definition, before anything is made of it.
//!
//! Semantics and wording of apiextensions-apiserver `pkg/apis/apiextensions/validation/validation.go`.

mod collected;
mod defaults;
mod lists;
mod printed;
mod root;
mod rules;
mod schema;
mod scope;
mod standard;
mod structural;

use std::cell::RefCell;

use serde_json::Value;

use super::Node;
use super::fault::Fault;
use super::path::Path;
use crate::merge::parse_value;
use crate::schema::error::SchemaError;
use collected::Collected;
use schema::Schema;
use scope::{Costs, Scope};
use standard::{Standard, Surroundings};

/// Where the schema of a definition stands, and what was stored of the definition before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Definition<'a> {
    /// The field it is in: `spec.validation.openAPIV3Schema`.
    pub path: &'a str,
    /// Whether there is a status subresource.
    pub status: bool,
    /// The schemas of all versions as they are stored; none on creation.
    pub stored: &'a [&'a [u8]],
    /// Whether the schema is one of these.
    pub unchanged: bool,
}

/// What is let be because a stored definition has it already.
#[derive(Default)]
struct Tolerated {
    types: bool,
    unpruned_defaults: bool,
    non_atomic_sets: bool,
    list_keys: bool,
    /// What rules cost; of a schema that has not changed.
    costs: bool,
}

/// What is wrong with the JSON of an `openAPIV3Schema`.
pub fn check(schema: &[u8], definition: Definition<'_>) -> Result<Vec<Fault>, SchemaError> {
    let value = parse_value(schema)?;
    let mut tolerated = Tolerated { costs: definition.unchanged, ..Tolerated::default() };
    for stored in definition.stored {
        tolerated.note(&parse_value(stored)?);
    }
    let schema = Schema::of(&value);
    let root = Path::ROOT;
    let at = root.field(definition.path);
    let mut faults = Collected::default();
    if definition.status {
        root::check_status(schema, &at, &mut faults);
    }
    if schema.flag("nullable") {
        faults.forbidden(&at.field("nullable"), "nullable cannot be true at the root");
    }
    let unrepresentable = structural::representable(schema).err();
    // Rules are compiled where nothing else is wrong with the schema.
    let mut sound = None;
    if unrepresentable.is_none() {
        let lacking = structural::faults(schema, &at);
        // A schema that cannot be compiled is of a type that is told of below.
        if lacking.is_empty()
            && let Ok(mut node) = Node::compile(&value)
        {
            let wrong = defaults::check(&mut node, &at, !tolerated.unpruned_defaults);
            sound = wrong.is_empty().then_some(node);
            faults.append(wrong);
        } else {
            faults.append(lacking);
        }
    }
    let costs = RefCell::new(Costs::default());
    let scope = sound.as_ref().map(|node| Scope::of_root(schema, node, &costs));
    let mut standard =
        Standard { tolerated: &tolerated, schemas: Collected::default(), rules: Collected::default() };
    standard.walk(schema, &at, Surroundings::of_root(), scope.as_ref());
    faults.append(standard.schemas);
    faults.append(standard.rules);
    if let Some(problem) = unrepresentable.filter(|_| faults.is_empty()) {
        faults.invalid(&at, &"".into(), &problem);
    }
    rules::check_total(&costs.borrow(), &at, &mut faults);
    Ok(faults.into_faults())
}

impl Tolerated {
    fn note(&mut self, stored: &Value) {
        let schema = Schema::of(stored);
        self.types |= lists::has_strange_type(schema, &standard::TYPES);
        self.non_atomic_sets |= lists::has_non_atomic_set(schema);
        self.list_keys |= lists::has_missing_keys(schema);
        self.unpruned_defaults |= !structural::is_lacking(schema) && defaults::any_is_unpruned(stored);
    }
}
