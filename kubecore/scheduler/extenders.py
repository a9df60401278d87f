"""All extenders of a scheduler, asked one after the other. (kubernetes `pkg/scheduler/schedule_one.go`.)"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.extender import Extender, ExtenderError, is_interested
from kubecore.scheduler.framework import MAXIMUM_SCORE, Diagnosis, Hopeless, Plugin
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.preemption import Candidate

log = logging.getLogger(__name__)

_MAXIMUM = 10
"""Of an extender's score."""


class RefusedByExtender(Plugin):
    """Stands for extenders among the plugins that refuse pods: whatever happens may have changed their mind."""

    name = "Extender"


class Extenders:
    """Those whose failure may be ignored come last."""

    def __init__(self, extenders: Sequence[Extender] = ()) -> None:
        self._extenders = sorted(extenders, key=lambda one: one.config.ignorable)

    def for_pod(self, pod: PodInfo) -> Extenders | None:
        """Those that are interested in the pod, if any."""
        chosen = [one for one in self._extenders if is_interested(one, pod)]
        return Extenders(chosen) if chosen else None

    async def close(self) -> None:
        for one in self._extenders:
            await one.close()

    async def filter(self, pod: PodInfo, nodes: list[NodeInfo], diagnosis: Diagnosis) -> list[NodeInfo]:
        """The nodes that are left; why others are not goes to the diagnosis. Raises ExtenderError."""
        before = len(nodes)
        for extender in self._extenders:
            if not nodes:
                break
            try:
                found = await extender.filter(pod, nodes)
            except ExtenderError as error:
                _unless_ignorable(extender, error)
                continue
            for name, why in found.hopeless.items():
                diagnosis.refused_node(name, RefusedByExtender.name, Hopeless((why,)))
            for name, why in found.failed.items():
                diagnosis.refused_node(name, RefusedByExtender.name, (why,))
            nodes = found.nodes
        if len(nodes) != before:
            diagnosis.plugins.add(RefusedByExtender.name)
        return nodes

    async def scores(self, pod: PodInfo, nodes: Sequence[NodeInfo]) -> list[int]:
        """What to add to the totals of the nodes. An extender that fails has no say."""
        totals = dict.fromkeys((node.name for node in nodes), 0)
        asked = [one for one in self._extenders if one.config.prioritize_verb]
        answers = await asyncio.gather(*(one.prioritize(pod, nodes) for one in asked), return_exceptions=True)
        for extender, answer in zip(asked, answers, strict=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, ExtenderError):
                    raise answer
                log.info("extender %s has no say in scores: %s", extender.config.url, answer)
                continue
            for name, score in answer.items():
                if name in totals:
                    totals[name] += score * extender.config.weight * (MAXIMUM_SCORE // _MAXIMUM)
        return list(totals.values())

    @property
    def preempt(self) -> bool:
        """Whether any has a say in preemption."""
        return any(one.config.preempt_verb for one in self._extenders)

    async def candidates(self, pod: PodInfo, candidates: list[Candidate], cache: Cache) -> list[Candidate]:
        """Those that are left, with the victims that extenders want. Raises ExtenderError."""
        for extender in self._extenders:
            if not extender.config.preempt_verb or not candidates:
                continue
            try:
                found = await extender.preempt(pod, candidates, cache)
            except ExtenderError as error:
                _unless_ignorable(extender, error)
                continue
            useless = next((one for one in found if not one.victims), None)
            if useless is not None and not extender.config.ignorable:
                raise ExtenderError(f'expected at least one victim pod on node "{useless.node}"')
            candidates = [one for one in found if one.victims]
        return candidates

    async def bind(self, pod: PodInfo, node: str) -> bool:
        """Whether one of them did it. Raises ExtenderError."""
        for extender in self._extenders:
            if not extender.config.bind_verb:
                continue
            try:
                await extender.bind(pod, node)
            except ExtenderError as error:
                _unless_ignorable(extender, error)
                continue
            return True
        return False


def _unless_ignorable(extender: Extender, error: ExtenderError) -> None:
    if not extender.config.ignorable:
        raise error
    log.info("going on without extender %s: %s", extender.config.url, error)
