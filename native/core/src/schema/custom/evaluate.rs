//! Objects held against the rules of their schema, within a budget.
//!
//! Semantics, order and wording of apiextensions-apiserver `pkg/apiserver/schema/cel/validation.go`.

use serde_json::{Map, Value as Json};

use super::Node;
use super::correlate::{Correlation, OldElements};
use super::fault::Fault;
use super::node::JsonType;
use super::path::Path;
use super::rules::{Compiled, Rules};
use super::timing::EVALUATIONS;
use crate::cel::{Expression, Failure, Limits, MAX_WORK, Outcome, Value, Variables, json};
use crate::go;

/// What one evaluation may cost, and what all of an object may.
const PER_CALL: u64 = 1_000_000;
pub(super) const PER_OBJECT: u64 = 10_000_000;
/// What all evaluations of an object may look at.
const WORK_PER_OBJECT: u64 = 2 * MAX_WORK;
const LONGEST_MESSAGE: usize = 5 * 1024;
/// More faults of one object than this are of no use to anybody.
const MOST_FAULTS: usize = 1000;

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// What the rules find in `value`, which was `old`.
pub(super) fn against_rules(rules: &Rules, node: &Node, value: &Json, old: Option<&Json>) -> Found {
    let mut judge = Judge { found: Found::default(), budget: PER_OBJECT, work: WORK_PER_OBJECT };
    let correlation = old.map(|old| Correlation::new(node, value, old));
    let unchanged = Unchanged { current: correlation.as_ref(), nearest: None };
    let place = Place { node, path: &Path::ROOT, value, old: old.filter(|old| !old.is_null()) };
    let _ = judge.value(rules, &place, unchanged);
    judge.found
}

/// What the rules find in a default at `path` within a budget, if it stays what it was, and if it is new; and what is
/// left of the budget: None where it is spent.
pub(super) fn default_against_rules(
    rules: &Rules,
    node: &Node,
    default: &Json,
    path: &Path<'_>,
    budget: u64,
) -> (Vec<Fault>, Option<u64>) {
    let judged = |old: Option<&Json>| {
        let mut judge = Judge { found: Found::default(), budget, work: WORK_PER_OBJECT };
        let place = Place { node, path, value: default, old };
        let spent = judge.value(rules, &place, Unchanged { current: None, nearest: None }).is_err();
        (judge.found.faults, (!spent).then_some(judge.budget))
    };
    let (faults, left) = judged(Some(default));
    if !faults.is_empty() {
        return (faults, left);
    }
    let (faults, left_of_new) = judged(None);
    (faults, left.zip(left_of_new).map(|(one, other)| one.min(other)))
}

#[derive(Default)]
pub(super) struct Found {
    pub faults: Vec<Fault>,
    /// Faults of what was there before and has not changed: nobody is refused for them.
    pub forgiven: Vec<Fault>,
}

/// No rule is run any more.
struct Spent;

type Judged = Result<(), Spent>;

struct Judge {
    found: Found,
    budget: u64,
    work: u64,
}

/// A value, what it was, its schema, and where it is.
struct Place<'p> {
    node: &'p Node,
    path: &'p Path<'p>,
    value: &'p Json,
    old: Option<&'p Json>,
}

impl Place<'_> {
    /// What faults that are not about the value itself show instead of it.
    fn ty(&self) -> Json {
        Json::from(self.node.ty.map_or("", JsonType::as_str))
    }
}

/// What tells whether a value has changed: its counterpart, or that of the nearest value around it that has one.
#[derive(Clone, Copy)]
struct Unchanged<'c, 'v> {
    current: Option<&'c Correlation<'v>>,
    nearest: Option<&'c Correlation<'v>>,
}

impl Unchanged<'_, '_> {
    fn holds(self) -> bool {
        self.current.or(self.nearest).is_some_and(Correlation::unchanged)
    }
}

impl Judge {
    fn value(&mut self, rules: &Rules, place: &Place<'_>, unchanged: Unchanged<'_, '_>) -> Judged {
        if place.value.is_null() {
            return Ok(());
        }
        EVALUATIONS.measured(|| self.value_that_is(rules, place, unchanged))
    }

    fn value_that_is(&mut self, rules: &Rules, place: &Place<'_>, unchanged: Unchanged<'_, '_>) -> Judged {
        self.own(rules, place, unchanged)?;
        for of_all in &rules.all_of {
            // What is said in an allOf is not forgiven, though it be unchanged.
            self.value(of_all, place, Unchanged { current: None, ..unchanged })?;
        }
        match place.value {
            Json::Array(elements) => self.elements(rules, place, elements, unchanged),
            Json::Object(members) => self.members(rules, place, members, unchanged),
            _ => Ok(()),
        }
    }

