//! The expressions of one webhook or policy, ready to judge requests.
//!
//! Semantics and wording of apiserver `pkg/admission/plugin/cel` (condition.go, activation.go, mutation.go).

use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value as Json;

use super::admission::{Expressions, Purpose};
use super::authority::{Authority, Judge, Question};
use super::check::Checked;
use super::machine::{self, Limits, MAX_WORK, Variables};
use super::patches;
use super::plan::{self, Names, Own, Program};
use super::scope::{CALL_LIMIT, Composed, Known, NAMES, Scope};
use super::value::Value;
use super::{json, literals};

/// What a request brings; null where there is none of it.
#[derive(Debug, Default)]
pub struct Inputs {
    pub object: Json,
    pub old: Json,
    /// An `AdmissionRequest` without objects.
    pub request: Json,
    /// Of many requests the same one.
    pub namespace: Arc<Json>,
}

/// What an expression came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    Bool(bool),
    /// Nothing, which only annotations may come to.
    Null,
    Text(String),
    /// An apply configuration, or operations of a JSON patch.
    Json(Json),
    Error(String),
}

/// What all expressions came to, in their order, and what is left of the budget; or why none counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub found: Result<Vec<Found>, String>,
    pub remaining: u64,
}

#[derive(Debug)]
struct Rule {
    source: String,
    purpose: Purpose,
    program: Result<Program, String>,
}

/// The expressions of one webhook or policy. Faulty ones are kept, with what is wrong with them.
#[derive(Debug)]
pub struct Rules {
    variables: Vec<Composed>,
    rules: Vec<Rule>,
}

impl Rules {
    /// `variables` of a policy that can have some, by name, in the order of their definition.
    pub fn compile(
        params: bool,
        variables: Option<&[(String, String)]>,
        expressions: &[(Purpose, String)],
    ) -> Self {
        let mut known = Expressions::new(params, variables.is_some());
        let (mut composed, mut names): (Vec<Composed>, Own) = (Vec::new(), Own::new());
        for (name, source) in variables.unwrap_or_default() {
            let program = known.defined(name, source, |checked| planned(checked, &names));
            names.insert(name.as_str().into(), composed.len());
            composed.push(Composed { name: name.as_str().into(), program });
        }
        let rules = expressions.iter().map(|(purpose, source)| {
            let checked = known.checked(source, *purpose);
            let program = checked.and_then(|checked| planned(&checked, &names));
            Rule { source: source.clone(), purpose: *purpose, program }
        });
        Self { rules: rules.collect(), variables: composed }
    }

    /// What is wrong with the expressions that are faulty.
    pub fn faults(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(|rule| rule.program.as_ref().err().map(String::as_str))
    }

    /// Evaluates all expressions, or those of these positions.
    pub fn evaluate(
        &self,
        inputs: &Inputs,
        params: &Json,
        judge: &dyn Judge,
        budget: u64,
        only: Option<&[usize]>,
    ) -> Verdict {
        let authorizer = Value::Authority(Rc::new(Authority::Authorizer(Question::default())));
        let resource = Value::Authority(Rc::new(Authority::Resource(of_request(&inputs.request))));
        let scope = Scope {
            values: [
                json::plain(&inputs.object),
                json::plain(&inputs.old),
                json::plain(&inputs.request),
                json::plain(&inputs.namespace),
                json::plain(params),
                authorizer,
                resource,
            ],
            variables: &self.variables,
            judge,
        };
        let variables = Variables { scope: Some(&scope), ..Variables::default() };
        let all: Vec<usize> = (0..self.rules.len()).collect();
        judged(&self.rules, &variables, budget, only.unwrap_or(&all))
    }
}

fn judged<'a>(rules: &'a [Rule], variables: &'a Variables<'a>, budget: u64, only: &[usize]) -> Verdict {
    let (mut remaining, mut known) = (budget, Known::default());
    let mut found = Vec::with_capacity(only.len());
    for rule in only.iter().filter_map(|at| rules.get(*at)) {
        let program = match &rule.program {
            Ok(program) => program,
            Err(why) => {
                found.push(Found::Error(format!("compilation error: {why}")));
                continue;
            }
        };
        let limits = Limits { cost: CALL_LIMIT, work: MAX_WORK };
        let outcome = machine::evaluate_with(program, variables, limits, &mut known);
        let spent = std::mem::take(&mut known.spent);
        match remaining.checked_sub(outcome.cost.saturating_add(spent)) {
            Some(left) => remaining = left,
            None => {
                let why = "validation failed due to running out of cost budget, no further validation rules \
                           will be run";
                return Verdict { found: Err(why.into()), remaining: 0 };
            }
        }
        found.push(match outcome.value {
            Ok(value) => told(&value, rule.purpose),
            Err(failure) => {
                Found::Error(format!("expression '{}' resulted in error: {}", rule.source, failure.message()))
            }
        });
    }
    Verdict { found: Ok(found), remaining }
}

