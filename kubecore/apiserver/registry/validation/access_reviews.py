"""SubjectAccessReviews and their relatives.

After k8s.io/kubernetes `pkg/apis/authorization/validation` and apimachinery `pkg/apis/meta/v1/validation`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubecore.api import meta
from kubecore.apiserver.registry.validation.labels import validate_label_requirement
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_RESOURCE, _OTHER = "spec.resourceAttributes", "spec.nonResourceAttributes"


def validate_access_review(review: JSON, *, of_oneself: bool, namespaced: bool) -> Problems:
    """`of_oneself`: whoever asks is meant; `namespaced`: it is about one namespace, and there."""
    problems = Problems()
    spec, metadata = review.get("spec") or {}, review.get("metadata") or {}
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and other is not None:
        problems.invalid(_OTHER, _as_go_shows(other), "cannot be specified in combination with resourceAttributes")
    if resource is None and other is None:
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        problems.invalid(_RESOURCE, None, detail)
    if not (of_oneself or spec.get("user") or spec.get("groups")):
        problems.invalid("spec.user", "", "at least one of user or group must be specified")
    if resource is not None:
        _validate_selector(problems, resource, "fieldSelector", _field_requirement)
        _validate_selector(problems, resource, "labelSelector", _label_requirement)
    if metadata.keys() - {"managedFields", "namespace"}:
        shown = {name: metadata[name] for name in meta.FIELDS if name in metadata}
        problems.invalid("metadata", shown, f"must be empty{' except for namespace' if namespaced else ''}")
    if namespaced and resource is not None and (given := resource.get("namespace") or "") != metadata.get("namespace"):
        problems.invalid(f"{_RESOURCE}.namespace", given, "must match metadata.namespace")
    if namespaced and other is not None:
        problems.invalid(_OTHER, _as_go_shows(other), "disallowed on this kind of request")
    return problems


def _as_go_shows(attributes: JSON) -> JSON:
    """Upstream's own form of them has no names for JSON."""
    return {"Path": attributes.get("path") or "", "Verb": attributes.get("verb") or ""}


def _validate_selector(
    problems: Problems, attributes: JSON, name: str, check: Callable[[Problems, JSON, str], None]
) -> None:
    selector, path = attributes.get(name), f"{_RESOURCE}.{name}"
    if selector is None:
        return
    raw, requirements = selector.get("rawSelector") or "", selector.get("requirements") or []
    if raw and requirements:
        problems.invalid(f"{path}.rawSelector", raw, "may not specified at the same time as requirements")
    if not raw and not requirements:
        problems.required(f"{path}.requirements", f"when {path} is specified, requirements or rawSelector is required")
    for index, requirement in enumerate(requirements):
        check(problems, requirement, f"{path}.requirements[{index}]")


def _field_requirement(problems: Problems, requirement: JSON, path: str) -> None:
    if not requirement.get("key"):
        problems.required(f"{path}.key", "must be specified")
    # Newer clients may know of more operators.
    operator, values = requirement.get("operator"), requirement.get("values")
    if operator in ("In", "NotIn") and not values:
        problems.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    if operator in ("Exists", "DoesNotExist") and values:
        problems.forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")


def _label_requirement(problems: Problems, requirement: JSON, path: str) -> None:
    validate_label_requirement(problems, requirement, path, any_operator=True)
