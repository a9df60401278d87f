"""How many addresses or node ports Services have, and how often they were asked for, under Kubernetes' names.

After upstream pkg/registry/core/service/{ipallocator,portallocator}/metrics.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from kubecore.metrics import Counter, Metric, Named, Reading

# Who asks wants a certain one, or any.
STATIC, DYNAMIC = "static", "dynamic"


class InUse(NamedTuple):
    """Of one range; `labels` say which."""

    labels: tuple[str, ...]
    taken: int
    free: int


class Allocations:
    """Of one kind; `taken` and `failed` count, with the values of the labels of a range and who has asked."""

    def __init__(self, allocator: str, unit: str, words: tuple[str, str, str], labels: tuple[str, ...] = ()) -> None:
        """`words` are upstream's for several in use, for one that is had, and for what cannot be had."""
        self._prefix = f"kube_apiserver_{allocator}_allocator"
        self._unit, self._labels = unit, labels
        in_use, had, missed = words
        self._in_use = f"{in_use} for Services"
        by = (*labels, "scope")
        self._taken = Counter(Named(f"{self._prefix}_allocation_total", f"[ALPHA] Number of {had} allocations", by))
        told = f"[ALPHA] Number of errors trying to allocate {missed}"
        self._failed = Counter(Named(f"{self._prefix}_allocation_errors_total", told, by))

    def taken(self, *values: str) -> None:
        self._taken.add(*values)

    def failed(self, *values: str) -> None:
        self._failed.add(*values)

    def metrics(self, read: Callable[[], Iterable[InUse]]) -> tuple[Metric, ...]:
        """All that is told; `read` is called on any thread."""
        return (
            Reading(self._named("allocated"), lambda: [(one.labels, one.taken) for one in read()]),
            Reading(self._named("available"), lambda: [(one.labels, one.free) for one in read()]),
            self._taken,
            self._failed,
        )

    def _named(self, which: str) -> Named:
        told = f"[ALPHA] Gauge measuring the number of {which} {self._in_use}"
        return Named(f"{self._prefix}_{which}_{self._unit}", told, self._labels)


def of_addresses() -> Allocations:
    return Allocations("clusterip", "ips", ("IPs", "Cluster IPs", "Cluster IPs"), ("cidr",))


def of_node_ports() -> Allocations:
    return Allocations("nodeport", "ports", ("NodePorts", "NodePort", "NodePort"))
