"""Conditions of meta/v1. After k8s.io/apimachinery `pkg/apis/meta/v1/validation/validation.go`."""

from __future__ import annotations

import re
from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_STATUSES = ("False", "True", "Unknown")
_REASON_SIZE, _MESSAGE_SIZE = 1024, 32 * 1024
_REASON = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_REASON_RE = re.compile(_REASON)
_REASON_WRONG = names.by_pattern(
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric "
    "characters or '_,:', and must end with an alphanumeric character or '_'",
    _REASON,
    "my_name",
    "MY_NAME",
    "MyName",
    "ReasonA,ReasonB",
    "ReasonA:ReasonB",
)


def validate_conditions(problems: Problems, conditions: list[JSON], path: str) -> None:
    taken: set[str] = set()
    for index, condition in enumerate(conditions):
        where, kind = f"{path}[{index}]", condition.get("type") or ""
        if kind in taken:
            problems.duplicate(f"{where}.type", kind)
        taken.add(kind)
        _condition(problems, condition, where)


def _condition(problems: Problems, condition: JSON, path: str) -> None:
    problems.check(f"{path}.type", condition.get("type") or "", names.qualified_name)
    status = condition.get("status") or ""
    if status not in _STATUSES:
        problems.unsupported(f"{path}.status", status, _STATUSES)
    generation = condition.get("observedGeneration") or 0
    if generation < 0:
        problems.invalid(f"{path}.observedGeneration", generation, "must be greater than or equal to zero")
    if not condition.get("lastTransitionTime"):
        problems.required(f"{path}.lastTransitionTime")
    reason = condition.get("reason") or ""
    if not reason:
        problems.required(f"{path}.reason")
    elif _REASON_RE.fullmatch(reason) is None:
        problems.invalid(f"{path}.reason", reason, _REASON_WRONG)
    if len(reason.encode()) > _REASON_SIZE:
        problems.too_long(f"{path}.reason", _REASON_SIZE)
    if len((condition.get("message") or "").encode()) > _MESSAGE_SIZE:
        problems.too_long(f"{path}.message", _MESSAGE_SIZE)
