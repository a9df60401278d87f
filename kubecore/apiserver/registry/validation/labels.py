"""Selectors: of labels, of nodes, and how they must fit the templates they select."""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.metadata import validate_labels
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_INVALID_SELECTOR = "invalid label selector"


def validate_label_selector(problems: Problems, selector: JSON | None, path: str) -> None:
    """A LabelSelector of meta/v1; absent is fine."""
    if not selector:
        return
    if labels := selector.get("matchLabels"):
        validate_labels(problems, labels, f"{path}.matchLabels")
    for index, requirement in enumerate(selector.get("matchExpressions") or []):
        validate_label_requirement(problems, requirement, f"{path}.matchExpressions[{index}]")


def validate_label_requirement(problems: Problems, requirement: JSON, path: str, *, any_operator: bool = False) -> None:
    """`any_operator`: one that is not known is somebody else's business."""
    operator, values = requirement.get("operator"), requirement.get("values") or []
    if operator in ("In", "NotIn"):
        if not values:
            problems.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            problems.forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    elif not any_operator:
        problems.invalid(f"{path}.operator", operator or "", "not a valid selector operator")
    problems.check(f"{path}.key", requirement.get("key", ""), names.qualified_name)
    for index, value in enumerate(values):
        problems.check(f"{path}.values[{index}]", value, names.label_value)


def selector_is_empty(selector: JSON | None) -> bool:
    return not selector or not (selector.get("matchLabels") or selector.get("matchExpressions"))


def selector_matches(selector: JSON | None, labels: JSON | None) -> bool:
    """Whether a LabelSelector selects an object with these labels; an empty one selects everything."""
    selector, labels = selector or {}, labels or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_requirement_matches(one, labels) for one in selector.get("matchExpressions") or [])


def _requirement_matches(requirement: JSON, labels: JSON) -> bool:
    key, values = requirement.get("key", ""), requirement.get("values") or []
    match requirement.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False


_NODE_FIELDS = ("metadata.name",)


def validate_node_selector(problems: Problems, selector: JSON, path: str) -> None:
    terms = selector.get("nodeSelectorTerms") or []
    if not terms:
        problems.required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")
    for index, term in enumerate(terms):
        validate_node_selector_term(problems, term, f"{path}.nodeSelectorTerms[{index}]")


def validate_node_selector_term(problems: Problems, term: JSON, path: str, *, lenient: bool = False) -> None:
    """`lenient`: values need not be such that a label could have them."""
    for index, requirement in enumerate(term.get("matchExpressions") or []):
        _node_requirement(problems, requirement, f"{path}.matchExpressions[{index}]", lenient=lenient)
    for index, requirement in enumerate(term.get("matchFields") or []):
        _node_field(problems, requirement, f"{path}.matchFields[{index}]")


def _node_requirement(problems: Problems, requirement: JSON, path: str, *, lenient: bool) -> None:
    values = requirement.get("values") or []
    match requirement.get("operator"):
        case "In" | "NotIn":
            if not values:
                problems.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        case "Exists" | "DoesNotExist":
            if values:
                detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                problems.forbidden(f"{path}.values", detail)
        case "Gt" | "Lt":
            if len(values) != 1:
                problems.required(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
        case operator:
            problems.invalid(f"{path}.operator", operator or "", "not a valid selector operator")
    problems.check(f"{path}.key", requirement.get("key") or "", names.qualified_name)
    if not lenient:
        for index, value in enumerate(values):
            problems.check(f"{path}.values[{index}]", value, names.label_value)


def _node_field(problems: Problems, requirement: JSON, path: str) -> None:
    operator, values, key = requirement.get("operator"), requirement.get("values") or [], requirement.get("key", "")
    if operator not in ("In", "NotIn"):
        problems.invalid(f"{path}.operator", operator or "", "not a valid selector operator")
    elif len(values) != 1:
        problems.required(
            f"{path}.values", "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        )
    if key not in _NODE_FIELDS:
        problems.invalid(f"{path}.key", key, "not a valid field selector key")
        return
    for index, value in enumerate(values):
        problems.check(f"{path}.values[{index}]", value, names.dns_subdomain)
