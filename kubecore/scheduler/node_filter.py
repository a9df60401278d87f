"""Whether one node can take a pod, those counted too that are nominated to run there.

(kubernetes `framework/runtime/framework.go`, RunFilterPluginsWithNominatedPods.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubecore.scheduler.cache import NodeInfo
from kubecore.scheduler.framework import CycleState, Filter, PluginError, PreFilter
from kubecore.scheduler.nominations import Nominations
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.profile import Profile


@dataclass(frozen=True, slots=True)
class Refusal:
    plugin: str
    reasons: Sequence[str]


class NodeFilter:
    """Runs a profile's Filter plugins, or `filters` alone. All methods raise PluginError when a plugin fails."""

    def __init__(self, profile: Profile, filters: Sequence[Filter] | None = None) -> None:
        self._pre_filters = profile.at(PreFilter)
        self._filters = profile.at(Filter) if filters is None else filters

    def refusal(
        self, state: CycleState, pod: PodInfo, node: NodeInfo, nominations: Nominations | None = None
    ) -> Refusal | None:
        """Why the node cannot take the pod; None when it can, whether or not those come that are nominated to it.

        Only nominated pods of the same or a higher priority count: to those the pod has to yield. It must fit with
        them, since they may need the room, and without them, since it may be them that it wants to be near to.
        """
        if nominations:
            coming = [one for one in nominations.on(node.name) if one.priority >= pod.priority and one.uid != pod.uid]
            if coming:
                state_then, node_then = state.clone(), node.clone()
                for one in coming:
                    self.add(state_then, pod, one, node_then)
                if refused := self._first(state_then, pod, node_then):
                    return refused
        return self._first(state, pod, node)

    def _first(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Refusal | None:
        for plugin in self._filters:
            if plugin.name in state.skipped:
                continue
            try:
                reasons = plugin.filter(state, pod, node)
            except Exception as error:
                raise PluginError(f'running "{plugin.name}" filter plugin: {error}') from error
            if reasons:
                return Refusal(plugin.name, reasons)
        return None

    def add(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        """See what would be if `other` were on the node; `state` and `node` are changed, so give copies."""
        node.add(other)
        for plugin in self._pre_filters:
            if plugin.name not in state.skipped:
                try:
                    plugin.add_pod(state, pod, other, node)
                except Exception as error:
                    raise PluginError(f'running AddPod on PreFilter plugin "{plugin.name}": {error}') from error

    def remove(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        """See what would be if `other` were not on the node; `state` and `node` are changed, so give copies."""
        node.remove(other)
        for plugin in self._pre_filters:
            if plugin.name not in state.skipped:
                try:
                    plugin.remove_pod(state, pod, other, node)
                except Exception as error:
                    raise PluginError(f'running RemovePod on PreFilter plugin "{plugin.name}": {error}') from error
