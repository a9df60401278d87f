"""Requests that a listener of ours (`_native.Front`) hands over to Python: each is a task for as long as it lasts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from kubecore.background_tasks import BackgroundTasks

if TYPE_CHECKING:
    from kubecore._native import Front, Request

log = logging.getLogger(__name__)

_GRACE_SECONDS = 0.2


class HandedOver:
    """`answer` is for each request; what it raises is logged. `name` tells whose tasks they are."""

    def __init__(self, front: Front, answer: Callable[[Request], Coroutine[Any, Any, None]], name: str) -> None:
        self._front = front
        self._answer = answer
        self._name = name
        self._tasks = BackgroundTasks(log)

    def begin(self) -> None:
        asyncio.get_running_loop().add_reader(self._front.fileno(), self._drain)

    async def end(self) -> None:
        """With the listener, whose connections have a moment."""
        loop = asyncio.get_running_loop()
        self._tasks.cancel()
        try:
            await loop.run_in_executor(None, self._front.shutdown, _GRACE_SECONDS)
        finally:
            loop.remove_reader(self._front.fileno())
            self._tasks.cancel()  # those that have come within the moment
        await self._tasks.close()

    def _drain(self) -> None:
        for request in self._front.drain():
            self._tasks.spawn(self._answer(request), f"{self._name} answers {request.method} {request.path}")
