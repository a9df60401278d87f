"""What is told of a pod while something is done for it, of which the outcome would be told otherwise."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from kubecore.background_tasks import BackgroundTasks, see_out
from kubecore.clock import Clock, Timer

T = TypeVar("T")

log = logging.getLogger(__name__)

_LONG_SECONDS = 0.3
"""What takes less costs no status: the next one tells of it."""


class LongWork:
    """Of one pod, a piece at a time. `tell` writes the pod's status, if it is another."""

    def __init__(self, clock: Clock, tell: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._clock = clock
        self._tell = tell
        self._tasks = BackgroundTasks(log)
        self._working = False
        self._timer: Timer | None = None
        self._telling: asyncio.Task[None] | None = None

    async def of(self, work: Coroutine[Any, Any, T], *, told: bool = False) -> T:
        """Do it. `told`: what there is to tell at its beginning has been."""
        self._working = True
        if not told:
            self.changed()
        try:
            done = await work
            self._end()
            if self._telling is not None:  # no other status is to be written meanwhile
                await asyncio.wait((self._telling,))
            return done
        finally:
            self._end()
            if self._telling is not None:
                await see_out(self._telling)
                self._telling = None

    def changed(self) -> None:
        """Something of the pod has: it is told when the work goes on for longer."""
        if self._working and self._timer is None:
            self._timer = self._clock.call_later(_LONG_SECONDS, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._telling is not None and not self._telling.done():
            self.changed()
        else:
            self._telling = self._tasks.spawn(self._tell(), "kubelet telling of long work")

    def _end(self) -> None:
        self._working = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
