"""Pods that have a node but must wait to be bound until the plugins that hold them say so.

(kubernetes `framework/runtime/waiting_pods_map.go`.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

from kubecore.api import durations
from kubecore.clock import Clock, Timer
from kubecore.scheduler.framework import Refused
from kubecore.scheduler.pods import PodInfo

_LONGEST_WAIT_SECONDS = 15 * 60.0


class WaitingPod:
    """Waits for each plugin in `pending` to allow it, or for one to reject it or run out of patience."""

    def __init__(self, pod: PodInfo, waits: Mapping[str, float], clock: Clock) -> None:
        self.pod = pod
        self._outcome: asyncio.Future[Refused | None] = asyncio.get_running_loop().create_future()
        self._timers: dict[str, Timer] = {}
        for plugin, seconds in waits.items():
            self._timers[plugin] = self._give_up_after(clock, plugin, min(seconds, _LONGEST_WAIT_SECONDS))

    def _give_up_after(self, clock: Clock, plugin: str, seconds: float) -> Timer:
        message = f"rejected due to timeout after waiting {durations.text(seconds)} at plugin {plugin}"
        return clock.call_later(seconds, lambda: self.reject(plugin, message))

    @property
    def pending(self) -> list[str]:
        """The plugins that have not allowed the pod yet."""
        return list(self._timers)

    def allow(self, plugin: str) -> None:
        """The plugin has no objection any more."""
        timer = self._timers.pop(plugin, None)
        if timer is not None:
            timer.cancel()
        if not self._timers:
            self._end(None)

    def reject(self, plugin: str, message: str) -> None:
        """The pod is not to be bound; it goes back to the queue as one that `plugin` refused."""
        self._end(Refused(message, plugin))

    def _end(self, outcome: Refused | None) -> None:
        for timer in self._timers.values():
            timer.cancel()
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    async def outcome(self) -> Refused | None:
        return await self._outcome


class WaitingPods:
    """Those of all profiles, by uid."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pods: dict[str, WaitingPod] = {}

    def get(self, uid: str) -> WaitingPod | None:
        return self._pods.get(uid)

    def __iter__(self) -> Iterator[WaitingPod]:
        return iter(list(self._pods.values()))

    def hold(self, pod: PodInfo, waits: Mapping[str, float]) -> None:
        """Let the pod wait for those plugins, each for at most so many seconds."""
        self._pods[pod.uid] = WaitingPod(pod, waits, self._clock)

    async def released(self, pod: PodInfo) -> Refused | None:
        """Wait until the pod may be bound, or why it may not."""
        waiting = self._pods.get(pod.uid)
        if waiting is None:
            return None
        try:
            return await waiting.outcome()
        finally:
            del self._pods[pod.uid]
