"""Keeps pods with scheduling gates out of the queue (KEP-3521)."""

from __future__ import annotations

from kubecore.scheduler.events import ClusterEvent, EventKind, PodEvent
from kubecore.scheduler.framework import PreEnqueue
from kubecore.scheduler.pods import PodInfo


class SchedulingGates(PreEnqueue):
    name = "SchedulingGates"
    wakes = frozenset({EventKind.POD_GATES_GONE})

    def pre_enqueue(self, pod: PodInfo) -> str | None:
        gates = [gate["name"] for gate in pod.spec.get("schedulingGates") or ()]
        return f"waiting for scheduling gates: [{' '.join(gates)}]" if gates else None

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        return isinstance(event, PodEvent) and event.is_about(pod)
