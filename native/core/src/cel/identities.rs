//! Expressions about who asks and what is asked: of claims that an issuer makes, of the user they become, and of
//! reviews that authorization webhooks are to see.
//!
//! Semantics and wording of apiserver `pkg/authentication/cel` and `pkg/authorization/cel` (compile.go, mapper.go).

use std::sync::{Arc, LazyLock};

use serde_json::Value as Json;

use super::admission::{USER, compiled, object, plain, told};
use super::ast::{Expr, Kind, operators};
use super::authority::{Decision, Judge, Question};
use super::check::{Abilities, Checked};
use super::declared::{Declared, Shape};
use super::machine::{self, Limits, MAX_WORK, Variables};
use super::plan::{self, Names, Own, Program};
use super::scope::{CALL_LIMIT, Known, NAMES, Scope};
use super::types::Type;
use super::value::{List, Value};
use super::{json, literals};

/// What the one variable of an expression is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// `claims` of a token.
    Claims,
    /// `user`, as the claims were mapped.
    User,
    /// `request`, a SubjectAccessReviewSpec.
    Review,
}

impl About {
    fn variable(self) -> &'static str {
        match self {
            Self::Claims => "claims",
            Self::User => "user",
            Self::Review => "request",
        }
    }

    fn ty(self) -> Type {
        match self {
            Self::Claims => Type::map(Type::String, Type::Dyn),
            Self::User => USER.ty(),
            Self::Review => REVIEW.ty(),
        }
    }
}

/// What an expression came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Null,
    /// Something else.
    Other,
}

/// One expression, ready to be evaluated.
#[derive(Debug)]
pub struct Expression {
    source: String,
    program: Program,
    selected: Vec<Arc<str>>,
}

impl Expression {
    /// `condition`: it must come to true or false. Fails with what is wrong with it.
    pub fn compile(about: About, source: &str, condition: bool) -> Result<Self, String> {
        let abilities = Abilities { authorization: true, patches: false };
        let checked = compiled(source, &[(about.variable(), about.ty())], abilities)?;
        // As upstream, by identity of types: what is only dyn does not do.
        if condition && !matches!(checked.ty, Type::Bool) {
            return Err(match about {
                About::Review => format!("must evaluate to bool but got {}", told(&checked.ty)),
                _ => "must evaluate to bool".into(),
            });
        }
        let program = planned(&checked, about)?;
        let mut selected = Vec::new();
        find_selected(&checked.expr, about.variable(), &mut selected);
        Ok(Self { source: source.to_owned(), program, selected })
    }

    /// Whether it looks at this field of its variable by name.
    pub fn selects(&self, field: &str) -> bool {
        self.selected.iter().any(|one| **one == *field)
    }

    /// Fails with why it comes to nothing.
    pub fn evaluate(&self, value: &Json) -> Result<Outcome, String> {
        let mut values = [const { Value::Null }; NAMES.len()];
        values[0] = json::plain(value);
        let scope = Scope { values, variables: &[], judge: &Nobody };
        let variables = Variables { scope: Some(&scope), ..Variables::default() };
        let limits = Limits { cost: CALL_LIMIT, work: MAX_WORK };
        let outcome = machine::evaluate_with(&self.program, &variables, limits, &mut Known::default());
        match outcome.value {
            Ok(value) => Ok(came_to(&value)),
            Err(failure) => {
                Err(format!("expression '{}' resulted in error: {}", self.source, failure.message()))
            }
        }
    }
}

/// There is no authorizer in these expressions.
struct Nobody;

impl Judge for Nobody {
    fn decide(&self, _: &Question) -> Decision {
        Decision::default()
    }
}

fn planned(checked: &Checked, about: About) -> Result<Program, String> {
    let refused = |why| format!("program instantiation failed: {why}");
    let program = plan::plan(checked, Names::Scope(&[about.variable()], &Own::new()));
    machine::try_constants(&program).map_err(refused)?;
    literals::search_patterns(&checked.expr).map_err(refused)?;
    Ok(program)
}

fn find_selected(expr: &Expr, variable: &str, found: &mut Vec<Arc<str>>) {
    let is_variable = |expr: &Expr| matches!(&expr.kind, Kind::Ident(name) if **name == *variable);
    match &expr.kind {
        Kind::Select { operand, field, .. } if is_variable(operand) => found.push(field.clone()),
        Kind::Call { function, args, .. } if &**function == operators::OPTIONAL_SELECT => {
            if let [operand, field] = &args[..]
                && is_variable(operand)
                && let Some(field) = field.string_literal()
            {
                found.push(field.clone());
            }
        }
        _ => {}
    }
    expr.parts().into_iter().for_each(|part| find_selected(part, variable, found));
}

