"""Events: the rules of v1, which old clients rely on, and the stricter ones of events.k8s.io/v1.

After kubernetes `pkg/apis/core/validation/events.go`. Fields are called as core calls them in both, but for one.
"""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.metadata import validate_metadata
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_DEFAULT, _SYSTEM = "default", "kube-system"
_LONGEST = {"reportingInstance": 128, "action": 128, "reason": 128, "message": 1024}
_NEEDED = ("reportingInstance", "action", "reason")
_UNSET = ("firstTimestamp", "lastTimestamp", "count")


def validate_event(problems: Problems, event: JSON, *, strict: bool) -> None:
    """What holds in every version; an event of the new kind has an eventTime."""
    if not strict:
        problems.check("metadata.name", event["metadata"].get("name") or "", names.path_segment)
    namespace = event["metadata"].get("namespace") or ""
    involved = (event.get("involvedObject") or {}).get("namespace") or ""
    where, mismatch = "involvedObject.namespace", "does not match event.namespace"
    if event.get("eventTime") is None:
        if involved != namespace and (involved or namespace != _DEFAULT):
            problems.invalid(where, involved, mismatch)
        return
    if not involved and namespace not in (_DEFAULT, _SYSTEM):
        problems.invalid(where, involved, mismatch)
    reporter, path = event.get("reportingComponent") or "", "reportingController" if strict else "reportingComponent"
    if not reporter:
        problems.required(path)
    problems.check(path, reporter, names.qualified_name)
    for field, longest in _LONGEST.items():
        text = event.get(field) or ""
        if not text and field in _NEEDED:
            problems.required(field)
        if len(text.encode()) > longest:
            problems.invalid(field, "", f"can have at most {longest} characters")


def any_name(name: str) -> list[str]:
    """Names are checked with all the rest, which depends on the version that is spoken."""
    return []


def _strict_metadata(event: JSON) -> list[Cause]:
    """What is wrong with metadata as of other kinds, besides what the registry has found already."""
    found = validate_metadata(
        event, namespaced=True, name_errors=any_name, any_finalizer=True, checks_generate_name=False
    )
    return [cause for cause in validate_metadata(event, namespaced=True) if cause not in found]


def validate_new_event(problems: Problems, event: JSON) -> None:
    """What a new event of events.k8s.io/v1 must be besides."""
    problems += _strict_metadata(event)
    _series(problems, event)
    if event.get("eventTime") is None:
        problems.required("eventTime")
    if event.get("type") not in ("Normal", "Warning"):
        problems.invalid("type", "", f"has invalid value: {event.get('type') or ''}")
    for field in _UNSET:
        if event.get(field):
            problems.invalid(field, "", "needs to be unset")
    source = event.get("source") or {}
    if source.get("component") or source.get("host"):
        problems.invalid("source", "", "needs to be unset")


# Each with what Go has where nobody gave it.
_FIXED: JSON = {
    "involvedObject": {},
    "reason": "",
    "message": "",
    "source": {},
    "firstTimestamp": None,
    "lastTimestamp": None,
    "count": 0,
    "type": "",
    "eventTime": None,
    "action": "",
    "related": None,
    "reportingController": "",
    "reportingInstance": "",
}


def validate_strict_update(problems: Problems, event: JSON, old: JSON) -> None:
    """Through events.k8s.io/v1 only an event's series changes."""
    problems += [cause for cause in _strict_metadata(event) if "finalizers" in cause.field]
    if event.get("series") != old.get("series"):
        _series(problems, event)
    for field, zero in _FIXED.items():
        stored = "reportingComponent" if field == "reportingController" else field
        new, before = (one.get(stored, zero) for one in (event, old))
        if not same(new, before):
            problems.invalid(field, new, names.IMMUTABLE)


def _series(problems: Problems, event: JSON) -> None:
    series = event.get("series")
    if series is None:
        return
    if (series.get("count") or 0) < 2:
        problems.invalid("series.count", "", "should be at least 2")
    if series.get("lastObservedTime") is None:
        problems.required("series.lastObservedTime")
