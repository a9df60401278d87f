"""Two pods cannot have one host port of one node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubecore.api.host_ports import HostPort, conflicts
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.events import ClusterEvent, EventKind, PodEvent
from kubecore.scheduler.framework import CycleState, Filter, PreFilter, PreFilterResult
from kubecore.scheduler.pods import PodInfo

_REASON = ("node(s) didn't have free ports for the requested pod ports",)


class NodePorts(PreFilter, Filter):
    name = "NodePorts"
    wakes = frozenset({EventKind.NODE_ADDED, EventKind.POD_REMOVED})

    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> PreFilterResult | None:
        if not pod.ports:
            state.skipped.add(self.name)
        return None

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        return _REASON if _conflict(pod.ports, node.ports) else ()

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        if isinstance(event, PodEvent):
            return event.old is not None and _conflict(pod.ports, event.old.ports)
        return True


def _conflict(wanted: Iterable[HostPort], taken: Iterable[HostPort]) -> bool:
    return any(conflicts(port, taken) for port in wanted)
