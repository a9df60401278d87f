"""What the kinds that run pods share: replicas, selectors, percentages, immutable selectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]


def validate_counts(problems: Problems, holder: JSON, path: str, fields: Sequence[str]) -> None:
    """Numbers that cannot be negative."""
    for field in fields:
        problems.not_negative(f"{path}.{field}", holder.get(field))


def validate_int_or_percent(problems: Problems, value: object, path: str, *, at_most_all: bool = False) -> None:
    """A count or a percentage; `at_most_all` refuses more than 100%."""
    if isinstance(value, str):
        problems.check(path, value, names.percent)
        if at_most_all and (as_percent(value) or 0) > 100:
            problems.invalid(path, value, "must not be greater than 100%")
    else:
        problems.not_negative(path, value)


def as_percent(value: object) -> int | None:
    """The number of a percentage, or None for anything else."""
    if isinstance(value, str) and value.endswith("%") and value[:-1].isdigit():
        return int(value[:-1])
    return None


def is_nothing(value: object) -> bool:
    """0 or 0%."""
    return value == 0 or as_percent(value) == 0


def validate_selector_unchanged(problems: Problems, spec: JSON, old: JSON) -> None:
    if spec.get("selector") != old.get("selector"):
        problems.invalid("spec.selector", spec.get("selector"), names.IMMUTABLE)
