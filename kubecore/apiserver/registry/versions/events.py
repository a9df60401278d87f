"""Events: events.k8s.io/v1 and core v1 show the same objects (upstream pkg/apis/events/v1/conversion.go)."""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

# (core, events.k8s.io)
_FIELDS = (
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
)
_TO_SERVED = dict(_FIELDS)
_TO_STORED = {served: stored for stored, served in _FIELDS}
# What core always shows, and the other group leaves out while it is empty.
_SHOWN = ("reportingComponent", "reportingInstance")


def served(event: JSON) -> JSON:
    """An event of core as events.k8s.io/v1 has it."""
    shown = {_TO_SERVED.get(name, name): value for name, value in event.items() if value != "" or name not in _SHOWN}
    _count_always(shown)
    return shown


def stored(event: JSON) -> JSON:
    """An event of events.k8s.io/v1 as core has it."""
    found = {_TO_STORED.get(name, name): value for name, value in event.items()}
    for name in _SHOWN:
        found.setdefault(name, "")
    if (found.get("series") or {}).get("count") == 0:
        found["series"] = {name: value for name, value in found["series"].items() if name != "count"}
    return found


def _count_always(event: JSON) -> None:
    series = event.get("series")
    if series is not None and "count" not in series:
        event["series"] = {"count": 0, **series}
