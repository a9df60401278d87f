//! Expressions of admission policies, of webhooks' match conditions, and of selectors of devices: whether they are any.
//!
//! Semantics and wording of apiserver `pkg/admission/plugin/cel` (compile.go, composition.go) and of
//! dynamic-resource-allocation `cel/compile.go`.

use std::sync::{Arc, LazyLock};

pub use super::authority::{Decision, Judge, Question};
use super::check::{Abilities, Checked, check_with};
use super::declared::{Declared, Shape};
use super::escape;
use super::functions_declared::{AUTHORIZER, RESOURCE_CHECK};
use super::messages::{JSON_PATCH, OBJECT};
use super::plan::VARIABLES;
pub use super::rules::{Found, Inputs, Rules, Verdict};
pub use super::typed::{Typed, faults};
use super::types::Type;
use super::{literals, parser, source};

/// Before what is wrong with an expression that does not compile.
const FAILED: &str = "compilation failed: ";

/// What an expression is for, which decides what it must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Whether anything is asked at all; sees no variables of the policy.
    Condition,
    Validation,
    /// What is said to who is refused; cannot ask the authorizer.
    Message,
    AuditAnnotation,
    ApplyConfiguration,
    JsonPatch,
}

/// The expressions of one webhook or policy.
#[derive(Debug)]
pub struct Expressions {
    object: Type,
    /// Of parameters, where there are some.
    params: Option<Type>,
    /// An object of the variables that are defined so far, of a policy that can have some.
    variables: Option<Arc<Declared>>,
}

impl Expressions {
    pub fn new(params: bool, composed: bool) -> Self {
        Self {
            object: Type::Dyn,
            params: params.then_some(Type::Dyn),
            variables: composed.then(no_variables),
        }
    }

    /// Those of a policy for objects of a type.
    pub(super) fn typed(object: &Typed, params: Option<&Typed>) -> Self {
        Self {
            object: object.0.ty(),
            params: params.map(|params| params.0.ty()),
            variables: Some(no_variables()),
        }
    }

    /// What is wrong with an expression, whatever it comes to.
    pub(super) fn fault(&self, expression: &str, purpose: Purpose) -> Option<String> {
        let why = self.check_types(expression, purpose).err()?;
        Some(why.strip_prefix(FAILED).map(str::to_owned).unwrap_or(why))
    }

    /// Defines a variable, also one that is faulty. Fails with what is wrong with it.
    pub fn define(&mut self, name: &str, expression: &str) -> Result<(), String> {
        self.defined(name, expression, |_| Ok(()))
    }

    /// The same, and what is made of the variable's expression.
    pub(super) fn defined<T>(
        &mut self,
        name: &str,
        expression: &str,
        make: impl FnOnce(&Checked) -> Result<T, String>,
    ) -> Result<T, String> {
        let checked = self.check_types(expression, Purpose::Validation);
        let declared = kept(checked.as_ref().map_or(&Type::Dyn, |checked| &checked.ty));
        let made = checked.and_then(|checked| make(&checked));
        // Nothing else holds the variables' type any more, so that adding to it copies nothing.
        if let Some(variables) = self.variables.as_mut().map(Arc::make_mut)
            && let Shape::Object(fields) = &mut variables.shape
        {
            fields.insert(name.into(), declared);
        }
        made
    }

    /// Fails with what is wrong with an expression.
    pub fn check(&self, expression: &str, purpose: Purpose) -> Result<(), String> {
        self.checked(expression, purpose).map(drop)
    }

    pub(super) fn checked(&self, expression: &str, purpose: Purpose) -> Result<Checked, String> {
        let checked = self.check_types(expression, purpose)?;
        let ty = &checked.ty;
        let (fits, wanted) = match purpose {
            Purpose::Condition | Purpose::Validation => (matches!(ty, Type::Bool), "bool"),
            Purpose::Message => (matches!(ty, Type::String), "string"),
            Purpose::AuditAnnotation => {
                (matches!(ty, Type::String | Type::Null), "one of [string null_type]")
            }
            Purpose::ApplyConfiguration => (is_object(ty, OBJECT), OBJECT),
            Purpose::JsonPatch => {
                (matches!(ty, Type::List(item) if is_object(item, JSON_PATCH)), "list(JSONPatch)")
            }
        };
        if fits { Ok(checked) } else { Err(format!("must evaluate to {wanted} but got {}", told(ty))) }
    }

    fn check_types(&self, expression: &str, purpose: Purpose) -> Result<Checked, String> {
        let mut variables = vec![
            ("object", self.object.clone()),
            ("oldObject", self.object.clone()),
            ("namespaceObject", NAMESPACE.ty()),
            ("request", REQUEST.ty()),
        ];
        if let Some(params) = &self.params {
            variables.push(("params", params.clone()));
        }
        if purpose != Purpose::Message {
            variables.push(("authorizer", Type::Named(AUTHORIZER)));
            variables.push(("authorizer.requestResource", Type::Named(RESOURCE_CHECK)));
        }
        if let Some(known) = self.variables.as_ref().filter(|_| purpose != Purpose::Condition) {
            variables.push((VARIABLES, known.ty()));
        }
        let patches = matches!(purpose, Purpose::ApplyConfiguration | Purpose::JsonPatch);
        compiled(expression, &variables, Abilities { authorization: true, patches })
    }
}

