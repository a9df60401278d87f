"""Work that may never end, as on a file system whose server does not answer, on a thread of its own each.

Not on those of `asyncio.to_thread`: they are few, others need them, and a program does not end before they do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


async def on_own_thread(work: Callable[[], T], name: str) -> T:
    """What `work` returns or raises. The thread is for nothing else, before or after. Who is cancelled waits no longer;
    the work goes on."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except Exception as error:
            failure = error  # the name of an except clause ends with it
            tell(lambda: told.set_exception(failure))
        else:
            tell(lambda: told.set_result(result))

    def tell(settle: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(lambda: None if told.done() else settle())

    Thread(target=run, name=name, daemon=True).start()
    return await told
