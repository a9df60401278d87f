"""What may stand in admission policies and their bindings, but for the expressions themselves."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.registry.writing import Writer, changed

POLICIES = Writer("validatingadmissionpolicies.admissionregistration.k8s.io", namespaced=False)
MUTATING = Writer("mutatingadmissionpolicies.admissionregistration.k8s.io", namespaced=False)
BINDINGS = Writer("validatingadmissionpolicybindings.admissionregistration.k8s.io", namespaced=False)
MUTATING_BINDINGS = Writer("mutatingadmissionpolicybindings.admissionregistration.k8s.io", namespaced=False)
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}


def policy(**spec: Any) -> dict[str, Any]:
    whole = {"matchConstraints": {"resourceRules": [RULE]}, "validations": [{"expression": "true"}], **spec}
    return {"metadata": {"name": "p.example.com"}, "spec": whole}


def mutating(*mutations: dict[str, Any], **spec: Any) -> dict[str, Any]:
    whole = {"matchConstraints": {"resourceRules": [RULE]}, "mutations": list(mutations), **spec}
    return {"metadata": {"name": "p.example.com"}, "spec": {"reinvocationPolicy": "Never", **whole}}


def binding(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "b"}, "spec": {"policyName": "p.example.com", **spec}}


def test_a_policy_fails_closed_and_takes_all_that_its_rules_name() -> None:
    spec = POLICIES.create(policy())["spec"]
    assert spec["failurePolicy"] == "Fail"
    assert spec["matchConstraints"] == {
        "matchPolicy": "Equivalent",
        "namespaceSelector": {},
        "objectSelector": {},
        "resourceRules": [{**RULE, "scope": "*"}],
    }


def test_a_policy_says_something() -> None:
    needed = "Required value: validations or auditAnnotations must contain at least one item"
    assert POLICIES.problems(policy(validations=[])) == [
        f"spec.validations: {needed}",
        f"spec.auditAnnotations: {needed}",
    ]
    assert MUTATING.problems(mutating()) == ["spec.mutations: Required value: mutations must contain at least one item"]


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (
            {"apiVersion": "a/b/c", "kind": "K"},
            'apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c',
        ),
        (
            {"apiVersion": "example.com/", "kind": "K"},
            'apiVersion: Invalid value: "example.com/": version must be specified',
        ),
        ({"apiVersion": "v1"}, "kind: Required value"),
    ],
)
def test_parameters_are_of_a_kind(kind: dict[str, str], problem: str) -> None:
    assert POLICIES.problems(policy(paramKind=kind)) == [f"spec.paramKind.{problem}"]


def test_a_variable_can_be_named_in_an_expression() -> None:
    assert not POLICIES.problems(policy(variables=[{"name": "replicas", "expression": "1"}]))
    assert POLICIES.problems(policy(variables=[{"name": "while", "expression": " "}])) == [
        'spec.variables[0].name: Invalid value: "while": must be a valid CEL identifier',
        "spec.variables[0].expression: Required value: expression is not specified",
    ]


def test_a_message_is_one_line() -> None:
    assert POLICIES.problems(policy(validations=[{"expression": "true", "message": "a\nb"}])) == [
        'spec.validations[0].message: Invalid value: "a\\nb": must not contain line breaks'
    ]


def test_keys_of_audit_annotations_follow_the_policys_name() -> None:
    annotations = [{"key": "k", "valueExpression": "'v'"}, {"key": "k", "valueExpression": "'v'"}]
    assert POLICIES.problems(policy(auditAnnotations=annotations)) == [
        'spec.auditAnnotations[1].key: Duplicate value: "k"'
    ]
    (problem,) = POLICIES.problems(policy(auditAnnotations=[{"key": "a/b", "valueExpression": "'v'"}]))
    assert problem.startswith('spec.auditAnnotations[0].key: Invalid value: "p.example.com/a/b": ')


def test_match_conditions_that_stay_are_not_judged_again() -> None:
    stored = POLICIES.create(policy(matchConditions=[{"name": "a", "expression": "true"}]))
    old = changed(stored, "spec.matchConditions.0.name", "")
    assert not POLICIES.update_problems(old, changed(old, "spec.failurePolicy", "Ignore"))
    assert POLICIES.update_problems(old, changed(old, "spec.paramKind", {"apiVersion": "v1", "kind": "ConfigMap"})) == [
        "spec.matchConditions[0].name: Required value"
    ]


def test_a_mutation_holds_what_its_type_says() -> None:
    applied = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}
    assert not MUTATING.problems(mutating(applied))
    assert MUTATING.problems(mutating({**applied, "patchType": "JSONPatch"})) == [
        'spec.mutations[0].applyConfiguration: Invalid value: "{applyConfiguration}": '
        "must not be specified when patchType is JSONPatch",
        "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
    ]


def test_nothing_is_mutated_when_it_is_deleted() -> None:
    deletions = {"resourceRules": [{**RULE, "operations": ["DELETE"]}]}
    applied = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}
    wrong = 'Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE"'
    assert MUTATING.problems(mutating(applied, matchConstraints=deletions)) == [
        f"spec.matchConstraints.resourceRules.operations: {wrong}"
    ]
    assert MUTATING_BINDINGS.problems(binding(matchResources=deletions)) == [
        f"spec.matchResources.resourceRules.operations: {wrong}"
    ]
    assert not POLICIES.problems(policy(matchConstraints=deletions))


@pytest.mark.parametrize(
    ("reference", "problems"),
    [
        ({"parameterNotFoundAction": "Deny"}, [": Required value: one of name or selector must be specified"]),
        (
            {"name": "n", "selector": {}, "parameterNotFoundAction": "Allow"},
            [
                ".name: Forbidden: name and selector are mutually exclusive",
                ".selector: Forbidden: name and selector are mutually exclusive",
            ],
        ),
        ({"name": "n"}, [".parameterNotFoundAction: Required value"]),
    ],
)
def test_parameters_are_named_or_selected(reference: dict[str, Any], problems: list[str]) -> None:
    found = BINDINGS.problems(binding(validationActions=["Deny"], paramRef=reference))
    assert found == [f"spec.paramRef{problem}" for problem in problems]


def test_a_binding_acts_and_does_not_say_a_failure_twice() -> None:
    assert BINDINGS.problems(binding()) == [
        "spec.validationActions: Required value: at least one validation action is required"
    ]
    (problem,) = BINDINGS.problems(binding(validationActions=["Deny", "Warn"]))
    assert "must not contain both Deny and Warn" in problem
    assert BINDINGS.problems(binding(validationActions=["Audit", "Audit"])) == [
        'spec.validationActions[1]: Duplicate value: "Audit"'
    ]


def test_what_was_found_in_a_policys_types_is_told_where() -> None:
    stored = POLICIES.create(policy())
    told = changed(stored, "status.typeChecking", {"expressionWarnings": [{"fieldRef": " ", "warning": ""}]})
    assert POLICIES.update_problems(stored, told, subresource="status") == [
        "status.typeChecking.expressionWarnings[0].warning: Required value",
        "status.typeChecking.expressionWarnings[0].fieldRef: Required value",
    ]


def test_conditions_of_a_policy_are_whole() -> None:
    stored = POLICIES.create(policy())
    bare = changed(stored, "status.conditions", [{"type": "T", "status": "Maybe", "reason": "not so"}])
    found = POLICIES.update_problems(stored, bare, subresource="status")
    assert found[:2] == [
        'status.conditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown"',
        "status.conditions[0].lastTransitionTime: Required value",
    ]
    assert found[2].startswith('status.conditions[0].reason: Invalid value: "not so": a condition reason must start')


# --- expressions


def test_expressions_of_a_policy_compile_and_come_to_what_they_are_for() -> None:
    found = POLICIES.problems(policy(validations=[{"expression": "object.spec.replicas"}]))
    assert found == [
        'spec.validations[0].expression: Invalid value: "object.spec.replicas": must evaluate to bool but got dyn'
    ]
    (problem,) = POLICIES.problems(policy(validations=[{"expression": "objekt == null"}]))
    assert problem == (
        'spec.validations[0].expression: Invalid value: "objekt == null": compilation failed: ERROR: <input>:1:1: '
        "undeclared reference to 'objekt' (in container '')\n | objekt == null\n | ^"
    )


def test_variables_are_seen_by_what_comes_after_them_but_not_by_match_conditions() -> None:
    variables = [
        {"name": "names", "expression": "object.spec.containers.map(c, string(c.name))"},
        {"name": "first", "expression": "variables.names[0]"},
    ]
    assert not POLICIES.problems(policy(variables=variables, validations=[{"expression": "variables.first == 'a'"}]))
    (problem,) = POLICIES.problems(policy(variables=variables, validations=[{"expression": "variables.first == 1"}]))
    assert "found no matching overload for '_==_' applied to '(string, int)'" in problem
    conditions = [{"name": "c", "expression": "variables.first == 'a'"}]
    (problem,) = POLICIES.problems(policy(variables=variables, matchConditions=conditions))
    assert "undeclared reference to 'variables'" in problem


def test_parameters_are_seen_where_there_are_some() -> None:
    looking = policy(validations=[{"expression": "params.data.a == 'b'"}])
    assert "undeclared reference to 'params'" in POLICIES.problems(looking)[0]
    assert not POLICIES.problems(changed(looking, "spec.paramKind", {"apiVersion": "v1", "kind": "ConfigMap"}))


@pytest.mark.parametrize(
    ("mutation", "problem"),
    [
        (
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "{'spec': 1}"}},
            "must evaluate to Object but got map(string, int)",
        ),
        (
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 1}]"}},
            "expected type of field 'op' is 'string' but provided type is 'int'",
        ),
    ],
)
def test_a_mutation_makes_what_its_type_says(mutation: dict[str, Any], problem: str) -> None:
    (found,) = MUTATING.problems(mutating(mutation))
    assert problem in found
