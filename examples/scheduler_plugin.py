"""A scheduler plugin of one's own: pods that name an owner run on that owner's nodes alone.

In the package's pyproject.toml:

    [project.entry-points."kubecore.scheduler.plugins"]
    OwnersNodes = "scheduler_plugin:make"

and in the file that `kubecore up --scheduler-config` or `kubecore scheduler --config` reads:

    apiVersion: kubescheduler.config.k8s.io/v1
    kind: KubeSchedulerConfiguration
    profiles:
      - plugins: {multiPoint: {enabled: [{name: OwnersNodes}]}}
        pluginConfig: [{name: OwnersNodes, args: {label: example.com/owner}}]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubecore.scheduler.cache import NodeInfo
from kubecore.scheduler.events import ClusterEvent, EventKind, NodeEvent
from kubecore.scheduler.framework import CycleState, Filter, Hopeless
from kubecore.scheduler.handle import Handle
from kubecore.scheduler.pods import PodInfo

# Whatever pods leave the node, it stays another owner's: preemption need not try.
_REASON = Hopeless(("node(s) belonged to another owner",))


class OwnersNodes(Filter):
    name = "OwnersNodes"
    # Only such events can help a pod that was refused; all kinds would without this line.
    wakes = frozenset({EventKind.NODE_ADDED, EventKind.NODE_LABELS})

    def __init__(self, label: str) -> None:
        self.label = label

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        owner = pod.labels.get(self.label)
        return () if owner is None or node.labels.get(self.label) == owner else _REASON

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        return isinstance(event, NodeEvent) and event.new is not None and not self.filter(CycleState(), pod, event.new)


def make(handle: Handle, arguments: Mapping[str, Any]) -> OwnersNodes:
    """What the entry point names; `handle` has the client, the caches and the clock of the scheduler."""
    return OwnersNodes(arguments["label"])
