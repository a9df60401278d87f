"""A pod that names its node runs there or nowhere. (It usually has no need of a scheduler at all.)"""

from __future__ import annotations

from collections.abc import Sequence

from kubecore.scheduler.cache import NodeInfo
from kubecore.scheduler.events import EventKind
from kubecore.scheduler.framework import CycleState, Filter, Hopeless
from kubecore.scheduler.pods import PodInfo

_REASON = Hopeless(("node(s) didn't match the requested node name",))


class NodeName(Filter):
    name = "NodeName"
    wakes = frozenset({EventKind.NODE_ADDED})

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        wanted = pod.spec.get("nodeName")
        return () if not wanted or wanted == node.name else _REASON