/// Whether a policy's variable can be named so.
pub fn is_identifier(name: &str) -> bool {
    escape::is_identifier(name)
}

/// Fails with what is wrong with an expression that selects devices.
pub fn check_device_selector(expression: &str) -> Result<(), String> {
    let ty =
        compiled(expression, &[("device", DEVICE.ty())], Abilities { authorization: true, patches: false })?
            .ty;
    if matches!(ty, Type::Bool) {
        return Ok(());
    }
    Err(format!("must evaluate to bool or the unknown type, not {}", told(&ty)))
}

pub(super) fn compiled(
    source: &str,
    variables: &[(&str, Type)],
    abilities: Abilities,
) -> Result<Checked, String> {
    let issues = |faults: source::Faults| format!("{FAILED}{}", faults.show(source));
    let parsed = parser::parse(source).map_err(issues)?;
    let checked = check_with(parsed, variables, abilities).map_err(issues)?;
    let faults = literals::check(&checked);
    if faults.is_empty() { Ok(checked) } else { Err(issues(faults)) }
}

fn is_object(ty: &Type, name: &str) -> bool {
    matches!(ty, Type::Object(declared) if &*declared.name == name)
}

/// What is kept of the type of a variable: what is neither plain nor a list or a map of such is dyn.
fn kept(ty: &Type) -> Arc<Declared> {
    let shape = match ty {
        Type::Null => Shape::Null,
        Type::Bool => Shape::Bool,
        Type::Int => Shape::Int,
        Type::Uint => Shape::Uint,
        Type::Double => Shape::Double,
        Type::String => Shape::String,
        Type::Bytes => Shape::Bytes,
        Type::Duration => Shape::Duration,
        Type::Timestamp => Shape::Timestamp,
        Type::List(item) => Shape::List(kept(item)),
        Type::Map(pair) if matches!(pair.0, Type::String) => Shape::Map(kept(&pair.1)),
        _ => Shape::Dyn,
    };
    plain(shape)
}

/// A type as it is told when it is not the wanted one.
pub(super) fn told(ty: &Type) -> String {
    match ty {
        Type::Null => "null_type".into(),
        Type::Duration => "google.protobuf.Duration".into(),
        Type::Timestamp => "google.protobuf.Timestamp".into(),
        Type::List(item) => format!("list({})", told(item)),
        Type::Map(pair) => format!("map({}, {})", told(&pair.0), told(&pair.1)),
        Type::Optional(inner) => format!("optional_type({})", told(inner)),
        other => other.shown(),
    }
}

pub(super) fn plain(shape: Shape) -> Arc<Declared> {
    Arc::new(Declared::new(shape, 0, 0))
}

pub(super) fn object(name: &str, fields: &[(&str, &Arc<Declared>)]) -> Arc<Declared> {
    let fields = fields.iter().map(|(name, field)| ((*name).into(), (*field).clone())).collect();
    Arc::new(Declared { name: name.into(), ..Declared::new(Shape::Object(fields), 0, 0) })
}

fn no_variables() -> Arc<Declared> {
    object("kubernetes.variables", &[])
}

pub(super) static USER: LazyLock<Arc<Declared>> = LazyLock::new(|| {
    let text = plain(Shape::String);
    let texts = plain(Shape::List(text.clone()));
    let extra = plain(Shape::Map(texts.clone()));
    object(
        "kubernetes.UserInfo",
        &[("username", &text), ("uid", &text), ("groups", &texts), ("extra", &extra)],
    )
});

static REQUEST: LazyLock<Arc<Declared>> = LazyLock::new(|| {
    let text = plain(Shape::String);
    let kind =
        object("kubernetes.GroupVersionKind", &[("group", &text), ("version", &text), ("kind", &text)]);
    let resource = object(
        "kubernetes.GroupVersionResource",
        &[("group", &text), ("version", &text), ("resource", &text)],
    );
    object(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", &kind),
            ("resource", &resource),
            ("subResource", &text),
            ("requestKind", &kind),
            ("requestResource", &resource),
            ("requestSubResource", &text),
            ("name", &text),
            ("namespace", &text),
            ("operation", &text),
            ("userInfo", &USER),
            ("dryRun", &plain(Shape::Bool)),
            ("options", &plain(Shape::Dyn)),
        ],
    )
});

