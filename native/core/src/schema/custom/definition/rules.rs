//! The rules of a definition (`x-kubernetes-validations`).
//!
//! Semantics, order and wording of apiextensions-apiserver `pkg/apis/apiextensions/validation/validation.go`.

use serde_json::Value;

use super::collected::Collected;
use super::printed;
use super::schema::Schema;
use super::scope::{Costs, MOST_TOTAL, Scope};
use crate::cel::declared::Declared;
use crate::schema::custom::fault::Fault;
use crate::schema::custom::field_path;
use crate::schema::custom::path::Path;
use crate::schema::custom::rules::{Compiled, compile_rules};

pub(super) const RULES: &str = "x-kubernetes-validations";
/// What one rule may cost by estimate.
const MOST_COST: u64 = 10_000_000;
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// What a rule may look like, whatever it means.
pub(super) fn check_shape(schema: Schema<'_>, at: &Path<'_>, faults: &mut Collected) {
    let place = at.field(RULES);
    for (index, rule) in schema.schemas(RULES).enumerate() {
        let place = place.index(index);
        texts(rule, &place, faults);
        if let Some(reason) = rule.maybe_text("reason").filter(|reason| !REASONS.contains(reason)) {
            faults.not_supported(&place.field("reason"), reason, &REASONS);
        }
        let path = rule.text("fieldPath");
        if path.is_empty() {
            continue;
        }
        let mut wrong = |detail| faults.invalid(&place.field("fieldPath"), &path.into(), detail);
        if path.trim().is_empty() {
            wrong("must be non-empty if specified");
        }
        if has_line_breaks(path) {
            wrong("must not contain line breaks");
        }
        if field_path::parse(path, schema).is_err() {
            wrong("must be a valid path");
        }
    }
}

fn texts(rule: Schema<'_>, place: &Path<'_>, faults: &mut Collected) {
    let (expression, message) = (rule.text("rule"), rule.text("message"));
    let shown = Value::from(message);
    if expression.trim().is_empty() {
        faults.required(&place.field("rule"), "rule is not specified");
    } else if !message.is_empty() && message.trim().is_empty() {
        faults.invalid(&place.field("message"), &shown, "must be non-empty if specified");
    } else if has_line_breaks(message.trim()) {
        faults.invalid(&place.field("message"), &shown, "must not contain line breaks");
    } else if has_line_breaks(expression.trim()) && message.trim().is_empty() {
        faults.required(&place.field("message"), "message must be specified if rule contains line breaks");
    }
    let message_expression = rule.text("messageExpression");
    if !message_expression.is_empty() && message_expression.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        faults.required(&place.field("messageExpression"), detail);
    }
}

fn has_line_breaks(text: &str) -> bool {
    text.contains(['\n', '\r'])
}

/// Compiles the rules of a schema that is right otherwise, and prices them.
pub(super) fn compile(
    schema: Schema<'_>,
    at: &Path<'_>,
    uncorrelatable: Option<&Path<'_>>,
    scope: &Scope<'_>,
    any_cost: bool,
    faults: &mut Collected,
) {
    let place = at.field(RULES);
    let (Ok(ty), Some(node)) = (scope.ty(), scope.node) else {
        let problem = "internal error: failed to construct type information for x-kubernetes-validations rules: unable \
                       to convert structural schema to CEL declarations";
        faults.internal(&place, problem);
        return;
    };
    let every = compile_rules(node, node, &ty);
    for (index, (compiled, written)) in every.into_iter().zip(schema.schemas(RULES)).enumerate() {
        let pricing = Pricing { place: place.index(index), any_cost, scope };
        pricing.rule(&compiled, written, &ty, faults);
        pricing.message(&compiled, written, faults);
        if compiled.uses_old() {
            if let Some(within) = uncorrelatable {
                let problem = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {}",
                    within.bracketed()
                );
                faults.invalid(&pricing.place.field("rule"), &written.text("rule").into(), &problem);
            }
        } else if let Some(optional) = written.get("optionalOldSelf") {
            let problem = "may not be set if oldSelf is not used in rule";
            faults.invalid(&pricing.place.field("optionalOldSelf"), optional, problem);
        }
    }
}

struct Pricing<'p> {
    place: Path<'p>,
    /// The schema is stored as it is, so that its rules may cost what they cost.
    any_cost: bool,
    scope: &'p Scope<'p>,
}

impl Pricing<'_> {
    fn rule(&self, compiled: &Compiled, written: Schema<'_>, ty: &Declared, faults: &mut Collected) {
        let field = self.place.field("rule");
        let cost = compiled.expression().map_or(0, |expression| expression.cost);
        self.price("estimated rule cost", self.scope.cost_of_all(cost, ty), &field, faults);
        if let Some(Err(error)) = &compiled.program {
            faults.invalid_shown(&field, &printed::rule(written), &error.0);
        }
    }

    fn message(&self, compiled: &Compiled, written: Schema<'_>, faults: &mut Collected) {
        let field = self.place.field("messageExpression");
        match &compiled.message {
            Some(Err(error)) => faults.invalid_shown(&field, &printed::rule(written), &error.0),
            Some(Ok(message)) => {
                self.price("estimated messageExpression cost", message.cost, &field, faults);
            }
            None => {}
        }
    }

    fn price(&self, what: &str, cost: u64, field: &Path<'_>, faults: &mut Collected) {
        if !self.any_cost && cost > MOST_COST {
            faults.forbidden(field, &too_dear(what, cost, MOST_COST));
        }
        self.scope.costs.borrow_mut().add(field, cost);
    }
}

/// The rules of the whole definition cost too much together.
pub(super) fn check_total(costs: &Costs, at: &Path<'_>, faults: &mut Collected) {
    if costs.total <= MOST_TOTAL {
        return;
    }
    let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
    for (field, _) in &costs.greatest {
        faults.add(Fault::forbidden(field, detail));
    }
    let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
    faults.forbidden(at, &too_dear(what, costs.total, MOST_TOTAL));
}

fn too_dear(what: &str, cost: u64, most: u64) -> String {
    let times = cost as f64 / most as f64;
    let factor = match times {
        _ if times > 100.0 => "more than 100x".to_owned(),
        _ if times < 1.5 => format!("{times:.6}x"),
        _ => format!("{times:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}
