"""Tasks beside what started them: named, held for as long as they run, and told of in the log when they fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_CUT_SECONDS = 0.5
AFTER_CUT_SECONDS = 2.5
"""For an end that is not to be waited for any longer: what takes no longer than an end should is done properly."""


async def unless(happened: asyncio.Event, work: Coroutine[Any, Any, T]) -> tuple[bool, T | None]:
    """Do the work, or cancel it when something has happened first: whether it was done, and what came of it. Raises
    what it raises. Cancelled, it leaves nothing running, however long the work takes to end."""
    working = asyncio.create_task(work)
    try:
        return (True, working.result()) if await done_before(working, happened) else (False, None)
    finally:
        await see_out(working)


async def done_before(working: asyncio.Task[Any], happened: asyncio.Event) -> bool:
    """Wait until it is done or something has happened: whether it is. It goes on in any case."""
    waiting = asyncio.create_task(happened.wait())
    try:
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
        return working.done()
    finally:
        await see_out(waiting)


async def see_out(*tasks: asyncio.Task[Any]) -> None:
    """Cancel them and wait for their end. Cancelled meanwhile, it cancels them once more, in case it is their cleaning
    up that takes long, and waits all the same."""
    cancelled: asyncio.CancelledError | None = None
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


async def ended(tasks: Collection[asyncio.Task[None]], seconds: float, cut: asyncio.Event, log: logging.Logger) -> None:
    """They have been cancelled: wait for their end, so long, and but a moment once the wait is cut. Those that are late
    are told of and cancelled again, in case it was their cleaning up that takes long."""
    if not tasks:
        return
    done, _ = await unless(cut, asyncio.wait(tasks, timeout=seconds))
    if not done:
        await asyncio.wait(tasks, timeout=min(seconds, AFTER_CUT_SECONDS))
    late = [task for task in tasks if not task.done()]
    for task in late:
        log.warning("%s did not end in time", task.get_name())
        task.cancel()
    if late:  # what they hold must not be another's while they end
        await asyncio.wait(late, timeout=_CUT_SECONDS)


class BackgroundTasks:
    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def cancel(self) -> None:
        for task in self._running:
            if not task.cancelling():  # a second time would break off what it does at its end
                task.cancel()

    async def close(self) -> None:
        """Cancels what runs and waits for its end."""
        self.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("%s failed", task.get_name(), exc_info=error)
