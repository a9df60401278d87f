"""Coroutines that run without a Task for as long as they wait for nothing, or only for the store of this process.

A Task costs several microseconds and two trips through the loop. A coroutine that waits for anything else becomes a
Task at that point, and runs on as one.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from kubecore._native import drive

__all__ = ["TakeOver", "drive", "taking_over"]


TakeOver = Callable[[Coroutine[Any, Any, None], Any], object]


def taking_over(spawn: Callable[[Coroutine[Any, Any, None]], object]) -> TakeOver:
    """For `drive`: what waits for something else goes on as the Task that `spawn` makes of a coroutine, and keeps.
    Nobody cancels what waits for the store: it goes on when that has answered."""
    return lambda begun, waiting: spawn(_as_task(begun, waiting))


async def _as_task(coroutine: Coroutine[Any, Any, None], waiting: Any) -> None:
    await _go_on(coroutine, waiting)


@types.coroutine
def _go_on(coroutine: Coroutine[Any, Any, None], waiting: Any) -> Generator[Any, Any, None]:
    """The rest of a coroutine that has been started already and waits for `waiting`."""
    while True:
        try:
            try:
                value = yield waiting
            except BaseException as error:
                waiting = coroutine.throw(error)
            else:
                waiting = coroutine.send(value)
        except StopIteration:
            return
