//! The rules of a schema (`x-kubernetes-validations`), compiled.
//!
//! Semantics of apiextensions-apiserver `pkg/apiserver/schema/cel/compilation.go`.

use std::sync::Arc;

use super::Node;
use super::declared::declared;
use super::field_path;
use super::node::Rule;
use super::timing::COMPILATIONS;
use crate::cel::declared::Declared;
use crate::cel::{Expression, Refusal, Wanted, compile, escape};

/// What the type of the value is called that a rule is about.
pub(super) const WHOLE: &str = "selfType";

/// The rules of a schema and of those below it.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub own: Vec<Compiled>,
    /// Expressions cannot see values of this schema, so that its rules cannot be compiled.
    pub unseen: bool,
    /// Values are whole resources.
    pub root: bool,
    pub items: Option<Box<Rules>>,
    pub additional: Option<Box<Rules>>,
    /// Sorted by name.
    pub properties: Vec<(Box<str>, Rules)>,
    pub all_of: Vec<Rules>,
}

/// One rule. An empty one has no program and no error.
#[derive(Debug)]
pub(super) struct Compiled {
    pub rule: Arc<Rule>,
    pub program: Option<Result<Expression, RuleError>>,
    pub message: Option<Result<Expression, RuleError>>,
    /// Where the rule says that its faults are, below the value.
    pub field: Option<String>,
}

/// Why a rule does not compile, as definitions are told.
#[derive(Debug)]
pub(super) struct RuleError(pub String);

impl Compiled {
    pub fn uses_old(&self) -> bool {
        self.expression().is_some_and(|expression| expression.uses_old)
    }

    pub fn expression(&self) -> Option<&Expression> {
        self.program.as_ref()?.as_ref().ok()
    }
}

impl Rules {
    pub fn property(&self, name: &str) -> Option<&Rules> {
        let at = self.properties.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        Some(&self.properties[at].1)
    }
}

/// Compiles the rules of `source` over values of a type, which are those of `node`.
pub(super) fn compile_rules(source: &Node, node: &Node, declared: &Arc<Declared>) -> Vec<Compiled> {
    if source.rules.is_empty() {
        return Vec::new();
    }
    COMPILATIONS.measured(|| source.rules.iter().map(|rule| compile_rule(rule, node, declared)).collect())
}

fn compile_rule(rule: &Arc<Rule>, node: &Node, declared: &Arc<Declared>) -> Compiled {
    let mut compiled = Compiled { rule: rule.clone(), program: None, message: None, field: None };
    if rule.rule.trim().is_empty() {
        return compiled;
    }
    let program = compile(&rule.rule, declared, rule.optional_old_self, Wanted::Bool).map_err(|refusal| {
        RuleError(match refusal {
            Refusal::Issues(issues) => format!("compilation failed: {}", told(&issues, declared)),
            Refusal::Type => "cel expression must evaluate to a bool".to_owned(),
            Refusal::Constant(problem) => format!("program instantiation failed: {problem}"),
        })
    });
    let failed = program.is_err();
    compiled.program = Some(program);
    if failed {
        return compiled;
    }
    if !rule.message_expression.is_empty() {
        let message = compile(&rule.message_expression, declared, rule.optional_old_self, Wanted::String);
        compiled.message = Some(message.map_err(|refusal| {
            RuleError(match refusal {
                Refusal::Issues(issues) => {
                    format!("messageExpression compilation failed: {}", told(&issues, declared))
                }
                Refusal::Type => "messageExpression must evaluate to a string".to_owned(),
                Refusal::Constant(problem) => format!("messageExpression instantiation failed: {problem}"),
            })
        }));
    }
    if !rule.field_path.is_empty() && compiled.message.as_ref().is_none_or(Result::is_ok) {
        compiled.field = field_path::parse(&rule.field_path, node).ok().map(|found| found.path);
    }
    compiled
}

/// To a rule its own schema is the whole, wherever in the definition that stands.
fn told(issues: &str, declared: &Declared) -> String {
    match &*declared.name {
        "" => issues.to_owned(),
        name => issues.replace(name, WHOLE),
    }
}

/// All rules of a schema; None where there are none.
pub(super) fn compile_all(node: &Node) -> Option<Rules> {
    if !node.below.rules {
        return None;
    }
    let ty = declared(node, true, WHOLE);
    compile_below(node, node, true, ty.as_ref())
}

/// `source` has the rules: `node` itself, or what stands in its `allOf`.
fn compile_below(source: &Node, node: &Node, root: bool, ty: Option<&Arc<Declared>>) -> Option<Rules> {
    let mut rules = Rules { root, ..Rules::default() };
    match ty {
        Some(ty) => rules.own = compile_rules(source, node, ty),
        None => rules.unseen = !source.rules.is_empty(),
    }
    let element = ty.and_then(|ty| ty.element());
    if let (Some(source), Some(items)) = (&source.items, &node.items) {
        rules.items = compile_below(source, items, items.embedded_resource, element).map(Box::new);
    }
    if let (Some(source), Some(values)) = (source.additional_schema(), node.additional_schema()) {
        rules.additional = compile_below(source, values, values.embedded_resource, element).map(Box::new);
    }
    for (name, source) in &source.properties {
        let Some(property) = node.property(name.as_bytes()) else { continue };
        let own;
        let field = match escape(name) {
            Some(escaped) => ty.and_then(|ty| ty.field(&escaped)),
            None => {
                own = declared(property, property.embedded_resource, WHOLE);
                own.as_ref()
            }
        };
        // What expressions cannot see, they cannot judge.
        if field.is_none() {
            continue;
        }
        if let Some(below) = compile_below(source, property, property.embedded_resource, field) {
            rules.properties.push((name.clone(), below));
        }
    }
    for source in source.checks.iter().flat_map(|checks| &checks.all_of) {
        rules.all_of.extend(compile_below(source, node, root, ty));
    }
    let empty = rules.own.is_empty()
        && !rules.unseen
        && rules.items.is_none()
        && rules.additional.is_none()
        && rules.properties.is_empty()
        && rules.all_of.is_empty();
    (!empty).then_some(rules)
}
