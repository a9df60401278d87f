//! Values held against a schema.
//!
//! Semantics, order and wording of kube-openapi `validation/validate`, with the ratcheting of apiextensions-apiserver
//! `apiserver/validation/ratcheting.go`.

use rustc_hash::FxHashSet;
use serde_json::{Map, Value};

use super::Node;
use super::correlate::{Correlation, OldElements};
use super::fault::Fault;
use super::node::{Additional, Checks, JsonType};
use super::path::Path;
use crate::go;

/// More faults of one object than this are of no use to anybody.
pub(super) const MOST_FAULTS: usize = 1000;

/// What was found, and how many checks were passed: of several alternatives the one with the most is told.
#[derive(Default)]
struct Outcome {
    faults: Vec<Fault>,
    passed: u32,
}

impl Outcome {
    fn merge(&mut self, other: Outcome) {
        self.passed += other.passed;
        for fault in other.faults {
            self.add(fault);
        }
    }

    fn add(&mut self, fault: Fault) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault);
        }
    }

    fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }

    /// The same fault may be met on several ways.
    fn told(self) -> Vec<Fault> {
        let mut seen = FxHashSet::default();
        let mut faults = self.faults;
        faults.retain(|fault| seen.insert((fault.field.clone(), fault.message.clone())));
        faults
    }
}

/// Holds `value` against `node`. Fields begin with `prefix` ("status", or nothing); what `old` shows to be unchanged is
/// not told.
pub(super) fn against_schema(
    node: &Node,
    value: &Value,
    prefix: &str,
    old: Option<&Correlation<'_>>,
) -> Vec<Fault> {
    Validator { prefix, of_default: false }.ratcheted(node, value, &Path::ROOT, old).told()
}

/// As `against_schema`, of a default at `prefix`: what is an int or a string may be anything in a default.
pub(super) fn default_against_schema(node: &Node, default: &Value, prefix: &str) -> Vec<Fault> {
    Validator { prefix, of_default: true }.ratcheted(node, default, &Path::ROOT, None).told()
}

struct Validator<'a> {
    prefix: &'a str,
    of_default: bool,
}

