"""The orderly end of a node: its pods end in order of their priority, and the API hears of it (upstream
`pkg/kubelet/nodeshutdown`).

Upstream asks systemd-logind to be told before the machine goes down. This kubelet is told by SIGTERM, which is what
every init system says first.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kubecore.clock import Clock
from kubecore.kubelet.pods.view import Ending

log = logging.getLogger(__name__)

Object = dict[str, Any]

_CRITICAL_PRIORITY = 2_000_000_000
_REASON, _MESSAGE = "Terminated", "Pod was terminated in response to imminent node shutdown."


@dataclass(frozen=True, slots=True)
class ShutdownPeriod:
    """How long pods of a priority have, and those above it up to the next period's."""

    priority: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ShutdownConfig:
    """Seconds: for all pods, and of these for critical ones, which end last; or by priority, in any order. None at all:
    pods are ended with the kubelet, and nobody is told."""

    seconds: float = 0.0
    critical_seconds: float = 0.0
    by_priority: tuple[ShutdownPeriod, ...] = ()

    @property
    def periods(self) -> list[ShutdownPeriod]:
        """In the order they come in; those below the first one's priority share it."""
        if self.by_priority:
            return sorted(self.by_priority, key=lambda one: one.priority)
        if self.seconds <= 0:
            return []
        usual = ShutdownPeriod(0, self.seconds - self.critical_seconds)
        return [usual, ShutdownPeriod(_CRITICAL_PRIORITY, self.critical_seconds)]


class Worker(Protocol):
    """Of a pod."""

    pod: Object

    @property
    def takes_room(self) -> bool: ...

    def end(self, ending: Ending) -> asyncio.Event:
        """Begin with it; set when it has ended for good and its status has been written."""


def in_order(config: ShutdownConfig, workers: Iterable[Worker]) -> list[tuple[float, list[Worker]]]:
    """Who ends together, and how long that may take."""
    periods = config.periods
    groups: list[list[Worker]] = [[] for _ in periods]
    for worker in workers:
        priority = worker.pod["spec"].get("priority") or 0
        groups[max(bisect_right(periods, priority, key=lambda one: one.priority) - 1, 0)].append(worker)
    return [(period.seconds, group) for period, group in zip(periods, groups, strict=True) if group]


async def end_pods(clock: Clock, config: ShutdownConfig, workers: Callable[[], Sequence[Worker]]) -> None:
    """Returns when all have ended, or their time is over."""
    for seconds, group in in_order(config, [one for one in workers() if one.takes_room]):
        ended = []
        for worker in group:
            grace = min(float(worker.pod["spec"].get("terminationGracePeriodSeconds", 30)), seconds)
            ended.append(worker.end(Ending(_REASON, _MESSAGE, grace, disrupted=True)))
        try:
            async with clock.timeout(max(seconds, 0.0)):
                for one in ended:
                    await one.wait()
        except TimeoutError:
            log.warning("node shutdown: pods did not end within %g s", seconds)