    fn members(
        &mut self,
        rules: &Rules,
        place: &Place<'_>,
        members: &Map<String, Json>,
        unchanged: Unchanged<'_, '_>,
    ) -> Judged {
        let old = place.old.and_then(Json::as_object);
        let mut member = |name: &str, value: &Json, path: &Path<'_>, node: &Node, rules: &Rules| {
            let old = old.and_then(|old| old.get(name)).filter(|old| !old.is_null());
            let place = Place { node, path, value, old };
            let hidden = unchanged.nearest.is_none() && matches!(name, "apiVersion" | "kind");
            let own;
            let unchanged = match unchanged.current {
                None => unchanged,
                // Both are converted to one version before they get here.
                Some(_) if hidden => Unchanged { current: None, nearest: None },
                Some(current) => {
                    own = current.key(name);
                    Unchanged { current: own.as_ref(), nearest: Some(current) }
                }
            };
            self.value(rules, &place, unchanged)
        };
        if let (Some(rules), Some(node)) = (&rules.additional, place.node.additional_schema()) {
            for (name, value) in members {
                member(name, value, &place.path.key(name), node, rules)?;
            }
        }
        for (name, rules) in &rules.properties {
            if let (Some(value), Some(node)) = (members.get(&**name), place.node.property(name.as_bytes())) {
                member(name, value, &place.path.field(name), node, rules)?;
            }
        }
        Ok(())
    }

    fn elements(
        &mut self,
        rules: &Rules,
        place: &Place<'_>,
        elements: &[Json],
        unchanged: Unchanged<'_, '_>,
    ) -> Judged {
        let (Some(rules), Some(node)) = (&rules.items, place.node.items.as_deref()) else { return Ok(()) };
        let old_elements = place.old.and_then(|old| OldElements::new(place.node, old));
        let correlated = unchanged.current.map(|current| (current, current.elements()));
        for (at, value) in elements.iter().enumerate() {
            let old = old_elements.as_ref().and_then(|known| known.get(value)).filter(|old| !old.is_null());
            let path = place.path.index(at);
            let own;
            let unchanged = match &correlated {
                None => unchanged,
                Some((current, known)) => {
                    own = known.as_ref().and_then(|known| known.correlate(value));
                    Unchanged { current: own.as_ref(), nearest: Some(current) }
                }
            };
            self.value(rules, &Place { node, path: &path, value, old }, unchanged)?;
        }
        Ok(())
    }

    fn add(&mut self, fault: Fault, forgiven: bool) {
        let list = if forgiven { &mut self.found.forgiven } else { &mut self.found.faults };
        if list.len() < MOST_FAULTS {
            list.push(fault);
        }
    }

    fn refuse(&mut self, place: &Place<'_>, detail: &str) {
        self.add(Fault::invalid(&place.path.bracketed(), &place.ty(), detail), false);
    }

    /// The rules of a value's own schema.
    fn own(&mut self, rules: &Rules, place: &Place<'_>, unchanged: Unchanged<'_, '_>) -> Judged {
        if rules.unseen {
            self.refuse(
                place,
                "rule compiler initialization error: failed to convert to declType for CEL validation rules",
            );
            return Ok(());
        }
        if rules.own.is_empty() {
            return Ok(());
        }
        if self.budget == 0 {
            self.refuse(place, OUT_OF_BUDGET);
            return Err(Spent);
        }
        let value = |json| json::value_of(json, place.node, rules.root);
        let any_uses_old = rules.own.iter().any(Compiled::uses_old);
        let old = place.old.filter(|_| any_uses_old).map(value);
        let optional = any_uses_old.then(|| match &old {
            Some(Ok(old)) => Ok(Value::some(old.clone())),
            Some(Err(problem)) => Err(problem.clone()),
            None => Ok(Value::Optional(None)),
        });
        let plain = Variables { current: value(place.value), old, scope: None };
        let with_optional = Variables { current: plain.current.clone(), old: optional, scope: None };
        for compiled in &rules.own {
            let variables = if compiled.rule.optional_old_self { &with_optional } else { &plain };
            self.rule(compiled, place, variables, &plain, unchanged)?;
        }
        Ok(())
    }

    fn rule(
        &mut self,
        compiled: &Compiled,
        place: &Place<'_>,
        variables: &Variables<'_>,
        plain: &Variables<'_>,
        unchanged: Unchanged<'_, '_>,
    ) -> Judged {
        let rule = &compiled.rule;
        let expression = match &compiled.program {
            None => return Ok(()),
            Some(Err(error)) => {
                self.refuse(place, &format!("rule compile error: {}", error.0));
                return Ok(());
            }
            Some(Ok(expression)) => expression,
        };
        if expression.uses_old && place.old.is_none() && !rule.optional_old_self {
            return Ok(());
        }
        let outcome = self.evaluate(expression, variables);
        if outcome.cost > self.budget {
            self.refuse(place, OUT_OF_BUDGET);
            return Err(Spent);
        }
        self.budget -= outcome.cost;
        let told = rule.told();
        match outcome.value {
            Ok(Value::Bool(true)) => return Ok(()),
            Ok(_) => {}
            Err(Failure::Cancelled) => {
                let problem = Failure::Cancelled;
                self.refuse(
                    place,
                    &format!(
                        "'{}': no further validation rules will be run due to call cost exceeds limit for rule: {told}",
                        problem.message()
                    ),
                );
                return Err(Spent);
            }
            Err(Failure::Error(problem)) => {
                self.refuse(
                    place,
                    &if problem.starts_with("no such overload") {
                        format!(
                            "'{problem}': call arguments did not match a supported operator, function or macro \
                             signature for rule: {told}"
                        )
                    } else {
                        format!("{problem} evaluating rule: {told}")
                    },
                );
                return Ok(());
            }
        }
        self.failed(compiled, expression, place, plain, unchanged)
    }

    fn evaluate<'a>(&mut self, expression: &'a Expression, variables: &'a Variables<'a>) -> Outcome<'a> {
        let outcome =
            expression.evaluate(variables, Limits { cost: PER_CALL, work: self.work.min(MAX_WORK) });
        self.work = self.work.saturating_sub(outcome.work);
        outcome
    }

    /// A rule that does not hold.
    fn failed(
        &mut self,
        compiled: &Compiled,
        expression: &Expression,
        place: &Place<'_>,
        variables: &Variables<'_>,
        unchanged: Unchanged<'_, '_>,
    ) -> Judged {
        let rule = &compiled.rule;
        let mut field = place.path.bracketed();
        if let Some(below) = &compiled.field {
            if !field.is_empty() {
                field.push('.');
            }
            field.push_str(below);
        }
        let forgiven = !expression.uses_old && unchanged.holds();
        let mut detail = None;
        if let Some(Ok(message)) = &compiled.message {
            match self.message(message, &rule.message_expression, variables) {
                Ok(text) => detail = text,
                Err(problem) => {
                    self.add(Fault::invalid(&field, &place.ty(), &problem), forgiven);
                    return Err(Spent);
                }
            }
        }
        let detail = detail.unwrap_or_else(|| match rule.message.is_empty() {
            true => format!("failed rule: {}", rule.told()),
            false => rule.told().to_owned(),
        });
        let whole = matches!(place.node.ty, Some(JsonType::Object | JsonType::Array));
        let fault = match (&*rule.reason, whole) {
            ("FieldValueForbidden", _) => Fault::forbidden(&field, &detail),
            ("FieldValueRequired", _) => Fault::required(&field, &detail),
            ("FieldValueDuplicate", true) => Fault::duplicate_unshown(&field),
            ("FieldValueDuplicate", false) => Fault::duplicate(&field, place.value),
            (_, true) => Fault::invalid_unshown(&field, &detail),
            (_, false) => Fault::invalid(&field, place.value, &detail),
        };
        self.add(fault, forgiven);
        Ok(())
    }

    /// The text of a messageExpression; `Ok(None)` where it comes to none that can be shown, an error where it spends
    /// the budget.
    fn message(
        &mut self,
        message: &Expression,
        source: &str,
        variables: &Variables<'_>,
    ) -> Result<Option<String>, String> {
        let outcome = self.evaluate(message, variables);
        if outcome.cost > self.budget {
            return Err("messageExpression evaluation failed due to running out of cost budget, no further \
                        validation rules will be run"
                .to_owned());
        }
        match outcome.value {
            Err(Failure::Cancelled) => Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {}",
                go::quote(source)
            )),
            Err(Failure::Error(_)) => {
                self.budget -= outcome.cost;
                Ok(None)
            }
            Ok(value) => {
                self.budget -= outcome.cost;
                let Value::String(text) = value else { return Ok(None) };
                let text = text.as_str().trim();
                let shown = !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n');
                Ok(shown.then(|| text.to_owned()))
            }
        }
    }
}
