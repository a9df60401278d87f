"""Records events as the newer of Kubernetes' two recorders does it, which kube-scheduler uses: as those of
events.k8s.io/v1 are, with the time to the microsecond, and as a series from the second one on that differs in nothing
but its words. They are written in their core form, which is how they are stored: that takes half the time.

Rules and numbers are client-go's `tools/events/event_broadcaster.go`: a series is written when it begins, and as it has
become when it goes on for half an hour and when nothing was added for six minutes.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Client, Object
from kubecore.client.events import EventRecorder, reference, remember
from kubecore.clock import Clock

_FINISH_SECONDS = 360.0
_REFRESH_SECONDS = 1800.0

_Key = tuple[Any, ...]


@dataclass(slots=True)
class _Told:
    """What was told of one key: the first event, how often, when last, and how often according to what was written."""

    event: Object
    last: float
    count: int = 1
    written: int = 1

    def series(self) -> Object:
        self.written = self.count
        return self.event


class SeriesCorrelator:
    """Decides what becomes of an event, without I/O: new, the begin of a series, or counted only. Memory is bounded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._single: OrderedDict[_Key, _Told] = OrderedDict()
        self._series: OrderedDict[_Key, _Told] = OrderedDict()

    @property
    def has_series(self) -> bool:
        return bool(self._series)

    def correlate(self, event: Object) -> tuple[Object, bool] | None:
        key, now = _key(event), self._clock.monotonic()
        if (known := self._series.get(key)) is not None:
            self._count(known, now)
            self._series.move_to_end(key)
            return None
        known = self._single.get(key)
        if known is None or now - known.last > _FINISH_SECONDS:
            remember(self._single, key, _Told(event, now))
            return event, False
        del self._single[key]
        remember(self._series, key, known)
        self._count(known, now)
        return known.series(), True

    def finished(self) -> list[Object]:
        """Series to which nothing was added for a while, as they have become; the next such event is a new one."""
        now = self._clock.monotonic()
        over = [key for key, one in self._series.items() if now - one.last > _FINISH_SECONDS]
        return [one.series() for one in map(self._series.pop, over) if one.written != one.count]

    def grown(self) -> list[Object]:
        """Those that go on and have grown since they were written."""
        return [one.series() for one in self._series.values() if one.written != one.count]

    def _count(self, known: _Told, now: float) -> None:
        known.count, known.last = known.count + 1, now
        observed = meta.format_micro_time(self._clock.now())
        # a new one each time: what waits to be written must not change
        known.event = {**known.event, "series": {"count": known.count, "lastObservedTime": observed}}


class SeriesRecorder(EventRecorder):
    """As EventRecorder. What is told needs an `action`."""

    def __init__(self, client: Client, clock: Clock, component: str) -> None:
        self._told = SeriesCorrelator(clock)
        super().__init__(client, clock, component, host=f"{component}-{socket.gethostname()}", correlator=self._told)
        self._writing_series: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Drop what is not written yet."""
        await super().stop()
        if self._writing_series is not None:
            self._writing_series.cancel()
            await asyncio.wait([self._writing_series])

    def _make(self, obj: Object, type: str, reason: str, message: str) -> Object:
        now = self._clock.now()
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": self._name(obj, now), "namespace": meta.namespace(obj) or "default"},
            "involvedObject": reference(obj),
            "reason": reason,
            "message": message[:1024],
            "source": {},
            "firstTimestamp": None,
            "lastTimestamp": None,
            "type": type,
            "eventTime": meta.format_micro_time(now),
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }

    def _put(self, correlated: tuple[Object, bool]) -> None:
        super()._put(correlated)
        if self._told.has_series and self._writing_series is None:
            self._writing_series = asyncio.create_task(self._write_series(), name=f"event series of {self._component}")

    async def _write_series(self) -> None:
        refreshed = self._clock.monotonic()
        while self._told.has_series:
            await self._clock.sleep(_FINISH_SECONDS)
            grown = self._told.finished()
            if self._clock.monotonic() - refreshed >= _REFRESH_SECONDS:
                refreshed = self._clock.monotonic()
                grown += self._told.grown()
            for event in grown:
                super()._put((event, True))
        self._writing_series = None

    def _counted(self, event: Object) -> dict[str, Any]:
        return {"series": event["series"]}


def _key(event: Object) -> _Key:
    """All but the words and the time. An object that has changed is another one."""
    about, related = event["involvedObject"], event.get("related")
    return (
        event["type"],
        event["reason"],
        event.get("action"),
        *map(about.get, _REFERENCE),
        *(map(related.get, _REFERENCE) if related else ()),
    )


_REFERENCE = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
