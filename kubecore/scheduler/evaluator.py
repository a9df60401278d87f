"""Runs the plugins over the nodes: which node fits, and which of those is best."""

from __future__ import annotations

import random
from collections.abc import Sequence

from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.framework import (
    CycleState,
    Decision,
    Diagnosis,
    Filter,
    Plugin,
    PluginError,
    PreFilter,
    Score,
)
from kubecore.scheduler.pods import PodInfo


def nodes_to_find(count: int) -> int:
    """How many feasible nodes are enough among `count`: all up to 100, then a share that shrinks to 5 %."""
    if count < 100:
        return count
    percentage = max(50 - count // 125, 5)
    return max(count * percentage // 100, 100)


class PluginEvaluator:
    """Searches on each time from where the last search ended, so that all nodes get their share of pods."""

    def __init__(self, plugins: Sequence[Plugin], chance: random.Random | None = None) -> None:
        self._pre_filters = [one for one in plugins if isinstance(one, PreFilter)]
        self._filters = [one for one in plugins if isinstance(one, Filter)]
        self._scores = [one for one in plugins if isinstance(one, Score)]
        self._chance = chance or random.Random()
        self._start = 0

    def evaluate(self, pod: PodInfo, cache: Cache) -> Decision:
        """Raises PluginError."""
        state = CycleState()
        nodes = cache.nodes()
        diagnosis = Diagnosis(len(nodes))
        feasible: list[NodeInfo] = []
        if nodes:
            candidates = self._pre_filter(state, pod, cache, diagnosis)
            feasible = self._filter(state, pod, candidates, diagnosis)
        if not feasible:
            return Decision(state, diagnosis=diagnosis)
        return Decision(state, node=self._choose(state, pod, feasible, cache))

    def _pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache, diagnosis: Diagnosis) -> Sequence[NodeInfo]:
        """The nodes that are left to look at; none when the diagnosis holds for all of them."""
        names: frozenset[str] | None = None
        narrowed: list[str] = []
        for plugin in self._pre_filters:
            try:
                result = plugin.pre_filter(state, pod, cache)
            except Exception as error:
                raise PluginError(f'running PreFilter plugin "{plugin.name}": {error}') from error
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
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], diagnosis: Diagnosis
    ) -> list[NodeInfo]:
        filters = [one for one in self._filters if one.name not in state.skipped]
        enough = nodes_to_find(len(nodes))
        feasible: list[NodeInfo] = []
        start = self._start % len(nodes) if nodes else 0
        seen = 0
        for index in range(len(nodes)):
            node = nodes[(start + index) % len(nodes)]
            seen += 1
            for plugin in filters:
                try:
                    reasons = plugin.filter(state, pod, node)
                except Exception as error:
                    raise PluginError(f'running "{plugin.name}" filter plugin: {error}') from error
                if reasons:
                    diagnosis.refused(plugin.name, reasons)
                    break
            else:
                feasible.append(node)
                if len(feasible) >= enough:
                    break
        self._start = start + seen
        return feasible

    def _choose(self, state: CycleState, pod: PodInfo, nodes: list[NodeInfo], cache: Cache) -> str:
        if len(nodes) == 1:
            return nodes[0].name
        totals = self.totals(self._scores, state, pod, nodes, cache)
        best = max(totals)
        return self._chance.choice([node.name for node, total in zip(nodes, totals, strict=True) if total == best])

    @staticmethod
    def totals(
        plugins: Sequence[Score], state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache
    ) -> list[int]:
        """Weighted scores of the nodes, summed up over plugins. Raises PluginError."""
        totals = [0] * len(nodes)
        for plugin in plugins:
            try:
                if not plugin.pre_score(state, pod, nodes, cache):
                    continue
            except Exception as error:
                raise PluginError(f'running PreScore plugin "{plugin.name}": {error}') from error
            try:
                scores = [plugin.score(state, pod, node) for node in nodes]
                scores = plugin.normalize(state, pod, scores, nodes)
            except Exception as error:
                message = f'running Score plugins: plugin "{plugin.name}" failed with: {error}'
                raise PluginError(message) from error
            for index, score in enumerate(scores):
                totals[index] += score * plugin.weight
        return totals


def _nothing_left(plugins: list[str]) -> str:
    if len(plugins) == 1:
        return f"node(s) didn't satisfy plugin {plugins[0]}"
    return f"node(s) didn't satisfy plugin(s) [{' '.join(sorted(plugins))}] simultaneously"
