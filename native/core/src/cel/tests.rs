//! Expressions against what cel-go with the libraries of apiserver v1.35 makes of them.
//!
//! `cases/upstream.jsonl` was recorded from the environment that Kubernetes' API server makes for the rules of custom
//! kinds: one expression a line over the object of `cases/fixture.json`, with the faults that were found in it, its
//! type, its least and greatest cost by estimate, and what it came to at which cost.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value as Json;

use super::declared::Declared;
use super::plan::Program;
use super::value::{List, Map, Value};
use super::{
    CURRENT, Failure, Limits, MAX_WORK, OLD, Variables, check, estimate, json, literals, machine, parser,
    plan, source,
};
use crate::schema::custom::{Node, declared};

const LIMITS: Limits = Limits { cost: 1_000_000, work: MAX_WORK };

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    issues: String,
    instantiation: String,
    ty: String,
    least: u64,
    most: u64,
    value: Option<String>,
    error: String,
    cost: u64,
}

impl Outcome {
    fn of(case: &Json) -> Self {
        let text = |name: &str| case[name].as_str().unwrap_or_default().to_owned();
        Self {
            issues: text("issues"),
            instantiation: text("program"),
            ty: text("type"),
            least: case["min"].as_u64().unwrap_or_default(),
            most: case["max"].as_u64().unwrap_or_default(),
            value: case["value"].as_str().map(str::to_owned),
            error: text("error"),
            cost: case["cost"].as_u64().unwrap_or_default(),
        }
    }
}

fn compiled(source: &str, declared: &Arc<Declared>) -> Result<(Outcome, Program), Box<Outcome>> {
    let issues =
        |faults: source::Faults| Box::new(Outcome { issues: faults.show(source), ..Outcome::default() });
    let parsed = parser::parse(source).map_err(issues)?;
    let variables = [(CURRENT, declared.ty()), (OLD, declared.ty())];
    let checked = check::check(parsed, &variables).map_err(issues)?;
    let faults = literals::check(&checked);
    if !faults.is_empty() {
        return Err(issues(faults));
    }
    let mut outcome = Outcome { ty: checked.ty.shown(), ..Outcome::default() };
    let program = plan::plan(&checked, plan::Names::Old(OLD));
    if let Err(problem) =
        machine::try_constants(&program).and_then(|()| literals::search_patterns(&checked.expr))
    {
        outcome.instantiation = problem;
        return Err(Box::new(outcome));
    }
    let range = estimate::estimate(&checked, declared);
    (outcome.least, outcome.most) = (range.min, range.max);
    Ok((outcome, program))
}

fn ran(source: &str, declared: &Arc<Declared>, node: &Node, object: &Json) -> Outcome {
    let (mut outcome, program) = match compiled(source, declared) {
        Ok(compiled) => compiled,
        Err(outcome) => return *outcome,
    };
    let variables = Variables { current: json::value_of(object, node, true), ..Variables::default() };
    let result = machine::evaluate(&program, &variables, LIMITS);
    outcome.cost = result.cost;
    match result.value {
        Ok(value) => outcome.value = Some(shown(&value)),
        Err(failure) => outcome.error = Failure::message(&failure).to_owned(),
    }
    outcome
}

fn quoted(text: &str) -> String {
    crate::go::quote(text)
}

fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => format!("{value}u"),
        Value::Double(value) => format!("double({})", crate::go::float(*value)),
        Value::String(text) => quoted(text.as_str()),
        Value::Bytes(bytes) => {
            let bytes: Vec<String> = bytes.iter().map(u8::to_string).collect();
            format!("b[{}]", bytes.join(" "))
        }
        Value::Duration(nanos) => format!("duration({nanos})"),
        Value::Timestamp(time) => format!("timestamp({}.{:09})", time.seconds, time.nanos),
        Value::Type(name) => format!("type({name})"),
        Value::Optional(None) => "none".into(),
        Value::Optional(Some(inner)) => format!("some({})", shown(inner)),
        Value::List(list) => {
            let elements: Vec<String> = match list {
                List::Json { elements, items, .. } => elements
                    .iter()
                    .map(|element| json::value_of(element, items, false).map_or_else(|e| e, |v| shown(&v)))
                    .collect(),
                List::Plain(elements) => elements.iter().map(|one| shown(&json::plain(one))).collect(),
                List::Owned { elements, .. } => elements.iter().map(shown).collect(),
            };
            format!("[{}]", elements.join(", "))
        }
        Value::Map(map) => {
            let mut entries: Vec<String> = match map {
                Map::Json { members, node, resource } => json::keys(members, node, *resource)
                    .filter_map(|key| {
                        let Value::String(name) = &key else { return None };
                        let value = json::member(members, node, *resource, name.as_str())?;
                        Some(format!("{}: {}", shown(&key), value.map_or_else(|e| e, |v| shown(&v))))
                    })
                    .collect(),
                Map::Plain(members) => members
                    .iter()
                    .map(|(name, value)| format!("{}: {}", quoted(name), shown(&json::plain(value))))
                    .collect(),
                Map::Owned(map) => map
                    .entries
                    .iter()
                    .map(|(key, value)| format!("{}: {}", shown(key), shown(value)))
                    .collect(),
            };
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Quantity(quantity) => format!("quantity({})", crate::go::float(quantity.as_float())),
        Value::Url(url) => format!("url({})", url.text),
        Value::Ip(_) => format!("ip({})", super::show::plain(value)),
        Value::Cidr(..) => format!("cidr({})", super::show::plain(value)),
        Value::Semver(version) => format!("semver({}.{}.{})", version.major, version.minor, version.patch),
        Value::Format(name) => format!("format({})", name.to_lowercase()),
        Value::Opaque(_) | Value::Authority(_) => "opaque".into(),
    }
}

#[test]
fn expressions_are_checked_priced_and_evaluated_as_upstream_does() {
    let fixture: Json = serde_json::from_str(include_str!("cases/fixture.json")).unwrap();
    let node = Node::compile(&fixture["schema"]).unwrap();
    let declared = declared(&node, true, "selfType").unwrap();
    let mut differences = String::new();
    for line in include_str!("cases/upstream.jsonl").lines() {
        let case: Json = serde_json::from_str(line).unwrap();
        let source = case["expr"].as_str().unwrap();
        let wanted = Outcome::of(&case);
        let found = ran(source, &declared, &node, &fixture["self"]);
        if found != wanted {
            let _ = writeln!(differences, "{source}\n   wanted {wanted:?}\n   found  {found:?}");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}
