"""Two pods cannot have one host port of one node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.framework import ClusterEvent, CycleState, Filter, PreFilter
from kubecore.scheduler.pods import PodInfo

_REASON = ("node(s) didn't have free ports for the requested pod ports",)
_ANY = "0.0.0.0"

HostPort = tuple[str, str, int]


class NodePorts(PreFilter, Filter):
    name = "NodePorts"
    wakes = frozenset({ClusterEvent.NODE_ADDED, ClusterEvent.POD_REMOVED})

    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> str | None:
        if not pod.ports:
            state.skipped.add(self.name)
        return None

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        return _REASON if any(conflicts(port, node.ports) for port in pod.ports) else ()


def conflicts(wanted: HostPort, taken: Iterable[HostPort]) -> bool:
    """A port taken on all addresses is taken on each of them, and the other way round."""
    address, protocol, port = wanted
    return any(
        protocol == other_protocol and port == other_port and (_ANY in (address, other) or address == other)
        for other, other_protocol, other_port in taken
    )