fn told(value: &Value<'_>, purpose: Purpose) -> Found {
    match (value, purpose) {
        (value, Purpose::ApplyConfiguration) => {
            patches::configuration(value).map_or_else(Found::Error, Found::Json)
        }
        (value, Purpose::JsonPatch) => patches::operations(value).map_or_else(Found::Error, Found::Json),
        (Value::Bool(value), _) => Found::Bool(*value),
        (Value::String(text), _) => Found::Text(text.as_str().to_owned()),
        _ => Found::Null,
    }
}

fn planned(checked: &Checked, own: &Own) -> Result<Program, String> {
    let refused = |why| format!("program instantiation failed: {why}");
    let program = plan::plan(checked, Names::Scope(&NAMES, own));
    machine::try_constants(&program).map_err(refused)?;
    literals::search_patterns(&checked.expr).map_err(refused)?;
    Ok(program)
}

/// What the request is about, for `authorizer.requestResource`.
fn of_request(request: &Json) -> Question {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let resource = &request["requestResource"];
    Question {
        group: text(&resource["group"]),
        resource: text(&resource["resource"]),
        subresource: text(&request["requestSubResource"]),
        namespace: text(&request["namespace"]),
        name: text(&request["name"]),
        ..Question::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cel::admission::Decision;

    struct OnlyGets;

    impl Judge for OnlyGets {
        fn decide(&self, question: &Question) -> Decision {
            let account = question.account.as_ref().map_or("", |account| account.1.as_str());
            let reason = format!("{account} {} {}/{}", question.verb, question.resource, question.name);
            Decision { allowed: question.verb == "get", reason, error: None }
        }
    }

    fn inputs() -> Inputs {
        Inputs {
            object: json!({"metadata": {"name": "a", "labels": {"x": null}}, "spec": {"replicas": 3, "l": [1, 2.5, "s"]}}),
            old: Json::Null,
            request: json!({"requestResource": {"group": "apps", "resource": "deployments"}, "name": "a"}),
            namespace: Arc::new(json!({"metadata": {"labels": {"team": "t"}}})),
        }
    }

    fn found(purpose: Purpose, source: &str) -> Found {
        let variables = [
            ("replicas".to_owned(), "object.spec.replicas".to_owned()),
            ("double".to_owned(), "variables.replicas * 2".to_owned()),
            ("broken".to_owned(), "object.none.at.all".to_owned()),
        ];
        let rules = Rules::compile(true, Some(&variables), &[(purpose, source.to_owned())]);
        let params = json!({"data": {"most": 5}});
        let verdict = rules.evaluate(&inputs(), &params, &OnlyGets, 10_000_000, None);
        verdict.found.unwrap().remove(0)
    }

    fn holds(source: &str) -> bool {
        found(Purpose::Validation, source) == Found::Bool(true)
    }

    #[test]
    fn objects_are_what_they_look_like() {
        assert!(holds(
            "object.spec.l == [dyn(1), dyn(2.5), dyn('s')] && object.spec.l[1u] == 2.5 && 's' in object.spec.l"
        ));
        assert!(holds(
            "has(object.metadata.labels.x) && object.metadata.labels.x == null && oldObject == null"
        ));
        assert!(holds("object.metadata.all(k, k in ['name', 'labels']) && 'name' in object.metadata"));
        assert!(holds(
            "object.spec == {'replicas': dyn(3), 'l': object.spec.l} && object.metadata != object.spec"
        ));
        assert!(holds("namespaceObject.metadata.labels.team == 't' && object.?spec.?x.orValue(7) == 7"));
        assert_eq!(
            found(Purpose::Validation, "object.spec.color == 'red'"),
            Found::Error(
                "expression 'object.spec.color == 'red'' resulted in error: no such key: color".into()
            )
        );
    }

    #[test]
    fn variables_are_worked_out_when_they_are_looked_at() {
        assert!(holds("variables.double == 6 && variables.replicas < params.data.most"));
        assert!(holds("has(variables.broken) && variables.?double.hasValue()"));
        let Found::Error(why) = found(Purpose::Validation, "variables.broken == 1") else { panic!() };
        assert!(
            why.ends_with("composited variable \"broken\" fails to evaluate: no such key: none"),
            "{why}"
        );
    }

    /// What the last of variables comes to of which each needs the one before, in an expression nested 100 levels deep.
    fn last_of_chain(length: usize) -> Found {
        let mut variables = vec![("v0".to_owned(), "1".to_owned())];
        for at in 1..length {
            let (open, close) = ("0+(".repeat(100), ")".repeat(100));
            variables.push((format!("v{at}"), format!("{open}variables.v{}{close}", at - 1)));
        }
        let asked = [(Purpose::Validation, format!("variables.v{} == 1", length - 1))];
        let rules = Rules::compile(false, Some(&variables), &asked);
        rules.evaluate(&inputs(), &Json::Null, &OnlyGets, 10_000_000, None).found.unwrap().remove(0)
    }

    #[test]
    fn variables_that_need_each_other_do_not_exhaust_the_stack() {
        assert_eq!(last_of_chain(4), Found::Bool(true));
        let Found::Error(why) = last_of_chain(2000) else { panic!() };
        assert!(
            why.ends_with(" fails to evaluate: the variables that it needs are nested too deeply"),
            "{why}"
        );
        // Of all that fail because one does, some are told.
        assert!(why.len() < 3000, "{}", why.len());
    }

    #[test]
    fn thirty_thousand_variables_are_told_apart() {
        let named = |at: usize| (format!("v{at}"), at.to_string());
        let variables: Vec<_> = (0..30_000).map(named).collect();
        let asked = [(Purpose::Validation, "variables.v29999 == 29999".to_owned())];
        let rules = Rules::compile(false, Some(&variables), &asked);
        assert_eq!(rules.faults().count(), 0);
        let verdict = rules.evaluate(&inputs(), &Json::Null, &OnlyGets, 10_000_000, None);
        assert_eq!(verdict.found.unwrap(), [Found::Bool(true)]);
    }

    #[test]
    fn the_authorizer_is_asked() {
        assert!(holds("authorizer.requestResource.check('get').reason() == ' get deployments/a'"));
        assert!(holds("!authorizer.group('').resource('pods').name('x').check('delete').allowed()"));
        assert!(holds(
            "authorizer.serviceAccount('ns', 'robot').path('/x').check('get').reason() == 'robot get /'"
        ));
        let Found::Error(why) = found(Purpose::Validation, "authorizer.path(' ').check('get').allowed()")
        else {
            panic!()
        };
        assert!(why.ends_with("path must not be empty"));
    }

    #[test]
    fn patches_come_out_as_json() {
        assert_eq!(
            found(Purpose::ApplyConfiguration, "Object{spec: Object.spec{replicas: variables.double}}"),
            Found::Json(json!({"spec": {"replicas": 6}}))
        );
        let Found::Error(why) =
            found(Purpose::ApplyConfiguration, "Object{spec: Object.status{replicas: 1}}")
        else {
            panic!()
        };
        assert!(why.contains("unexpected type name \"Object.status\", expected \"Object.spec\""), "{why}");
        assert_eq!(
            found(
                Purpose::JsonPatch,
                "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: {'k': [1]}}]"
            ),
            Found::Json(json!([{"op": "add", "path": "/metadata/labels/a~1b", "value": {"k": [1]}}]))
        );
    }

    #[test]
    fn a_budget_is_for_all_expressions_together() {
        let source = "authorizer.requestResource.check('get').allowed()".to_owned();
        let rules = Rules::compile(
            false,
            None,
            &[(Purpose::Condition, source.clone()), (Purpose::Condition, source)],
        );
        let spent = |budget| rules.evaluate(&inputs(), &Json::Null, &OnlyGets, budget, None);
        assert!(spent(1_000_000).found.is_ok());
        assert!(spent(1_000_000).remaining < 300_000);
        assert!(spent(500_000).found.unwrap_err().contains("running out of cost budget"));
        assert_eq!(
            rules.evaluate(&inputs(), &Json::Null, &OnlyGets, 500_000, Some(&[1])).found.unwrap().len(),
            1
        );
    }
}