fn came_to(value: &Value<'_>) -> Outcome {
    let texts = |texts: Option<Vec<String>>| texts.map_or(Outcome::Other, Outcome::Texts);
    match value {
        Value::Bool(value) => Outcome::Bool(*value),
        Value::String(text) => Outcome::Text(text.as_str().to_owned()),
        Value::Null => Outcome::Null,
        Value::List(List::Plain(elements) | List::Json { elements, .. }) => {
            texts(elements.iter().map(|one| one.as_str().map(str::to_owned)).collect())
        }
        Value::List(List::Owned { elements, .. }) => texts(
            elements
                .iter()
                .map(|one| match one {
                    Value::String(text) => Some(text.as_str().to_owned()),
                    _ => None,
                })
                .collect(),
        ),
        _ => Outcome::Other,
    }
}

static REVIEW: LazyLock<Arc<Declared>> = LazyLock::new(|| {
    let text = plain(Shape::String);
    let texts = plain(Shape::List(text.clone()));
    let requirement =
        object("kubernetes.SelectorRequirement", &[("key", &text), ("operator", &text), ("values", &texts)]);
    let requirements = plain(Shape::List(requirement));
    let selector = |name| object(name, &[("rawSelector", &text), ("requirements", &requirements)]);
    let resource = object(
        "kubernetes.ResourceAttributes",
        &[
            ("namespace", &text),
            ("verb", &text),
            ("group", &text),
            ("version", &text),
            ("resource", &text),
            ("subresource", &text),
            ("name", &text),
            ("fieldSelector", &selector("kubernetes.FieldSelectorAttributes")),
            ("labelSelector", &selector("kubernetes.LabelSelectorAttributes")),
        ],
    );
    let path = object("kubernetes.NonResourceAttributes", &[("path", &text), ("verb", &text)]);
    object(
        "kubernetes.SubjectAccessReviewSpec",
        &[
            ("resourceAttributes", &resource),
            ("nonResourceAttributes", &path),
            ("user", &text),
            ("groups", &texts),
            ("extra", &plain(Shape::Map(texts.clone()))),
            ("uid", &text),
        ],
    )
});

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of_claims(source: &str) -> Result<Outcome, String> {
        let claims = json!({"sub": "jane", "roles": ["a", "b"], "level": 3, "email": "j@x"});
        Expression::compile(About::Claims, source, false)?.evaluate(&claims)
    }

    #[test]
    fn claims_are_mapped_to_texts() {
        assert_eq!(of_claims("'oidc:' + claims.sub"), Ok(Outcome::Text("oidc:jane".into())));
        assert_eq!(of_claims("claims.roles"), Ok(Outcome::Texts(vec!["a".into(), "b".into()])));
        assert_eq!(
            of_claims("claims.roles.map(r, 'x:' + r)"),
            Ok(Outcome::Texts(vec!["x:a".into(), "x:b".into()]))
        );
        assert_eq!(of_claims("claims.?groups.orValue([])"), Ok(Outcome::Texts(Vec::new())));
        assert_eq!(of_claims("claims.level"), Ok(Outcome::Other));
        assert_eq!(
            of_claims("claims.nothing"),
            Err("expression 'claims.nothing' resulted in error: no such key: nothing".into())
        );
    }

    #[test]
    fn a_condition_comes_to_true_or_false() {
        let wrong = |about, source| Expression::compile(about, source, true).err().unwrap_or_default();
        assert_eq!(wrong(About::Claims, "claims.sub"), "must evaluate to bool");
        assert_eq!(wrong(About::Claims, "claims.sub == 'jane'"), "");
        assert_eq!(wrong(About::Review, "request.user"), "must evaluate to bool but got string");
        assert!(wrong(About::User, "user.name == ''").contains("undefined field 'name'"));
        assert!(wrong(About::User, "claims.sub == ''").contains("undeclared reference to 'claims'"));
    }

    #[test]
    fn a_review_has_the_attributes_of_what_is_asked() {
        let source = "has(request.resourceAttributes) && request.resourceAttributes.namespace == 'kube-system' && \
                      !('admins' in request.groups)";
        let condition = Expression::compile(About::Review, source, true).unwrap();
        let review = |namespace: &str| json!({"user": "jane", "groups": ["dev"], "resourceAttributes": {"namespace": namespace}});
        assert_eq!(condition.evaluate(&review("kube-system")), Ok(Outcome::Bool(true)));
        assert_eq!(condition.evaluate(&review("default")), Ok(Outcome::Bool(false)));
        let path = json!({"user": "jane", "groups": [], "nonResourceAttributes": {"path": "/x"}});
        assert_eq!(condition.evaluate(&path), Ok(Outcome::Bool(false)));
    }

    #[test]
    fn what_is_selected_is_known() {
        let expression = |source| Expression::compile(About::Claims, source, false).unwrap();
        assert!(expression("claims.email").selects("email"));
        assert!(
            expression("claims.?email_verified.orValue(true) ? claims.email : ''").selects("email_verified")
        );
        assert!(!expression("claims.sub + 'email'").selects("email"));
    }
}
