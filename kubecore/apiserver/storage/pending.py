"""The awaitable a write hands out: finished by the writer in batches, on the event loop's thread.

It waits like an asyncio Future inside a Task. Outside one, whoever drives a coroutine by hand sets `on_done` and is
called back at once when the write is durable, without a trip through the loop's queue: most requests need no Task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Pending(Generic[T]):
    """A result that comes later; resolved once, on the loop's thread."""

    __slots__ = ("_asyncio_future_blocking", "_callbacks", "_done", "_error", "_loop", "_result", "on_done")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False
        self._callbacks: list[tuple[Callable[[Any], object], Context | None]] | None = None
        self._done = False
        self._error: BaseException | None = None
        self._result: T | None = None
        self.on_done: Callable[[], None] | None = None

    def __await__(self) -> Generator[Any, None, T]:
        if not self._done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    __iter__ = __await__

    def resolve(self, result: T | None, error: BaseException | None) -> None:
        """Ends the wait; ignored when the waiter has given up."""
        if self._done:
            return
        self._done = True
        self._result = result
        self._error = error
        if self.on_done is not None:
            self.on_done()
        if self._callbacks is not None:
            for callback, context in self._callbacks:
                self._loop.call_soon(callback, self, context=context)
            self._callbacks = None

    # --- what asyncio.Task asks of a future

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def done(self) -> bool:
        return self._done

    def cancelled(self) -> bool:
        return isinstance(self._error, asyncio.CancelledError)

    def cancel(self, msg: Any = None) -> bool:
        """The waiter gives up; the write itself goes on."""
        if self._done:
            return False
        self.resolve(None, asyncio.CancelledError(*(() if msg is None else (msg,))))
        return True

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def exception(self) -> BaseException | None:
        return self._error

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        if self._done:
            self._loop.call_soon(callback, self, context=context)
        elif self._callbacks is None:
            self._callbacks = [(callback, context)]
        else:
            self._callbacks.append((callback, context))

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        before = self._callbacks or []
        kept = [entry for entry in before if entry[0] != callback]
        self._callbacks = kept or None
        return len(before) - len(kept)
