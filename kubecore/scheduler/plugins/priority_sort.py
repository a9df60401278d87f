"""The order of pods that wait: higher priority first, then who waited longer."""

from __future__ import annotations

from kubecore.scheduler.framework import QueueSort
from kubecore.scheduler.pods import PodInfo


class PrioritySort(QueueSort):
    name = "PrioritySort"

    def order(self, pod: PodInfo, since: float) -> tuple[int, float]:
        return (-pod.priority, since)
