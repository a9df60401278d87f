"""Runs handlers' coroutines without a Task where that can be: most requests are answered at once, or after one write,
and those are resumed straight from the writer's batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from kubecore.driving import drive, taking_over

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore.apiserver.handlers.chain import Handlers
    from kubecore.apiserver.storage.interface import Storage
    from kubecore.apiserver.tracing.requests import RequestTraces

T = TypeVar("T")

# The loop keeps weak references to tasks only.
_running: set[asyncio.Task[None]] = set()


class Driver:
    """Hands batches of requests to the handler chain; what a batch writes goes to the store together."""

    def __init__(self, handlers: Handlers, storage: Storage, traces: RequestTraces | None = None) -> None:
        self._handle = handlers.handle
        self._storage = storage
        self._traces = traces

    def handle_batch(self, requests: Sequence[_native.Request]) -> None:
        self._storage.hold()
        try:
            for request in requests:
                if self._traces is None or (span := self._traces.begin(request)) is None:
                    drive(self._handle(request), _go_on_as_task)
                else:
                    # A Task of its own, since what is done within it must find the span.
                    _keep(asyncio.get_running_loop().create_task(self._traces.handle(span, self._handle(request))))
        finally:
            self._storage.hand_over()


def _spawn(coroutine: Coroutine[Any, Any, None]) -> None:
    _keep(asyncio.get_running_loop().create_task(coroutine, name="request"))


_go_on_as_task = taking_over(_spawn)


def _keep(task: asyncio.Task[None]) -> None:
    _running.add(task)
    task.add_done_callback(_running.discard)


def together(coroutines: Sequence[Coroutine[Any, Any, None]]) -> asyncio.Future[None]:
    """Starts all of them, each up to where it waits, and ends with the last. They must not raise."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left = len(coroutines)

    async def counted(coroutine: Coroutine[Any, Any, None]) -> None:
        nonlocal left
        await coroutine
        left -= 1
        if not left and not done.done():
            done.set_result(None)

    if not coroutines:
        done.set_result(None)
    for one in coroutines:
        drive(counted(one), _go_on_as_task)
    return done


async def to_its_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """What it returns or raises. It goes on when whoever waits for it is cancelled: a write cannot be taken back, and
    what belongs to it is to be done, too."""
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    async def kept() -> None:
        try:
            result = await coroutine
        except Exception as error:
            if done.done():
                raise
            done.set_exception(error)
        else:
            if not done.done():
                done.set_result(result)

    drive(kept(), _go_on_as_task)
    return await done


async def finish() -> None:
    """Waits for the tasks there are; at shutdown, after nothing new comes in."""
    await asyncio.gather(*_running, return_exceptions=True)
