"""Admission policies written in CEL, and their bindings.

After kubernetes `pkg/apis/admissionregistration/validation/validation.go`.
"""

from __future__ import annotations

from typing import Any

from kubecore import _native
from kubecore.apiserver.registry.validation import json_paths, names
from kubecore.apiserver.registry.validation.admission_rules import (
    FAILURE_POLICIES,
    REINVOCATION_POLICIES,
    validate_match_conditions,
    validate_match_resources,
)
from kubecore.apiserver.registry.validation.expressions import Expressions, Purpose
from kubecore.apiserver.registry.validation.labels import validate_label_selector
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_ACTIONS = ("Audit", "Deny", "Warn")
_MOST_ANNOTATIONS, _LONGEST_VALUE = 20, 5 * 1024
_NO_RULES = "validations or auditAnnotations must contain at least one item"
# What a mutation holds, by its patchType.
_MUTATIONS = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}


# --- policies


def validate_validating_policy(problems: Problems, name: str, spec: JSON, *, same_conditions: bool) -> None:
    """`same_conditions`: an update leaves the match conditions as they were."""
    expressions = _common(problems, spec, mutating=False, same_conditions=same_conditions)
    validations, annotations = spec.get("validations") or [], spec.get("auditAnnotations") or []
    if not validations and not annotations:
        problems.required("spec.validations", _NO_RULES)
        problems.required("spec.auditAnnotations", _NO_RULES)
    for index, validation in enumerate(validations):
        _validation(problems, validation, f"spec.validations[{index}]", expressions)
    if len(annotations) > _MOST_ANNOTATIONS:
        detail = f"must not have more than {_MOST_ANNOTATIONS} auditAnnotations"
        problems.invalid("spec.auditAnnotations", annotations, detail)
    _audit_annotations(problems, name, annotations, expressions)


def validate_mutating_policy(problems: Problems, spec: JSON, *, same_conditions: bool) -> None:
    expressions = _common(problems, spec, mutating=True, same_conditions=same_conditions)
    if not spec.get("mutations"):
        problems.required("spec.mutations", "mutations must contain at least one item")
    for index, mutation in enumerate(spec.get("mutations") or []):
        _mutation(problems, mutation, f"spec.mutations[{index}]", expressions)
    problems.one_of("spec.reinvocationPolicy", spec.get("reinvocationPolicy"), REINVOCATION_POLICIES, required=True)


def _common(problems: Problems, spec: JSON, *, mutating: bool, same_conditions: bool) -> Expressions:
    """Hands back what the rest of the policy's expressions may use."""
    params, variables = spec.get("paramKind") is not None, spec.get("variables") or []
    problems.one_of_if_given("spec.failurePolicy", spec.get("failurePolicy"), FAILURE_POLICIES)
    if params:
        _param_kind(problems, spec["paramKind"])
    match = spec.get("matchConstraints")
    if match is None:
        problems.required("spec.matchConstraints")
    else:
        validate_match_resources(problems, match, "spec.matchConstraints", mutating=mutating)
        if not match.get("resourceRules"):
            problems.required("spec.matchConstraints.resourceRules")
    if not same_conditions:
        conditions = spec.get("matchConditions") or []
        validate_match_conditions(problems, conditions, "spec.matchConditions", params=params)
    expressions = Expressions(problems, params=params, composed=mutating or bool(variables))
    for index, variable in enumerate(variables):
        _variable(problems, variable, f"spec.variables[{index}]", expressions)
    return expressions


def _param_kind(problems: Problems, kind: JSON) -> None:
    path, given = "spec.paramKind.apiVersion", kind.get("apiVersion") or ""
    group, _, version = given.rpartition("/")
    if not given:
        problems.required(path)
    elif given.count("/") > 1:
        problems.invalid(path, given, f"unexpected GroupVersion string: {given}")
    else:
        if group and (errors := names.dns_subdomain(group)):
            problems.invalid(path, group, ",".join(errors))
        if not version:
            problems.invalid(path, given, "version must be specified")
        elif errors := names.dns_1035_label(version):
            problems.invalid(path, version, ",".join(errors))
    name = kind.get("kind") or ""
    if not name:
        problems.required("spec.paramKind.kind")
    elif errors := names.dns_1035_label(name.lower()):
        detail = f"may have mixed case, but should otherwise match: {','.join(errors)}"
        problems.invalid("spec.paramKind.kind", name, detail)


def _variable(problems: Problems, variable: JSON, path: str, expressions: Expressions) -> None:
    name = variable.get("name") or ""
    if not name.strip():
        problems.required(f"{path}.name", "name is not specified")
    elif not _native.is_cel_identifier(name):
        problems.invalid(f"{path}.name", name, "must be a valid CEL identifier")
    expression = variable.get("expression") or ""
    if expression.strip():
        expressions.define(name, expression, f"{path}.expression")
    else:
        problems.required(f"{path}.expression", "expression is not specified")


