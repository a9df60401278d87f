"""Starts of containers that are under way when their pod is to end.

Those of its containers that run are stopped at once. One that comes to be meanwhile is ended as they are: it would
otherwise be killed without a word. One that does not come is given up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from kubecore.background_tasks import done_before, see_out
from kubecore.clock import Clock

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 5.0


class LateStarts:
    """Of one pod, by the container's name. `leaving` is set when the pod is to end."""

    def __init__(self, clock: Clock, leaving: asyncio.Event) -> None:
        self._clock = clock
        self._leaving = leaving
        self._late: dict[str, tuple[asyncio.Task[None], float]] = {}

    async def in_time(self, name: str, start: Coroutine[Any, Any, None]) -> bool:
        """Do it; False when the pod is to end first, and then it goes on, which is `settled` later. Raises what it
        raises. Cancelled, it leaves nothing running."""
        starting = asyncio.create_task(start, name=f"kubelet starting {name}")
        try:
            over = await done_before(starting, self._leaving)
        except asyncio.CancelledError:
            await see_out(starting)
            raise
        if over:
            starting.result()
        else:
            self._late[name] = (starting, self._clock.monotonic() + _PATIENCE_SECONDS)
        return over

    async def settled(self, name: str, *, at_once: bool) -> None:
        """Wait until a late start has come to something, or is given up. May be cancelled and called anew."""
        if name not in self._late:
            return
        starting, until = self._late[name]
        if not at_once:
            with suppress(TimeoutError):
                async with self._clock.timeout(max(until - self._clock.monotonic(), 0.0)):
                    await asyncio.wait((starting,))
        if not starting.cancelling():  # a second time would break off what it does at its end
            starting.cancel()
        await asyncio.wait((starting,))
        self._forget(name)

    async def close(self) -> None:
        """Give up all, and wait for their end."""
        await see_out(*(starting for starting, _ in self._late.values()))
        for name in list(self._late):
            self._forget(name)

    def _forget(self, name: str) -> None:
        starting, _ = self._late.pop(name)
        if not starting.cancelled() and (error := starting.exception()) is not None:
            log.error("%s failed", starting.get_name(), exc_info=error)
