"""What admission webhooks and admission policies are asked about: rules, selectors and match conditions.

After kubernetes `pkg/apis/admissionregistration/validation/validation.go`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.expressions import Expressions
from kubecore.apiserver.registry.validation.labels import validate_label_selector
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

FAILURE_POLICIES = ("Fail", "Ignore")
MATCH_POLICIES = ("Equivalent", "Exact")
REINVOCATION_POLICIES = ("IfNeeded", "Never")
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_MUTATING_OPERATIONS = ("*", "CONNECT", "CREATE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")
_MOST_CONDITIONS = 64


def default_rules(rules: Sequence[JSON] | None) -> None:
    for rule in rules or ():
        if rule.get("scope") is None:
            rule["scope"] = "*"


def default_match_resources(match: JSON | None) -> None:
    """MatchResources of a policy or a binding."""
    if match is None:
        return
    if match.get("matchPolicy") is None:
        match["matchPolicy"] = "Equivalent"
    default_selectors(match)
    default_rules(match.get("resourceRules"))
    default_rules(match.get("excludeResourceRules"))


def default_selectors(holder: JSON) -> None:
    """Absent selectors take everything."""
    for field in ("namespaceSelector", "objectSelector"):
        if holder.get(field) is None:
            holder[field] = {}


def validate_match_resources(problems: Problems, match: JSON, path: str, *, mutating: bool) -> None:
    """`mutating` policies are not asked about deletions."""
    problems.one_of_if_given(f"{path}.matchPolicy", match.get("matchPolicy"), MATCH_POLICIES)
    validate_selectors(problems, match, path)
    for field in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(match.get(field) or []):
            _named_rule(problems, rule, f"{path}.{field}[{index}]")
    for rule in match.get("resourceRules") or [] if mutating else ():
        for operation in rule.get("operations") or []:
            if operation not in _MUTATING_OPERATIONS:
                problems.unsupported(f"{path}.resourceRules.operations", operation, _MUTATING_OPERATIONS)


def validate_selectors(problems: Problems, holder: JSON, path: str) -> None:
    for field in ("namespaceSelector", "objectSelector"):
        validate_label_selector(problems, holder.get(field), f"{path}.{field}")


def _named_rule(problems: Problems, rule: JSON, path: str) -> None:
    wanted = rule.get("resourceNames") or []
    for index, name in enumerate(wanted):
        problems.check(f"{path}.resourceNames[{index}]", name, names.path_segment)
        if name in wanted[:index]:
            problems.duplicate(f"{path}.resourceNames[{index}]", name)
    validate_rule(problems, rule, path)


def validate_rule(problems: Problems, rule: JSON, path: str) -> None:
    """A rule with its operations."""
    operations = rule.get("operations") or []
    if not operations:
        problems.required(f"{path}.operations")
    _alone(problems, operations, f"{path}.operations", "operations")
    for index, operation in enumerate(operations):
        if operation not in _OPERATIONS:
            problems.unsupported(f"{path}.operations[{index}]", operation, _OPERATIONS)
    for field, what in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        if not rule.get(field):
            problems.required(f"{path}.{field}")
        _alone(problems, rule.get(field) or [], f"{path}.{field}", what)
    for index, version in enumerate(rule.get("apiVersions") or []):
        if not version:
            problems.required(f"{path}.apiVersions[{index}]")
    _resources(problems, rule.get("resources") or [], f"{path}.resources")
    problems.one_of_if_given(f"{path}.scope", rule.get("scope"), _SCOPES)


def _alone(problems: Problems, values: list[str], path: str, what: str) -> None:
    if len(values) > 1 and "*" in values:
        problems.invalid(path, values, f"if '*' is present, must not specify other {what}")


def _resources(problems: Problems, resources: list[str], path: str) -> None:
    """Resources as `pods`, `pods/log`, `pods/*`, `*/scale`, `*` or `*/*`; none may be covered by another."""
    if not resources:
        problems.required(path)
    whole: set[str] = set()
    everywhere: set[str] = set()
    without_subresource = False
    for index, given in enumerate(resources):
        if not given:
            problems.required(f"{path}[{index}]")
            continue
        resource, slash, subresource = given.partition("/")
        if not slash:
            # The last one decides, as upstream.
            without_subresource = given != "*"
            continue
        if resource in whole:
            detail = f"if '{resource}/*' is present, must not specify {given}"
            problems.invalid(f"{path}[{index}]", given, detail)
        if subresource in everywhere:
            detail = f"if '*/{subresource}' is present, must not specify {given}"
            problems.invalid(f"{path}[{index}]", given, detail)
        if subresource == "*":
            whole.add(resource)
        if resource == "*":
            everywhere.add(subresource)
    if len(resources) > 1 and "*/*" in resources:
        problems.invalid(path, resources, "if '*/*' is present, must not specify other resources")
    if "*" in resources and without_subresource:
        detail = "if '*' is present, must not specify other resources without subresources"
        problems.invalid(path, resources, detail)


def validate_match_conditions(problems: Problems, conditions: list[JSON], path: str, *, params: bool = False) -> None:
    """`params`: there are parameters that conditions may look at."""
    expressions = Expressions(problems, params=params)
    if len(conditions) > _MOST_CONDITIONS:
        problems.too_many(path, len(conditions), _MOST_CONDITIONS)
    taken: set[str] = set()
    for index, condition in enumerate(conditions):
        where, name = f"{path}[{index}]", condition.get("name") or ""
        if expression := (condition.get("expression") or "").strip():
            expressions.check(expression, "condition", f"{where}.expression")
        else:
            problems.required(f"{where}.expression")
        problems.check_needed(f"{where}.name", name, names.qualified_name)
        if name and name in taken:
            problems.duplicate(f"{where}.name", name)
        taken.add(name)
