"""StorageClasses and VolumeAttributesClasses. After kubernetes `pkg/apis/storage/validation/validation.go`."""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_MOST_PARAMETERS, _PARAMETERS_SIZE = 512, 256 * 1024
_RECLAIM = ("Delete", "Retain")
_BINDING = ("Immediate", "WaitForFirstConsumer")


def validate_storage_class(problems: Problems, obj: JSON) -> None:
    _provisioner(problems, obj.get("provisioner"), "provisioner")
    _parameters(problems, obj.get("parameters") or {})
    # An empty policy is let be.
    problems.one_of("reclaimPolicy", obj.get("reclaimPolicy"), _RECLAIM)
    problems.one_of_if_given("volumeBindingMode", obj.get("volumeBindingMode"), _BINDING)
    _topologies(problems, obj.get("allowedTopologies") or [])


def validate_volume_attributes_class(problems: Problems, obj: JSON) -> None:
    _provisioner(problems, obj.get("driverName"), "driverName")
    _parameters(problems, obj.get("parameters") or {})
    if not obj.get("parameters"):
        problems.required("parameters", "must contain at least one key/value pair")


def forbid_changes(problems: Problems, obj: JSON, old: JSON, *fields: str) -> None:
    """Top fields that stay as they were made; absent and empty are the same."""
    for field in fields:
        if obj.get(field) != old.get(field) and (obj.get(field) or old.get(field)):
            problems.forbidden(field, f"updates to {field} are forbidden.")


def _provisioner(problems: Problems, name: str | None, path: str) -> None:
    if not name:
        problems.required(path)
    else:
        problems.check(path, name.lower(), names.qualified_name)


def _parameters(problems: Problems, parameters: dict[str, str]) -> None:
    if len(parameters) > _MOST_PARAMETERS:
        problems.too_long("parameters", _MOST_PARAMETERS)
        return
    if "" in parameters:
        problems.invalid("parameters", "", "field can not be empty.")
    if sum(len(key.encode()) + len(value.encode()) for key, value in parameters.items()) > _PARAMETERS_SIZE:
        problems.too_long("parameters", _PARAMETERS_SIZE)


def _topologies(problems: Problems, terms: list[JSON]) -> None:
    # Upstream compares each term with as many empty ones, too, so that a term without expressions is a duplicate.
    found: set[frozenset[tuple[str, frozenset[str]]]] = {frozenset()}
    for index, term in enumerate(terms):
        path = f"allowedTopologies[{index}].matchLabelExpressions"
        wanted = frozenset(_expressions(problems, term.get("matchLabelExpressions") or [], path).items())
        if wanted in found:
            problems.duplicate(path, "")
        found.add(wanted)


def _expressions(problems: Problems, expressions: list[JSON], path: str) -> dict[str, frozenset[str]]:
    """What the expressions ask for: values by key."""
    wanted: dict[str, frozenset[str]] = {}
    for index, expression in enumerate(expressions):
        where, key, values = f"{path}[{index}]", expression.get("key") or "", expression.get("values") or []
        if not values:
            problems.required(f"{where}.values")
        seen: set[str] = set()
        for number, value in enumerate(values):
            if value in seen:
                problems.duplicate(f"{where}.values[{number}]", value)
            seen.add(value)
        problems.check(f"{where}.key", key, names.qualified_name)
        if key in wanted:
            problems.duplicate(f"{where}.key", key)
        wanted[key] = frozenset(values)
    return wanted
