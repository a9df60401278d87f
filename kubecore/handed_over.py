"""Requests that a listener of ours (`_native.Front`) hands over to Python: each is a task for as long as it lasts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubecore._native import Front, Request

log = logging.getLogger(__name__)

_GRACE_SECONDS = 0.2


class HandedOver:
    """`answer` is for each request; what it raises is logged. `name` tells whose tasks they are."""

    def __init__(self, front: Front, answer: Callable[[Request], Awaitable[None]], name: str) -> None:
        self._front = front
        self._answer = answer
        self._name = name
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        asyncio.get_running_loop().add_reader(self._front.fileno(), self._drain)

    async def end(self) -> None:
        """With the listener, whose connections have a moment."""
        loop = asyncio.get_running_loop()
        self._cancel_all()
        try:
            await loop.run_in_executor(None, self._front.shutdown, _GRACE_SECONDS)
        finally:
            loop.remove_reader(self._front.fileno())
            self._cancel_all()  # those that have come within the moment
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _cancel_all(self) -> None:
        for task in self._tasks:
            if not task.cancelling():  # a second time would break off what it does at its end
                task.cancel()

    def _drain(self) -> None:
        for request in self._front.drain():
            task = asyncio.create_task(self._guarded(request), name=f"{self._name} answers {request.path}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _guarded(self, request: Request) -> None:
        try:
            await self._answer(request)
        except Exception:
            log.exception("%s: %s %s failed", self._name, request.method, request.path)
