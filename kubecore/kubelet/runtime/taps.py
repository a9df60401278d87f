"""Copies of a container's output for clients that are attached to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable


class Tap:
    """The writing end of a pipe to one client.

    What the client has not taken yet waits in the pipe, and then here: `full` says so, and nothing more should be given
    until `on_room` is called.
    """

    def __init__(self, descriptor: int, *, on_room: Callable[[], None], on_closed: Callable[[], None]) -> None:
        """`on_closed` is called once: the client has gone, or all has been written after `finish`."""
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._waiting = bytearray()
        self._on_room = on_room
        self._on_closed = on_closed
        self._finishing = False
        self._loop = asyncio.get_running_loop()

    @property
    def open(self) -> bool:
        return self._descriptor >= 0

    @property
    def full(self) -> bool:
        return bool(self._waiting)

    def write(self, data: bytes) -> None:
        if self._descriptor < 0:
            return
        if not self._waiting:
            data = data[self._write(data) :]
            if data and self._descriptor >= 0:
                self._loop.add_writer(self._descriptor, self._writable)
        self._waiting += data

    def finish(self) -> None:
        """Nothing more comes."""
        self._finishing = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        if self._descriptor < 0:
            return
        self._loop.remove_writer(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        self._waiting.clear()
        self._on_closed()

    def _write(self, data: bytes | bytearray) -> int:
        """How much was written; all of it, so to speak, when nobody reads any more."""
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError:
            self.close()
            return len(data)

    def _writable(self) -> None:
        del self._waiting[: self._write(self._waiting)]
        if self._waiting or self._descriptor < 0:
            return
        self._loop.remove_writer(self._descriptor)
        if self._finishing:
            self.close()
        else:
            self._on_room()
