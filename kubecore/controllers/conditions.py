"""Conditions of a status: find one, set one without touching its transition time needlessly."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Object

Condition = dict[str, Any]


def find(obj: Object, type: str) -> Condition | None:
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition["type"] == type:
            found: Condition = condition
            return found
    return None


def is_true(obj: Object, type: str) -> bool:
    condition = find(obj, type)
    return condition is not None and condition["status"] == "True"


def make(type: str, status: str, now: str, reason: str = "", message: str = "") -> Condition:
    condition = {"type": type, "status": status, "lastTransitionTime": now}
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def of_pod(pod: Object, type: str, status: str, now: datetime, reason: str = "", message: str = "") -> Condition:
    """A pod's conditions say of which generation they are, and since when in the place of the one they replace."""
    told = meta.format_time(now)
    made = make(type, status, meta.transition_time(find(pod, type), status, told), reason, message)
    if generation := meta.generation(pod):
        made["observedGeneration"] = generation
    return made


def put(conditions: list[Condition], new: Condition) -> list[Condition]:
    """`conditions` with `new` in the place of the one of its type, or at the end.

    The time of transition stays while the status does.
    """
    out = []
    placed = False
    for condition in conditions:
        if condition["type"] != new["type"]:
            out.append(condition)
            continue
        since = meta.transition_time(condition, new["status"], new["lastTransitionTime"])
        out.append({**new, "lastTransitionTime": since})
        placed = True
    return out if placed else [*out, new]
