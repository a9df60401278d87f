"""Runs the plugins over the nodes: which node fits, and which of those is best."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.extenders import Extenders
from kubecore.scheduler.framework import (
    CycleState,
    Decision,
    Diagnosis,
    PluginError,
    PreFilter,
    PreFilterResult,
    PreScore,
    Score,
)
from kubecore.scheduler.node_filter import NodeFilter
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.profile import Profile


def nodes_to_find(count: int, percentage: int = 0) -> int:
    """How many feasible nodes are enough among `count`: all up to 100, then a share, which shrinks to 5 % with their
    number where no percentage is asked for.
    """
    if count < 100:
        return count
    share = percentage or max(50 - count // 125, 5)
    return max(count * share // 100, 100)


def pre_filter(plugin: PreFilter, state: CycleState, pod: PodInfo, cache: Cache) -> PreFilterResult | None:
    """Raises PluginError."""
    if plugin.of_volumes and pod.plain_volumes:
        state.skipped.add(plugin.name)
        return None
    try:
        return plugin.pre_filter(state, pod, cache)
    except Exception as error:
        raise PluginError(f'running PreFilter plugin "{plugin.name}": {error}') from error


@dataclass(slots=True)
class Found:
    """Nodes that can take the pod, and why others cannot."""

    state: CycleState
    diagnosis: Diagnosis
    nodes: list[NodeInfo] = field(default_factory=list)
    kept: bool = False
    """It is the one node that is kept free for the pod, and no other was looked at."""


class PluginEvaluator:
    """Searches on each time from where the last search ended, so that all nodes get their share of pods."""

    def __init__(self, profile: Profile, chance: random.Random | None = None) -> None:
        self._profile = profile
        self._pre_filters = profile.at(PreFilter)
        self._scores = profile.at(Score)
        self._pre_scores = profile.at(PreScore)
        self._node_filter = NodeFilter(profile)
        self._chance = chance or random.Random()
        self._start = 0

    def evaluate(self, pod: PodInfo, cache: Cache) -> Decision:
        """Raises PluginError."""
        found = self.find(pod, cache)
        if not found.nodes:
            return Decision(found.state, diagnosis=found.diagnosis)
        return Decision(found.state, node=self.choose(found.state, pod, found.nodes, cache))

    async def evaluate_with(self, extenders: Extenders, pod: PodInfo, cache: Cache) -> Decision:
        """Likewise, when extenders have a say. Raises PluginError and ExtenderError."""
        for keeps_node in (True, False):
            found = self.find(pod, cache, keeps_node=keeps_node, several=True)
            nodes = await extenders.filter(pod, found.nodes, found.diagnosis)
            # some may have gone meanwhile
            nodes = [node for node in nodes if node.obj is not None]
            if nodes:
                more = await extenders.scores(pod, nodes) if len(nodes) > 1 else ()
                return Decision(found.state, node=self.choose(found.state, pod, nodes, cache, more))
            if not found.kept:
                break
        return Decision(found.state, diagnosis=found.diagnosis)

    def find(self, pod: PodInfo, cache: Cache, *, keeps_node: bool = True, several: bool = False) -> Found:
        """Nodes that can take the pod, `several` even if there is nothing to choose by; the one that is kept free for
        it alone, if it `keeps_node` and that one will do. Raises PluginError.
        """
        state = CycleState()
        nodes = cache.nodes()
        found = Found(state, Diagnosis(len(nodes)))
        if nodes:
            candidates = self._pre_filter(state, pod, cache, found.diagnosis)
            if not found.diagnosis.everywhere:
                found.nodes = self._nominated(state, pod, cache) if keeps_node else []
                found.kept = bool(found.nodes)
                if not found.kept:
                    found.nodes = self._filter(state, pod, candidates, found.diagnosis, cache, several=several)
        return found

    def prepared(self, pod: PodInfo, cache: Cache) -> CycleState:
        """What the PreFilter plugins note of the pod, for who asks Filter plugins later. Raises PluginError."""
        state = CycleState()
        self._pre_filter(state, pod, cache, Diagnosis(len(cache.nodes())))
        return state

    def _nominated(self, state: CycleState, pod: PodInfo, cache: Cache) -> list[NodeInfo]:
        """The node that was made free for the pod, if it fits there: no other needs looking at then."""
        node = cache.node(cache.nominations.node_of(pod.uid))
        if node is None or self._node_filter.refusal(state, pod, node, cache.nominations):
            return []
        return [node]

    def _pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache, diagnosis: Diagnosis) -> Sequence[NodeInfo]:
        """The nodes that are left to look at; none when the diagnosis holds for all of them."""
        names: frozenset[str] | None = None
        narrowed: list[str] = []
        for plugin in self._pre_filters:
            result = pre_filter(plugin, state, pod, cache)
            if result is None:
                continue
            if result.refusal:
                diagnosis.everywhere, diagnosis.plugins = result.refusal, {plugin.name}
                return ()
            if result.nodes is not None:
                narrowed.append(plugin.name)
                names = result.nodes if names is None else names & result.nodes
                if not names:
                    diagnosis.everywhere, diagnosis.plugins = _nothing_left(narrowed), set(narrowed)
                    return ()
        if names is None:
            return cache.nodes()
        candidates = [node for node in map(cache.node, sorted(names)) if node is not None]
        reason = f"node(s) didn't satisfy plugin(s) [{' '.join(sorted(narrowed))}]"
        diagnosis.plugins.update(narrowed)
        if others := diagnosis.nodes - len(candidates):
            diagnosis.reasons[reason] = others
        return candidates

    def _filter(
        self,
        state: CycleState,
        pod: PodInfo,
        nodes: Sequence[NodeInfo],
        diagnosis: Diagnosis,
        cache: Cache,
        *,
        several: bool,
    ) -> list[NodeInfo]:
        # with nothing to choose by, the first will do
        enough = nodes_to_find(len(nodes), self._profile.percentage) if self._scores or several else 1
        feasible: list[NodeInfo] = []
        start = self._start % len(nodes) if nodes else 0
        seen = 0
        for index in range(len(nodes)):
            node = nodes[(start + index) % len(nodes)]
            seen += 1
            refused = self._node_filter.refusal(state, pod, node, cache.nominations)
            if refused is None:
                feasible.append(node)
                if len(feasible) >= enough:
                    break
                continue
            diagnosis.refused_node(node.name, refused.plugin, refused.reasons)
        self._start = start + seen
        return feasible

    def choose(
        self, state: CycleState, pod: PodInfo, nodes: list[NodeInfo], cache: Cache, more: Sequence[int] = ()
    ) -> str:
        """One of the best; `more` is added to their totals. Raises PluginError."""
        if len(nodes) == 1:
            return nodes[0].name
        totals = self.totals(self._scores, state, pod, nodes, cache)
        if more:
            totals = [total + one for total, one in zip(totals, more, strict=True)]
        best = max(totals)
        return self._chance.choice([node.name for node, total in zip(nodes, totals, strict=True) if total == best])

    def totals(
        self, plugins: Sequence[Score], state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache
    ) -> list[int]:
        """Weighted scores of the nodes, summed up over plugins. Raises PluginError."""
        totals = [0] * len(nodes)
        indifferent = self._prepare_scores(plugins, state, pod, nodes, cache)
        for plugin in plugins:
            if plugin.name in indifferent:
                continue
            try:
                scores = [plugin.score(state, pod, node) for node in nodes]
                scores = plugin.normalize(state, pod, scores, nodes)
            except Exception as error:
                message = f'running Score plugins: plugin "{plugin.name}" failed with: {error}'
                raise PluginError(message) from error
            weight = self._profile.weight(plugin)
            for index, score in enumerate(scores):
                totals[index] += score * weight
        return totals

    def _prepare_scores(
        self, plugins: Sequence[Score], state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache
    ) -> set[str]:
        """Those to which all nodes are the same."""
        indifferent = set()
        for plugin in self._pre_scores:
            if isinstance(plugin, Score) and plugin not in plugins and plugin in self._scores:
                # scored by somebody else
                continue
            try:
                if not plugin.pre_score(state, pod, nodes, cache):
                    indifferent.add(plugin.name)
            except Exception as error:
                raise PluginError(f'running PreScore plugin "{plugin.name}": {error}') from error
        return indifferent


def _nothing_left(plugins: list[str]) -> str:
    if len(plugins) == 1:
        return f"node(s) didn't satisfy plugin {plugins[0]}"
    return f"node(s) didn't satisfy plugin(s) [{' '.join(sorted(plugins))}] simultaneously"
