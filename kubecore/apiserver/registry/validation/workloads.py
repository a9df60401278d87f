"""What the kinds that run pods share: replicas, selectors, templates, percentages, status counts.

After kubernetes `pkg/apis/apps/validation/validation.go`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.labels import (
    selector_is_empty,
    selector_matches,
    validate_label_selector,
)
from kubecore.apiserver.registry.validation.podspec import validate_running_template
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_MORE_THAN_ALL = "cannot be greater than status.replicas"


def validate_counts(problems: Problems, holder: JSON, path: str, fields: Sequence[str]) -> None:
    """Numbers that cannot be negative."""
    for field in fields:
        problems.not_negative(f"{path}.{field}", holder.get(field))


def validate_selector(problems: Problems, selector: JSON | None, *, kind: str, required: bool = True) -> bool:
    """The selector of what runs pods. Says whether it can be used to select."""
    if selector is None:
        if required:
            problems.required("spec.selector")
        return True
    before = len(problems)
    validate_label_selector(problems, selector, "spec.selector")
    usable = len(problems) == before
    if selector_is_empty(selector):
        problems.invalid("spec.selector", selector, f"empty selector is invalid for {kind}")
    return usable


def validate_selected_template(
    problems: Problems, selector: JSON | None, template: JSON | None, *, kind: str, whatever: bool = False
) -> None:
    """The template of pods that the selector must select; no selector selects nothing.

    `whatever`: even an empty selector is asked."""
    labels = ((template or {}).get("metadata") or {}).get("labels") or {}
    asked = whatever or not selector_is_empty(selector) or selector is None
    if asked and (selector is None or not selector_matches(selector, labels)):
        detail = "`selector` does not match template `labels`"
        problems.invalid("spec.template.metadata.labels", labels or None, detail)
    validate_running_template(problems, template, "spec.template", kind=kind)


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
    if isinstance(value, str) and not names.percent(value):
        return int(value[:-1])
    return None


def is_nothing(value: object) -> bool:
    """0 or 0%, or what is no number at all."""
    percent = as_percent(value)
    if percent is not None:
        return percent == 0
    if isinstance(value, str):
        return not value.removeprefix("-").isdigit() or int(value) == 0
    return not value


def validate_selector_unchanged(problems: Problems, spec: JSON, old: JSON) -> None:
    if not same(spec.get("selector"), old.get("selector")):
        problems.invalid("spec.selector", spec.get("selector"), names.IMMUTABLE)


def validate_at_most_all(problems: Problems, status: JSON, fields: Sequence[str], *, ready: str) -> None:
    """Counts of some of the pods in a status. `ready` is what upstream calls readyReplicas of this kind."""
    total = status.get("replicas") or 0
    for field in fields:
        if (status.get(field) or 0) > total:
            problems.invalid(f"status.{field}", status.get(field) or 0, _MORE_THAN_ALL)
    available = status.get("availableReplicas") or 0
    if available > (status.get("readyReplicas") or 0):
        problems.invalid("status.availableReplicas", available, f"cannot be greater than {ready}")


def validate_collisions(problems: Problems, status: JSON, old: JSON) -> None:
    """A collision count never falls."""
    collisions, before = status.get("collisionCount"), old.get("collisionCount")
    if before is not None and (collisions is None or collisions < before):
        problems.invalid("status.collisionCount", collisions or 0, "cannot be decremented")
