"""Whether the event loop goes on: asked by a thread, since a loop that hangs cannot tell.

(kubernetes `pkg/kubelet/kubelet.go`, SyncLoopHealthCheck.)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

_EVERY_SECONDS, _PATIENCE_SECONDS = 60.0, 120.0


class LoopWatch:
    """`tell` is called in the thread, with whether the loop has answered in time. `wait`: for an event, for so many
    seconds at most."""

    def __init__(
        self,
        tell: Callable[[bool], None],
        *,
        every: float = _EVERY_SECONDS,
        patience: float = _PATIENCE_SECONDS,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self._tell = tell
        self._wait = wait
        self._every = every
        self._patience = patience
        self._over = threading.Event()

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._watch, args=(loop,), name="kubelet loop watch", daemon=True).start()

    def stop(self) -> None:
        self._over.set()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._over.wait(self._every):
            answered = threading.Event()
            try:
                loop.call_soon_threadsafe(answered.set)
            except RuntimeError:  # it has ended
                return
            self._tell(self._wait(answered, self._patience))