def _validation(problems: Problems, validation: JSON, path: str, expressions: Expressions) -> None:
    expression, message_expression = validation.get("expression") or "", validation.get("messageExpression") or ""
    if expression.strip():
        expressions.check(expression, "validation", f"{path}.expression")
    else:
        problems.required(f"{path}.expression", "expression is not specified")
    if message_expression.strip():
        expressions.check(message_expression, "message", f"{path}.messageExpression")
    for field in ("messageExpression", "message"):
        if (text := validation.get(field) or "") and not text.strip():
            problems.invalid(f"{path}.{field}", text, "must be non-empty if specified")
    message = validation.get("message") or ""
    if "\n" in message.strip() or "\r" in message.strip():
        problems.invalid(f"{path}.message", message, "must not contain line breaks")
    problems.one_of_if_given(f"{path}.reason", validation.get("reason"), _REASONS)


def _audit_annotations(problems: Problems, policy: str, annotations: list[JSON], expressions: Expressions) -> None:
    """Their keys follow the policy's name."""
    taken: set[str] = set()
    for index, annotation in enumerate(annotations):
        path, key = f"spec.auditAnnotations[{index}]", annotation.get("key") or ""
        if not policy:
            problems.invalid(f"{path}.key", key, "requires metadata.name be non-empty")
        else:
            problems.check(f"{path}.key", f"{policy}/{key}", names.qualified_name)
        value = (annotation.get("valueExpression") or "").strip()
        if not value:
            problems.required(f"{path}.valueExpression", "valueExpression is not specified")
        elif len(value.encode()) > _LONGEST_VALUE:
            problems.required(f"{path}.valueExpression", f"must not exceed {_LONGEST_VALUE} bytes in length")
        else:
            shown = annotation["valueExpression"]
            expressions.check(value, "annotation", f"{path}.valueExpression", shown=shown)
        if key in taken:
            problems.duplicate(f"{path}.key", key)
        taken.add(key)


def _mutation(problems: Problems, mutation: JSON, path: str, expressions: Expressions) -> None:
    kind = mutation.get("patchType") or ""
    problems.one_of(f"{path}.patchType", kind, tuple(_MUTATIONS), required=True)
    if kind not in _MUTATIONS:
        return
    for other, field in _MUTATIONS.items():
        held = mutation.get(field)
        if other != kind:
            if held is not None:
                problems.invalid(f"{path}.{field}", f"{{{field}}}", f"must not be specified when patchType is {kind}")
        elif held is None:
            problems.required(f"{path}.{field}", f"must be specified when patchType is {kind}")
        elif expression := (held.get("expression") or "").strip():
            purpose: Purpose = "patch" if kind == "JSONPatch" else "apply"
            expressions.check(expression, purpose, f"{path}.{field}.expression")
        else:
            problems.required(f"{path}.{field}.expression")


# --- their status


def validate_type_checking(problems: Problems, checking: JSON | None) -> None:
    for index, warning in enumerate((checking or {}).get("expressionWarnings") or []):
        path = f"status.typeChecking.expressionWarnings[{index}]"
        if not warning.get("warning"):
            problems.required(f"{path}.warning")
        reference = (warning.get("fieldRef") or "").strip()
        if not reference:
            problems.required(f"{path}.fieldRef")
        elif why := json_paths.fault(reference):
            problems.invalid(f"{path}.fieldRef", reference, f"invalid JSONPath: {why}")


# --- bindings


def validate_binding(problems: Problems, spec: JSON, *, mutating: bool) -> None:
    problems.check_needed("spec.policyName", spec.get("policyName"), names.dns_subdomain)
    if spec.get("paramRef") is not None:
        _param_ref(problems, spec["paramRef"])
    if spec.get("matchResources") is not None:
        validate_match_resources(problems, spec["matchResources"], "spec.matchResources", mutating=mutating)
    if not mutating:
        _actions(problems, spec.get("validationActions") or [])


def _param_ref(problems: Problems, reference: JSON) -> None:
    path, name, selector = "spec.paramRef", reference.get("name") or "", reference.get("selector")
    exclusive = "name and selector are mutually exclusive"
    if name:
        problems.check(f"{path}.name", name, names.path_segment)
    validate_label_selector(problems, selector, f"{path}.selector")
    if name and selector is not None:
        problems.forbidden(f"{path}.name", exclusive)
        problems.forbidden(f"{path}.selector", exclusive)
    if not name and selector is None:
        problems.required(path, "one of name or selector must be specified")
    action = reference.get("parameterNotFoundAction")
    problems.one_of(f"{path}.parameterNotFoundAction", action, ("Deny", "Allow"), required=True)


def _actions(problems: Problems, actions: list[str]) -> None:
    path = "spec.validationActions"
    for index, action in enumerate(actions):
        if action not in _ACTIONS:
            problems.unsupported(f"{path}[{index}]", action, _ACTIONS)
        if action in actions[:index]:
            problems.duplicate(f"{path}[{index}]", action)
    if {"Deny", "Warn"} <= set(actions):
        detail = (
            "must not contain both Deny and Warn (repeating the same validation failure information in the "
            "API response and headers serves no purpose)"
        )
        problems.invalid(path, actions, detail)
    if not actions:
        problems.required(path, "at least one validation action is required")
