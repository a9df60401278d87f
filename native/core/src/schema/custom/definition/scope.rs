//! What the rules of a schema are compiled in: the type of its values, and how often there can be such a value.
//!
//! Semantics of apiextensions-apiserver `pkg/apis/apiextensions/validation/cel_validation.go`.

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use super::rules::RULES;
use super::schema::Schema;
use crate::cel::declared::Declared;
use crate::cel::escape;
use crate::schema::custom::Node;
use crate::schema::custom::declared::{MAX_REQUEST, declared};
use crate::schema::custom::path::Path;
use crate::schema::custom::rules::WHOLE;

/// What rules of a definition may cost together, and what one must cost to be told among the most expensive.
pub(super) const MOST_TOTAL: u64 = 100_000_000;
const WORTH_TELLING: u64 = MOST_TOTAL / 100;
const MOST_TOLD: usize = 4;

/// What the rules of a definition cost.
#[derive(Default)]
pub(super) struct Costs {
    pub total: u64,
    /// The most expensive rules: their fields and costs.
    pub greatest: Vec<(String, u64)>,
}

impl Costs {
    pub fn add(&mut self, field: &Path<'_>, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost >= WORTH_TELLING {
            self.greatest.push((field.bracketed(), cost));
            self.greatest.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            self.greatest.truncate(MOST_TOLD);
        }
    }
}

/// Values that expressions cannot see, so that no rule about them can be compiled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unseen;

/// The scope of one schema.
pub(super) struct Scope<'s> {
    /// The schema, compiled; None where there is none of that name.
    pub node: Option<&'s Node>,
    parent: Option<&'s Scope<'s>>,
    step: Step<'s>,
    /// Whether the schema or one around it has rules. No type is made for others.
    has_rules: bool,
    /// How many values of the schema there can be in an object; None where nothing bounds them.
    most_values: Option<u64>,
    ty: OnceCell<Result<Arc<Declared>, Unseen>>,
    pub costs: &'s RefCell<Costs>,
}

/// From a schema to one in it.
#[derive(Clone, Copy)]
enum Step<'s> {
    Root,
    Property(&'s str),
    Element,
}

impl<'s> Scope<'s> {
    pub fn of_root(schema: Schema<'_>, node: &'s Node, costs: &'s RefCell<Costs>) -> Self {
        Self {
            node: Some(node),
            parent: None,
            step: Step::Root,
            has_rules: schema.has_any(RULES),
            most_values: Some(1),
            ty: OnceCell::new(),
            costs,
        }
    }

    /// Of one of the properties of `schema`, whose scope this is.
    pub fn of_property<'t>(&'t self, schema: Schema<'_>, name: &'t str, property: Schema<'_>) -> Scope<'t> {
        let node = self.node.and_then(|node| node.property(name.as_bytes()));
        self.below(schema, property, node, Step::Property(name))
    }

    pub fn of_items<'t>(&'t self, schema: Schema<'_>, items: Schema<'_>) -> Scope<'t> {
        let node = self.node.and_then(|node| node.items.as_deref());
        self.below(schema, items, node, Step::Element)
    }

    /// Of the values of undeclared properties.
    pub fn of_values<'t>(&'t self, schema: Schema<'_>, values: Schema<'_>) -> Scope<'t> {
        let node = self.node.and_then(Node::additional_schema);
        self.below(schema, values, node, Step::Element)
    }

    fn below<'t>(
        &'t self,
        schema: Schema<'_>,
        below: Schema<'_>,
        node: Option<&'t Node>,
        step: Step<'t>,
    ) -> Scope<'t> {
        let most_values =
            self.most_values.zip(most_elements(schema)).map(|(most, each)| most.saturating_mul(each));
        Scope {
            node,
            parent: Some(self),
            step,
            has_rules: self.has_rules || below.has_any(RULES),
            most_values,
            ty: OnceCell::new(),
            costs: self.costs,
        }
    }

    /// The type of the schema's values.
    pub fn ty(&self) -> Result<Arc<Declared>, Unseen> {
        self.ty.get_or_init(|| self.find_ty()).clone()
    }

    /// A part of the type of the schema around this one where there is one, because that is cheap.
    fn find_ty(&self) -> Result<Arc<Declared>, Unseen> {
        if let Some(parent) = self.parent.filter(|parent| parent.has_rules) {
            let around = parent.ty()?;
            let part = match self.step {
                Step::Root => None,
                Step::Property(name) => escape(name).and_then(|escaped| around.field(&escaped).cloned()),
                Step::Element => around.element().cloned(),
            };
            if let Some(part) = part {
                return Ok(part);
            }
        }
        let node = self.node.ok_or(Unseen)?;
        declared(node, self.parent.is_none() || node.embedded_resource, WHOLE).ok_or(Unseen)
    }

    /// What a rule costs that costs `cost` for each value.
    pub fn cost_of_all(&self, cost: u64, ty: &Declared) -> u64 {
        // Values are parted by commas.
        cost.saturating_mul(self.most_values.unwrap_or(MAX_REQUEST / (ty.min_size + 1)))
    }
}

/// By how much a schema multiplies the values of those in it; None where nothing bounds that.
fn most_elements(schema: Schema<'_>) -> Option<u64> {
    let bound = |keyword| schema.get(keyword)?.as_i64().map(|most| u64::try_from(most).unwrap_or_default());
    match schema.ty() {
        "object" if schema.additional().is_some() => bound("maxProperties"),
        "array" => bound("maxItems"),
        _ => Some(1),
    }
}
