"""Keeps pods with scheduling gates out of the queue (KEP-3521)."""

from __future__ import annotations

from kubecore.scheduler.framework import PreEnqueue
from kubecore.scheduler.pods import PodInfo


class SchedulingGates(PreEnqueue):
    name = "SchedulingGates"

    def pre_enqueue(self, pod: PodInfo) -> str | None:
        gates = [gate["name"] for gate in pod.spec.get("schedulingGates") or ()]
        return f"waiting for scheduling gates: [{' '.join(gates)}]" if gates else None