impl Validator<'_> {
    fn ratcheted(&self, node: &Node, value: &Value, at: &Path<'_>, old: Option<&Correlation<'_>>) -> Outcome {
        let mut outcome = self.schema(node, value, at, old);
        if !outcome.is_valid() && old.is_some_and(Correlation::unchanged) {
            outcome.faults.clear();
        }
        outcome
    }

    fn schema(&self, node: &Node, value: &Value, at: &Path<'_>, old: Option<&Correlation<'_>>) -> Outcome {
        let mut outcome = Outcome::default();
        let checks = node.checks.as_deref();
        if value.is_null() {
            self.types(node, value, at, &mut outcome);
            self.allowed(checks, value, at, &mut outcome);
            return outcome;
        }
        if !self.types_of(node).is_empty() || checks.is_some_and(|checks| checks.format.is_some()) {
            self.types(node, value, at, &mut outcome);
            outcome.passed += 1;
        }
        if let Some(checks) = checks {
            self.alternatives(checks, value, at, &mut outcome);
        }
        outcome.passed += 2;
        match value {
            Value::String(text) => {
                if let Some(checks) = checks {
                    self.text(checks, text, value, at, &mut outcome);
                    outcome.passed += u32::from(checks.format.is_some());
                }
                outcome.passed += 1;
            }
            Value::Number(_) => {
                if let Some(checks) = checks {
                    self.number(checks, value, at, &mut outcome);
                }
                outcome.passed += 2;
            }
            Value::Array(elements) => {
                self.elements(node, elements, at, old, &mut outcome);
                outcome.passed += 2;
            }
            _ => {}
        }
        self.allowed(checks, value, at, &mut outcome);
        outcome.passed += 1;
        if let Value::Object(members) = value {
            self.members(node, members, at, old, &mut outcome);
            outcome.passed += 1;
        }
        outcome.passed += 1;
        outcome
    }

    fn field(&self, at: &Path<'_>) -> String {
        self.field_of(&at.dotted())
    }

    fn field_of(&self, dotted: &str) -> String {
        let dotted = dotted.strip_prefix('.').unwrap_or(dotted);
        match (self.prefix, dotted) {
            (prefix, "") => prefix.to_owned(),
            ("", dotted) => dotted.to_owned(),
            (prefix, dotted) => format!("{prefix}.{dotted}"),
        }
    }

    fn invalid(&self, at: &Path<'_>, value: &Value, problem: &str) -> Fault {
        let name = at.dotted();
        Fault::invalid(&self.field_of(&name), value, &format!("{name} in body {problem}"))
    }

    fn wrong_type(&self, at: &Path<'_>, expected: &str, found: &str) -> Fault {
        let name = at.dotted();
        let problem = format!("{name} in body must be of type {expected}: {}", go::quote(found));
        Fault::wrong_type(&self.field_of(&name), &Value::from(found), &problem)
    }

    fn types_of<'n>(&self, node: &'n Node) -> &'n [JsonType] {
        match &node.ty {
            _ if node.int_or_string && !self.of_default => &[JsonType::Integer, JsonType::String],
            Some(ty) => std::slice::from_ref(ty),
            None => &[],
        }
    }

    fn types(&self, node: &Node, value: &Value, at: &Path<'_>, outcome: &mut Outcome) {
        let types = self.types_of(node);
        let named = || types.iter().map(|ty| ty.as_str()).collect::<Vec<_>>().join(",");
        if value.is_null() {
            match types.is_empty() || node.nullable {
                true => outcome.passed += 1,
                false => outcome.add(self.wrong_type(at, &named(), "null")),
            }
            return;
        }
        let (found, found_format) = type_of(value);
        let whole_number = found == JsonType::Number
            && types.contains(&JsonType::Integer)
            && is_json_integer(as_float(value));
        let fits = types.contains(&found)
            || whole_number
            || (found == JsonType::Integer && types.contains(&JsonType::Number));
        let plain = value.is_string() || value.is_array();
        let enforced = |checks: &&Checks| checks.format.is_some();
        let format = node.checks.as_deref().filter(enforced).map(|checks| &*checks.format_text);
        if let Some(format) = format {
            if !plain && !fits {
                outcome.add(self.wrong_type(at, format, found_format));
                return;
            }
            if plain && !types.contains(&JsonType::Number) && !types.contains(&JsonType::Integer) {
                outcome.passed += 1;
                return;
            }
        }
        match fits {
            true => outcome.passed += 1,
            false => outcome.add(self.wrong_type(at, &named(), found.as_str())),
        }
    }

    fn text(&self, checks: &Checks, text: &str, value: &Value, at: &Path<'_>, outcome: &mut Outcome) {
        let length = || i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        let pattern = || {
            let pattern = checks.pattern.as_ref()?;
            match pattern.matches(text) {
                Ok(true) => None,
                Ok(false) => Some(format!("should match '{}'", pattern.source)),
                Err(error) => {
                    Some(format!("should match '{}, but pattern is invalid: {error}'", pattern.source))
                }
            }
        };
        if let Some(most) = checks.max_length.filter(|most| length() > *most) {
            outcome.add(Fault::too_long(&self.field(at), most));
        } else if let Some(least) = checks.min_length.filter(|least| length() < *least) {
            outcome.add(self.invalid(at, value, &format!("should be at least {least} chars long")));
        } else if let Some(problem) = pattern() {
            outcome.add(self.invalid(at, value, &problem));
        }
        if checks.format.is_some_and(|format| !format.admits(text)) {
            outcome.add(self.wrong_type(at, &checks.format_text, text));
        }
    }

    fn number(&self, checks: &Checks, value: &Value, at: &Path<'_>, outcome: &mut Outcome) {
        let integer = value.as_i64();
        let float = as_float(value);
        // Upstream compares integers as integers, with a bound that it cuts to one.
        let bound = |bound: f64| match integer {
            Some(_) => (bound as i64).to_string(),
            None => go::float(bound),
        };
        let compared = |bound: f64| match integer {
            Some(integer) => integer.partial_cmp(&(bound as i64)),
            None => float.partial_cmp(&bound),
        };
        if let Some(factor) = checks.multiple_of {
            match is_multiple(integer, float, factor) {
                Some(true) => {}
                Some(false) => outcome.add(self.invalid(
                    at,
                    value,
                    &format!("should be a multiple of {}", bound(factor)),
                )),
                None => {
                    let name = at.dotted();
                    let shown = bound(factor);
                    let problem = format!("factor MultipleOf declared for {name} must be positive: {shown}");
                    let factor =
                        if integer.is_some() { Value::from(factor as i64) } else { Value::from(factor) };
                    outcome.add(Fault::invalid(&self.field_of(&name), &factor, &problem));
                }
            }
        }
        if let Some(least) = checks.minimum {
            let order = compared(least);
            if order.is_some_and(|order| order.is_lt() || (checks.exclusive_minimum && order.is_eq())) {
                let or_equal = if checks.exclusive_minimum { "" } else { "or equal to " };
                let problem = format!("should be greater than {or_equal}{}", bound(least));
                outcome.add(self.invalid(at, value, &problem));
            }
        }
        if let Some(most) = checks.maximum {
            let order = compared(most);
            if order.is_some_and(|order| order.is_gt() || (checks.exclusive_maximum && order.is_eq())) {
                let or_equal = if checks.exclusive_maximum { "" } else { "or equal to " };
                let problem = format!("should be less than {or_equal}{}", bound(most));
                outcome.add(self.invalid(at, value, &problem));
            }
        }
    }

    fn elements(
        &self,
        node: &Node,
        elements: &[Value],
        at: &Path<'_>,
        old: Option<&Correlation<'_>>,
        outcome: &mut Outcome,
    ) {
        if let Some(items) = node.items.as_deref() {
            let before = old.and_then(Correlation::elements);
            for (index, element) in elements.iter().enumerate() {
                let was = before.as_ref().and_then(|before: &OldElements<'_>| before.correlate(element));
                outcome.merge(self.ratcheted(items, element, &at.index(index), was.as_ref()));
            }
        }
        let Some(checks) = node.checks.as_deref() else { return };
        let size = i64::try_from(elements.len()).unwrap_or(i64::MAX);
        if let Some(least) = checks.min_items.filter(|least| size < *least) {
            outcome.add(self.invalid(at, &size.into(), &format!("should have at least {least} items")));
        }
        if let Some(most) = checks.max_items.filter(|most| size > *most) {
            outcome.add(Fault::too_many(&self.field(at), elements.len(), most));
        }
        if checks.unique_items {
            let mut seen = FxHashSet::default();
            if !elements.iter().all(|element| seen.insert(go::marshalled(element))) {
                outcome.add(self.invalid(at, &"".into(), "shouldn't contain duplicates"));
            }
        }
    }

    fn members(
        &self,
        node: &Node,
        members: &Map<String, Value>,
        at: &Path<'_>,
        old: Option<&Correlation<'_>>,
        outcome: &mut Outcome,
    ) {
        let checks = node.checks.as_deref();
        let size = i64::try_from(members.len()).unwrap_or(i64::MAX);
        if let Some(least) = checks.and_then(|checks| checks.min_properties).filter(|least| size < *least) {
            outcome.add(self.invalid(at, &size.into(), &format!("should have at least {least} properties")));
        }
        if let Some(most) = checks.and_then(|checks| checks.max_properties).filter(|most| size > *most) {
            outcome.add(Fault::too_many(&self.field(at), members.len(), most));
        }
        for (name, value) in members {
            if node.property(name.as_bytes()).is_some() {
                continue;
            }
            match &node.additional {
                Additional::Forbidden => {
                    let whole = at.dotted();
                    let problem = format!("{whole}.{name} in body is a forbidden property");
                    outcome.add(Fault::invalid(&self.field_of(&whole), &name.as_str().into(), &problem));
                }
                Additional::Schema(schema) => {
                    let was = old.and_then(|old| old.key(name));
                    outcome.merge(self.ratcheted(schema, value, &at.key(name), was.as_ref()));
                }
                _ => {}
            }
        }
        let is_root = at.dotted().is_empty();
        for (name, property) in &node.properties {
            let Some(value) = members.get(&**name) else { continue };
            // The stored version is never told apart, so that a changed one would not be noticed.
            let visible = !(is_root && matches!(&**name, "apiVersion" | "kind"));
            let was = old.filter(|_| visible).and_then(|old| old.key(name));
            outcome.merge(self.ratcheted(property, value, &at.field(name), was.as_ref()));
        }
        for name in checks.map(|checks| &*checks.required).unwrap_or_default() {
            if !members.contains_key(&**name) {
                outcome.add(Fault::required(&self.field(&at.key(name)), ""));
            }
        }
    }

    fn allowed(&self, checks: Option<&Checks>, value: &Value, at: &Path<'_>, outcome: &mut Outcome) {
        let Some(checks) = checks.filter(|checks| !checks.allowed.is_empty()) else { return };
        if checks.allowed.iter().any(|allowed| same(value, allowed)) {
            return;
        }
        let supported: Vec<String> = checks
            .allowed
            .iter()
            .map(|allowed| allowed.as_str().map_or_else(|| go::marshalled(allowed), str::to_owned))
            .collect();
        outcome.add(Fault::not_supported(&self.field(at), value, &supported));
    }

    fn alternatives(&self, checks: &Checks, value: &Value, at: &Path<'_>, outcome: &mut Outcome) {
        let composite = |problem: String| {
            let problem = format!("{} {problem}", go::quote(&at.dotted()));
            Fault::invalid(self.prefix, &"".into(), &problem)
        };
        if !checks.any_of.is_empty() {
            let mut best: Option<Outcome> = None;
            for schema in &checks.any_of {
                let result = self.schema(schema, value, at, None);
                let valid = result.is_valid();
                if valid || best.as_ref().is_none_or(|best| result.passed > best.passed) {
                    best = Some(result);
                }
                if valid {
                    break;
                }
            }
            if best.as_ref().is_some_and(|best| !best.is_valid()) {
                outcome.add(composite("must validate at least one schema (anyOf)".into()));
            }
            outcome.merge(best.unwrap_or_default());
        }
        if !checks.one_of.is_empty() {
            self.exactly_one(&checks.one_of, value, at, outcome, &composite);
        }
        if !checks.all_of.is_empty() {
            let mut valid = 0;
            for schema in &checks.all_of {
                let result = self.schema(schema, value, at, None);
                valid += usize::from(result.is_valid());
                outcome.merge(result);
            }
            if valid != checks.all_of.len() {
                let none = if valid == 0 { ". None validated" } else { "" };
                outcome.add(composite(format!("must validate all the schemas (allOf){none}")));
            }
        }
        if let Some(not) = &checks.not
            && self.schema(not, value, at, None).is_valid()
        {
            outcome.add(composite("must not validate the schema (not)".into()));
        }
    }

    fn exactly_one(
        &self,
        schemas: &[Node],
        value: &Value,
        at: &Path<'_>,
        outcome: &mut Outcome,
        composite: &dyn Fn(String) -> Fault,
    ) {
        let mut best: Option<Outcome> = None;
        let mut first = None;
        let mut valid = 0;
        for schema in schemas {
            let result = self.schema(schema, value, at, None);
            if result.is_valid() {
                valid += 1;
                best = None;
                first = first.or(Some(result));
            } else if valid == 0 && best.as_ref().is_none_or(|best| result.passed > best.passed) {
                best = Some(result);
            }
        }
        if valid == 1 {
            outcome.merge(first.unwrap_or_default());
            return;
        }
        let found = match valid {
            0 => "Found none valid".to_owned(),
            valid => format!("Found {valid} valid alternatives"),
        };
        outcome.add(composite(format!("must validate one and only one schema (oneOf). {found}")));
        outcome.merge(best.unwrap_or_default());
    }
}

