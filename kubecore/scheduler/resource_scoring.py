"""Scores a node by how much of its resources would be taken: the strategies of NodeResourcesFit.

(kubernetes `plugins/noderesources`: resource_allocation, least_allocated, most_allocated, requested_to_capacity_ratio.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kubecore.scheduler.cache import NodeInfo
from kubecore.scheduler.framework import MAXIMUM_SCORE
from kubecore.scheduler.pods import PodInfo

_MOST_CUSTOM = 10
"""What the scores of a shape reach up to."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """A resource, and how much it counts beside the others."""

    name: str
    weight: int = 1


CPU_AND_MEMORY = (Weighted("cpu"), Weighted("memory"))

Score = Callable[[int, int], int]
"""From what is requested and what is allocatable, 0 to MAXIMUM_SCORE."""


def least_allocated(requested: int, allocatable: int) -> int:
    return max(0, allocatable - requested) * MAXIMUM_SCORE // allocatable


def most_allocated(requested: int, allocatable: int) -> int:
    # pods without requests are taken to need something, so that this may exceed what there is
    return min(requested, allocatable) * MAXIMUM_SCORE // allocatable


def by_shape(points: Sequence[tuple[int, int]]) -> Score:
    """Straight lines between points of (percentage in use, score of 0 to 10); flat before the first, after the last."""
    scaled = [(utilization, score * (MAXIMUM_SCORE // _MOST_CUSTOM)) for utilization, score in points]

    def score(requested: int, allocatable: int) -> int:
        used = 100 if requested > allocatable else requested * 100 // allocatable
        before = scaled[0]
        for point in scaled:
            if used <= point[0]:
                run, rise = point[0] - before[0], point[1] - before[1]
                # as Go divides, towards zero
                return point[1] if not run else before[1] + int(rise * (used - before[0]) / run)
            before = point
        return before[1]

    return score


def use_after(pod: PodInfo, node: NodeInfo, resource: str, *, as_requested: bool = False) -> tuple[int, int] | None:
    """What would be requested of the resource with the pod on the node, and what is allocatable; None when the node
    has none, or the pod does not ask for it and it is no basic one.

    Of cpu and memory, containers that ask for nothing count with a little of each, unless `as_requested`.
    """
    allocatable = node.allocatable.get(resource, 0)
    if allocatable <= 0:
        return None
    if not as_requested and resource in ("cpu", "memory"):
        cpu, memory = pod.used
        return (node.used_cpu + cpu if resource == "cpu" else node.used_memory + memory, allocatable)
    wanted = pod.requests.get(resource, 0)
    if not wanted and resource not in ("cpu", "memory", "ephemeral-storage"):
        return None
    return (node.requested.get(resource, 0) + wanted, allocatable)
