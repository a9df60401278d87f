"""What a pod's worker reads out of the API's view of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubecore.api import meta

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the kubelet ends a pod for good, as its status tells it. `disrupted`: through no fault of the pod's own."""

    reason: str
    text: str
    grace_seconds: float
    disrupted: bool


def relevant(pod: Object) -> object:
    """What a worker acts on: its own status reports must not wake it."""
    metadata = pod["metadata"]
    conditions = {one["type"]: one.get("status") for one in (pod.get("status") or {}).get("conditions") or []}
    gates = [conditions.get(gate["conditionType"]) for gate in pod["spec"].get("readinessGates") or []]
    kept = ("labels", "annotations", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
    return [metadata.get(key) for key in kept], pod["spec"], gates


def start_time(pod: Object) -> datetime | None:
    """When a node took it, as its status says."""
    text = (pod.get("status") or {}).get("startTime")
    return meta.parse_time(text) if text else None


def grace_seconds(pod: Object) -> float:
    """What it has to end: what its deletion says, else its specification."""
    granted = pod["metadata"].get("deletionGracePeriodSeconds")
    return float(pod["spec"].get("terminationGracePeriodSeconds", 30) if granted is None else granted)
