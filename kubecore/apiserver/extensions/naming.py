"""Which names a definition gets: those it asks for, unless somebody else has them. Pure functions.

After upstream k8s.io/apiextensions-apiserver pkg/controller/status/naming_controller.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kubecore.api import meta
from kubecore.api.errors import aggregated

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Taken:
    """Names in use in a group: those resources go by (plural, singular, short ones), and kinds with their lists."""

    resources: frozenset[str]
    kinds: frozenset[str]


def taken_names(definitions: Iterable[JSON]) -> Taken:
    """By what definitions of one group have been given."""
    resources: set[str] = set()
    kinds: set[str] = set()
    for definition in definitions:
        names = (definition.get("status") or {}).get("acceptedNames") or {}
        resources |= {names.get("plural") or "", names.get("singular") or "", *(names.get("shortNames") or ())}
        kinds |= {names.get("kind") or "", names.get("listKind") or ""}
    return Taken(frozenset(resources - {""}), frozenset(kinds - {""}))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The names given, and the condition NamesAccepted: status, reason, message."""

    names: JSON
    accepted: bool
    reason: str
    message: str


def judge(definition: JSON, taken: Taken) -> Verdict:
    """What was taken includes the definition's own names: they stay its own."""
    wanted = definition["spec"]["names"]
    given: JSON = dict((definition.get("status") or {}).get("acceptedNames") or {})
    before = dict(given)
    reason = message = ""

    def conflict(field: str, name: str, used: frozenset[str]) -> str:
        if name == (before.get(field) or "") or name not in used:
            return ""
        return f'"{name}" is already in use'

    for field, used in (("plural", taken.resources), ("singular", taken.resources)):
        refused = conflict(field, wanted.get(field) or "", used)
        if refused:
            reason, message = f"{field[0].upper()}{field[1:]}Conflict", refused
        else:
            given[field] = wanted.get(field) or ""
    refused = _short_names(wanted, before, taken)
    if refused:
        reason, message = "ShortNamesConflict", refused
    else:
        _copy(wanted, given, "shortNames")
    for field, used in (("kind", taken.kinds), ("listKind", taken.kinds)):
        refused = conflict(field, wanted.get(field) or "", used)
        if refused:
            reason, message = f"{field[0].upper()}{field[1:]}Conflict", refused
        else:
            given[field] = wanted.get(field) or ""
    _copy(wanted, given, "categories")
    if reason:
        return Verdict(given, False, reason, message)
    return Verdict(given, True, "NoConflicts", "no conflicts found")


def _short_names(wanted: JSON, before: JSON, taken: Taken) -> str:
    own = before.get("shortNames") or []
    refused = [
        f'"{name}" is already in use'
        for name in wanted.get("shortNames") or []
        if name not in own and name in taken.resources
    ]
    return aggregated(refused)


def _copy(wanted: JSON, given: JSON, field: str) -> None:
    if wanted.get(field):
        given[field] = wanted[field]
    else:
        given.pop(field, None)


def names_accepted(definition: JSON) -> bool:
    return (meta.condition(definition, "NamesAccepted") or {}).get("status") == "True"