static NAMESPACE: LazyLock<Arc<Declared>> = LazyLock::new(|| {
    let text = plain(Shape::String);
    let (texts, map) = (plain(Shape::List(text.clone())), plain(Shape::Map(text.clone())));
    let (number, time) = (plain(Shape::Int), plain(Shape::Timestamp));
    let condition = object(
        "kubernetes.NamespaceCondition",
        &[
            ("status", &text),
            ("type", &text),
            ("lastTransitionTime", &time),
            ("message", &text),
            ("reason", &text),
        ],
    );
    let conditions = plain(Shape::List(condition));
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        &[
            ("name", &text),
            ("generateName", &text),
            ("namespace", &text),
            ("labels", &map),
            ("annotations", &map),
            ("UID", &text),
            ("creationTimestamp", &time),
            ("deletionGracePeriodSeconds", &number),
            ("deletionTimestamp", &time),
            ("generation", &number),
            ("resourceVersion", &text),
            ("finalizers", &texts),
        ],
    );
    let spec = object("kubernetes.NamespaceSpec", &[("finalizers", &texts)]);
    let status = object("kubernetes.NamespaceStatus", &[("conditions", &conditions), ("phase", &text)]);
    object("kubernetes.Namespace", &[("metadata", &metadata), ("spec", &spec), ("status", &status)])
});

static DEVICE: LazyLock<Arc<Declared>> = LazyLock::new(|| {
    let by_domain = |shape: Shape| plain(Shape::Map(plain(Shape::Map(plain(shape)))));
    object(
        "kubernetes.DRADevice",
        &[
            ("driver", &plain(Shape::String)),
            ("attributes", &by_domain(Shape::Dyn)),
            ("capacity", &by_domain(Shape::Named("kubernetes.Quantity"))),
        ],
    )
});

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(expression: &str, purpose: Purpose) -> String {
        Expressions::new(false, true).check(expression, purpose).err().unwrap_or_default()
    }

    #[test]
    fn conditions_see_the_request_and_its_namespace() {
        for expression in [
            "object.metadata.name != 'x' && oldObject == null",
            "request.kind.group == 'apps' && request.userInfo.extra['a'].size() == 1",
            "namespaceObject.status.conditions.exists(c, c.lastTransitionTime > timestamp(0))",
            "authorizer.group('apps').resource('deployments').namespace('a').check('get').allowed()",
            "authorizer.requestResource.labelSelector('a=b').check('list').reason() == ''",
        ] {
            assert_eq!(wrong(expression, Purpose::Condition), "");
        }
        assert!(wrong("request.color == ''", Purpose::Condition).contains("undefined field 'color'"));
        assert!(wrong("params.x", Purpose::Condition).contains("undeclared reference to 'params'"));
    }

    #[test]
    fn an_expression_comes_to_what_it_is_for() {
        assert_eq!(wrong("object.spec.replicas", Purpose::Validation), "must evaluate to bool but got dyn");
        assert_eq!(
            wrong("1", Purpose::AuditAnnotation),
            "must evaluate to one of [string null_type] but got int"
        );
        assert_eq!(wrong("null", Purpose::AuditAnnotation), "");
        assert_eq!(
            wrong("{'a': timestamp(0)}", Purpose::Message),
            "must evaluate to string but got map(string, google.protobuf.Timestamp)"
        );
        assert!(wrong("authorizer", Purpose::Message).contains("undeclared reference to 'authorizer'"));
    }

    #[test]
    fn variables_have_the_types_of_their_expressions() {
        let mut policy = Expressions::new(true, true);
        assert_eq!(policy.define("names", "params.names.map(n, string(n))"), Ok(()));
        assert_eq!(policy.check("variables.names[0] == 'a'", Purpose::Validation), Ok(()));
        let problem = policy.check("variables.names == 1", Purpose::Validation).unwrap_err();
        assert!(problem.contains("no matching overload for '_==_' applied to '(list(string), int)'"));
        assert!(policy.define("broken", "nothing").is_err());
        assert_eq!(
            policy.check("variables.broken", Purpose::Validation).unwrap_err(),
            "must evaluate to bool but got dyn"
        );
        assert!(policy.check("variables.names == []", Purpose::Condition).is_err());
    }

    #[test]
    fn patches_are_objects_or_lists_of_operations() {
        assert_eq!(wrong("Object{spec: Object.spec{replicas: 1}}", Purpose::ApplyConfiguration), "");
        assert_eq!(
            wrong(
                "[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c'), value: 1}]",
                Purpose::JsonPatch
            ),
            ""
        );
        assert_eq!(wrong("Object{}", Purpose::JsonPatch), "must evaluate to list(JSONPatch) but got Object");
        assert!(
            wrong("[JSONPatch{op: 1}]", Purpose::JsonPatch)
                .contains("expected type of field 'op' is 'string' but provided type is 'int'")
        );
        assert!(wrong("Object{}", Purpose::Validation).contains("undeclared reference to 'Object'"));
    }

    #[test]
    fn devices_are_selected_by_attributes_and_capacity() {
        for expression in [
            "device.driver == 'd' && device.attributes['d'].model == 'x'",
            "device.capacity['d'].memory.isGreaterThan(quantity('1Gi'))",
        ] {
            assert_eq!(check_device_selector(expression), Ok(()));
        }
        assert_eq!(
            check_device_selector("device.driver"),
            Err("must evaluate to bool or the unknown type, not string".into())
        );
    }
}
