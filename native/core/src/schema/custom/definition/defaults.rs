//! Defaults of a definition: they must be valid themselves, and hold nothing that would be pruned.
//!
//! Semantics, order and wording of apiextensions-apiserver `pkg/apiserver/schema/defaulting/validation.go`.

use serde_json::{Value, json};

use super::collected::Collected;
use crate::schema::custom::Node;
use crate::schema::custom::embedded;
use crate::schema::custom::evaluate::{PER_OBJECT, default_against_rules};
use crate::schema::custom::node::Additional;
use crate::schema::custom::path::Path;
use crate::schema::custom::rules::{Rules, compile_all};
use crate::schema::custom::validate;

/// What every resource has.
const IDENTITY: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// `root` is compiled from the schema, and marked as what it is: the schema of resources. `pruned`: defaults may hold
/// no unknown fields.
pub(super) fn check(root: &mut Node, at: &Path<'_>, pruned: bool) -> Collected {
    root.embedded_resource = true;
    root.below.embedded = true;
    let mut checking = Checking { pruned, budget: Some(PER_OBJECT), faults: Collected::default() };
    if root.below.defaults {
        let rules = compile_all(root);
        let whole = Within { resource: root, in_metadata: false, before: None };
        checking.walk(root, rules.as_ref(), at, whole);
    }
    checking.faults
}

struct Checking {
    pruned: bool,
    /// What is left for the rules that defaults are held to; None once it is spent, whereupon nothing more is checked.
    budget: Option<u64>,
    faults: Collected,
}

/// The resource that a schema is part of, and the way from that to the schema.
#[derive(Clone, Copy)]
struct Within<'w> {
    resource: &'w Node,
    /// Within what every resource has.
    in_metadata: bool,
    before: Option<&'w Step<'w>>,
}

/// A property, or None for the items of a list, and the way to it.
struct Step<'w> {
    name: Option<&'w str>,
    before: Option<&'w Step<'w>>,
}

impl Checking {
    fn walk(&mut self, node: &Node, rules: Option<&Rules>, at: &Path<'_>, within: Within<'_>) {
        if !node.below.defaults || self.budget.is_none() {
            return;
        }
        let within = match node.embedded_resource {
            true => Within { resource: node, in_metadata: false, before: None },
            false => within,
        };
        if let Some(default) = &node.default {
            self.default(node, rules, default, &at.field("default"), within);
        }
        if let Some(items) = &node.items {
            let step = Step { name: None, before: within.before };
            let rules = rules.and_then(|rules| rules.items.as_deref());
            self.walk(items, rules, &at.field("items"), Within { before: Some(&step), ..within });
        }
        let properties = at.field("properties");
        for (name, property) in &node.properties {
            let step = Step { name: Some(name), before: within.before };
            let in_metadata = within.in_metadata || (node.embedded_resource && IDENTITY.contains(&&**name));
            let rules = rules.and_then(|rules| rules.property(name));
            let within = Within { in_metadata, before: Some(&step), ..within };
            self.walk(property, rules, &properties.key(name), within);
        }
    }

    /// The first kind of fault that is found is told, besides unknown fields.
    fn default(
        &mut self,
        node: &Node,
        rules: Option<&Rules>,
        default: &Value,
        at: &Path<'_>,
        within: Within<'_>,
    ) {
        let mut found = Vec::new();
        if within.in_metadata {
            embedded::check(within.resource, &within.put(default), &Path::ROOT, &mut found);
            if !found.is_empty() {
                let told: Vec<String> =
                    found.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
                let told = if told.len() == 1 { told.concat() } else { format!("[{}]", told.join(", ")) };
                self.faults.invalid(at, default, &format!("must result in valid metadata: {told}"));
                return;
            }
        } else {
            if self.pruned && loses_something(default, Some(node)) {
                self.faults.invalid(at, default, "must not have unknown fields");
            }
            embedded::check(node, default, at, &mut found);
        }
        if found.is_empty() {
            found = validate::default_against_schema(node, default, &at.bracketed());
        }
        if let (true, Some(rules), Some(budget)) = (found.is_empty(), rules, self.budget) {
            (found, self.budget) = default_against_rules(rules, node, default, at, budget);
        }
        self.faults.extend(found);
    }
}

impl Within<'_> {
    /// A resource of nothing but the default at its place.
    fn put(self, default: &Value) -> Value {
        let mut value = default.clone();
        let mut next = self.before;
        while let Some(step) = next {
            value = match step.name {
                Some(name) => json!({ name: value }),
                None => json!([value]),
            };
            next = step.before;
        }
        if let Value::Object(members) = &mut value {
            members.entry("kind").or_insert_with(|| "Validation".into());
            members.entry("apiVersion").or_insert_with(|| "validation/v1".into());
        }
        value
    }
}

/// Whether a default anywhere in the schema holds what would be pruned.
pub(super) fn any_is_unpruned(schema: &Value) -> bool {
    fn walk(node: &Node) -> bool {
        node.below.defaults
            && (node.default.as_ref().is_some_and(|default| loses_something(default, Some(node)))
                || node.items.as_deref().is_some_and(walk)
                || node.additional_schema().is_some_and(walk)
                || node.properties.iter().any(|(_, property)| walk(property)))
    }
    Node::compile(schema).is_ok_and(|node| walk(&node))
}

/// Whether pruning would take something from the value; None for what has no schema.
///
/// Semantics of apiextensions-apiserver `pkg/apiserver/schema/pruning/algorithm.go`.
fn loses_something(value: &Value, node: Option<&Node>) -> bool {
    let preserves = node.is_some_and(|node| node.preserve_unknown);
    loses(value, node, preserves)
}

/// `preserves`: the schema, or a list around the value, keeps unknown fields.
fn loses(value: &Value, node: Option<&Node>, preserves: bool) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, member)| {
            let Some(node) = node else { return !preserves };
            if node.embedded_resource && IDENTITY.contains(&&**name) {
                return false;
            }
            match (node.property(name.as_bytes()), &node.additional) {
                (Some(property), _) => loses_something(member, Some(property)),
                (None, Additional::Undefined) => !preserves,
                (None, _) => loses_something(member, node.additional_schema()),
            }
        }),
        Value::Array(elements) => {
            let items = node.and_then(|node| node.items.as_deref());
            let preserves = preserves || items.is_some_and(|items| items.preserve_unknown);
            elements.iter().any(|element| loses(element, items, preserves))
        }
        _ => false,
    }
}
