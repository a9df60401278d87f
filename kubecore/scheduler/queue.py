"""The order in which pods are tried. (kubernetes `pkg/scheduler/backend/queue`.)"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kubecore.clock import Clock, Timer
from kubecore.scheduler.framework import ClusterEvent
from kubecore.scheduler.pods import PodInfo

_BACK_OFF_SECONDS = 1.0
_BACK_OFF_MAXIMUM = 10.0
# A pod that no event woke for this long is tried again all the same.
_FORGOTTEN_SECONDS = 300.0


@dataclass(slots=True)
class QueuedPod:
    """A pod that waits, and what became of its tries."""

    pod: PodInfo
    added: float
    sequence: int
    attempts: int = 0
    tried: float = 0.0
    refused_by: frozenset[str] = field(default_factory=frozenset)
    gated: bool = False

    def order(self) -> tuple[int, float, int]:
        """Higher priority first, then who waited longer."""
        return (-self.pod.priority, self.added, self.sequence)


class SchedulingQueue:
    """Every pod in `_known` is in exactly one place: `_active`, `_waiting` (back-off), `_stuck` (unschedulable, or
    gated), or `_trying` (given out by `pop`, until `done` or `give_back`).

    Heap entries of a pod that left are stale: they are recognised because `_active` or `_waiting` no longer hold them.
    Events that come while a pod is being tried are remembered, since they may be what it was refused for.
    """

    def __init__(self, clock: Clock, wakes: Callable[[str], frozenset[ClusterEvent]]) -> None:
        self._clock = clock
        self._wakes = wakes
        self._known: dict[str, QueuedPod] = {}
        self._active: set[str] = set()
        self._waiting: dict[str, float] = {}
        self._stuck: set[str] = set()
        self._trying: dict[str, set[ClusterEvent]] = {}
        self._active_heap: list[tuple[tuple[int, float, int], str]] = []
        self._waiting_heap: list[tuple[float, int, str]] = []
        self._sequence = itertools.count()
        self._available = asyncio.Event()
        self._timer: Timer | None = None
        self._timer_due = 0.0
        self._sweep: Timer | None = None

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: str) -> bool:
        return key in self._known

    # ------------------------------------------------------------------ pods come, change and go
    def add(self, pod: PodInfo, *, gated: bool = False) -> None:
        """A pod without node was seen for the first time."""
        if pod.key in self._known:
            self.update(pod, gated=gated)
            return
        entry = QueuedPod(pod, self._clock.monotonic(), next(self._sequence), gated=gated)
        self._known[pod.key] = entry
        if gated:
            self._stick(entry)
        else:
            self._activate(entry)

    def update(self, pod: PodInfo, *, gated: bool = False) -> None:
        """The pod itself changed in what matters to scheduling, which may be all it needed."""
        entry = self._known.get(pod.key)
        if entry is None or entry.pod.uid != pod.uid:
            self.remove(pod.key)
            self.add(pod, gated=gated)
            return
        entry.pod, entry.gated = pod, gated
        if pod.key in self._trying:
            self._trying[pod.key].update(ClusterEvent)
        elif gated:
            self._take_out(pod.key)
            self._stick(entry)
        elif pod.key in self._stuck:
            self._release(entry)

    def remove(self, key: str) -> None:
        """The pod is gone, or has a node."""
        self._known.pop(key, None)
        self._take_out(key)
        self._trying.pop(key, None)

    # ------------------------------------------------------------------ tries
    async def pop(self) -> QueuedPod:
        """The next pod to try; the caller must say `done` or `give_back`."""
        while True:
            while self._active_heap:
                order, key = heapq.heappop(self._active_heap)
                entry = self._known.get(key)
                if entry is None or key not in self._active or entry.order() != order:
                    continue
                self._active.discard(key)
                self._trying[key] = set()
                entry.attempts += 1
                return entry
            self._available.clear()
            await self._available.wait()

    def done(self, entry: QueuedPod) -> None:
        """The pod has a node."""
        if self._known.get(entry.pod.key) is entry:
            self.remove(entry.pod.key)

    def give_back(self, entry: QueuedPod, refused_by: Iterable[str]) -> None:
        """The try failed. Refused by plugins, the pod waits for an event that can help; by nobody (an error of ours or
        the server's), it is tried again after its back-off.
        """
        key = entry.pod.key
        seen = self._trying.pop(key, None)
        if self._known.get(key) is not entry or seen is None:
            return
        entry.tried = self._clock.monotonic()
        entry.refused_by = frozenset(refused_by)
        if entry.gated:
            self._stick(entry)
        elif not entry.refused_by or seen & self._helpful(entry):
            self._release(entry)
        else:
            self._stick(entry)

    def happened(self, event: ClusterEvent) -> None:
        """Wake the pods that were refused by a plugin for which this event changes things."""
        for events in self._trying.values():
            events.add(event)
        for key in list(self._stuck):
            entry = self._known[key]
            if not entry.gated and event in self._helpful(entry):
                self._release(entry)

    def _helpful(self, entry: QueuedPod) -> frozenset[ClusterEvent]:
        return frozenset().union(*(self._wakes(name) for name in entry.refused_by))

    # ------------------------------------------------------------------ places
    def _activate(self, entry: QueuedPod) -> None:
        self._take_out(entry.pod.key)
        self._active.add(entry.pod.key)
        heapq.heappush(self._active_heap, (entry.order(), entry.pod.key))
        self._available.set()

    def _release(self, entry: QueuedPod) -> None:
        """To the active ones, or to back-off if its last try is too fresh."""
        due = entry.tried + self._back_off(entry) if entry.attempts else 0.0
        if due <= self._clock.monotonic():
            self._activate(entry)
            return
        key = entry.pod.key
        self._take_out(key)
        self._waiting[key] = due
        heapq.heappush(self._waiting_heap, (due, entry.sequence, key))
        self._set_timer()

    def _stick(self, entry: QueuedPod) -> None:
        self._stuck.add(entry.pod.key)
        if self._sweep is None and not entry.gated:
            self._sweep = self._clock.call_later(_FORGOTTEN_SECONDS, self._sweep_stuck)

    def _take_out(self, key: str) -> None:
        self._active.discard(key)
        self._waiting.pop(key, None)
        self._stuck.discard(key)

    @staticmethod
    def _back_off(entry: QueuedPod) -> float:
        return min(_BACK_OFF_SECONDS * 2.0 ** (entry.attempts - 1), _BACK_OFF_MAXIMUM)

    # ------------------------------------------------------------------ time
    def _set_timer(self) -> None:
        if not self._waiting_heap:
            return
        due = self._waiting_heap[0][0]
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._clock.call_later(max(0.0, due - self._clock.monotonic()), self._back_off_ended)

    def _back_off_ended(self) -> None:
        self._timer = None
        # timers may fire a hair early; what is due within the same millisecond goes along
        now = self._clock.monotonic() + 0.001
        while self._waiting_heap and self._waiting_heap[0][0] <= now:
            due, _, key = heapq.heappop(self._waiting_heap)
            if self._waiting.get(key) == due:
                self._activate(self._known[key])
        self._set_timer()

    def _sweep_stuck(self) -> None:
        self._sweep = None
        now = self._clock.monotonic()
        for key in list(self._stuck):
            entry = self._known[key]
            if not entry.gated and now - entry.tried >= _FORGOTTEN_SECONDS:
                self._release(entry)
        if any(not self._known[key].gated for key in self._stuck):
            self._sweep = self._clock.call_later(_FORGOTTEN_SECONDS, self._sweep_stuck)

    def close(self) -> None:
        for timer in (self._timer, self._sweep):
            if timer is not None:
                timer.cancel()
        self._timer = self._sweep = None