/// The type of a value and the format that goes with it.
fn type_of(value: &Value) -> (JsonType, &'static str) {
    match value {
        Value::Bool(_) => (JsonType::Boolean, ""),
        Value::Number(_) if value.as_i64().is_some() => (JsonType::Integer, "int64"),
        Value::Number(_) => (JsonType::Number, "float64"),
        Value::String(_) => (JsonType::String, ""),
        Value::Array(_) => (JsonType::Array, ""),
        Value::Object(_) | Value::Null => (JsonType::Object, ""),
    }
}

fn as_float(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

/// swag's `IsFloat64AJSONInteger`.
fn is_json_integer(value: f64) -> bool {
    const MOST: f64 = 9_007_199_254_740_991.0;
    if !value.is_finite() || value.abs() > MOST {
        return false;
    }
    if value == value.trunc() {
        return true;
    }
    let whole = value.abs().trunc();
    if whole == 0.0 || value < 0.0 {
        return false;
    }
    (value - whole).abs() / (value.abs() + whole) < 1e-9
}

/// None where the factor is not positive.
fn is_multiple(integer: Option<i64>, float: f64, factor: f64) -> Option<bool> {
    match integer {
        Some(integer) => {
            let factor = factor as i64;
            (factor > 0).then(|| integer % factor == 0)
        }
        None => {
            let times = if factor < 1.0 { 1.0 / factor * float } else { float / factor };
            (factor > 0.0).then(|| is_json_integer(times))
        }
    }
}

/// Whether a value is the allowed one, after Go's conversion to its type.
fn same(value: &Value, allowed: &Value) -> bool {
    match (value, allowed) {
        (Value::Null, _) => false,
        (Value::Number(_), Value::Number(_)) => match (value.as_i64(), allowed.as_i64()) {
            (Some(value), Some(allowed)) => value == allowed,
            (Some(value), None) => value as f64 == as_float(allowed),
            (None, Some(allowed)) => as_float(value).trunc() == allowed as f64,
            (None, None) => as_float(value) == as_float(allowed),
        },
        _ => value == allowed,
    }
}
