"""Tells when something in a folder changes (man 7 inotify)."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_MODIFY, _CREATE = 0x2, 0x100
_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _DELETE = 0x8, 0x40, 0x80, 0x200
_WANTED = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _DELETE
_LARGEST = 64 * 1024


class FolderWatch:
    """`changed` is called on the event loop after files in the folder were written, moved or removed. Raises OSError
    where the folder cannot be watched."""

    def __init__(self, folder: Path, changed: Callable[[], None], *, while_written: bool = False) -> None:
        """`while_written`: not only when whoever writes a file has closed it."""
        wanted = _WANTED | (_MODIFY | _CREATE if while_written else 0)
        library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0 or library.inotify_add_watch(self._descriptor, os.fsencode(folder), wanted) < 0:
            number = ctypes.get_errno()
            self.close()
            raise OSError(number, os.strerror(number), str(folder))
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._read)

    def close(self) -> None:
        if self._descriptor >= 0:
            with suppress(AttributeError):  # it was never read from
                self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._descriptor, _LARGEST)
        self._changed()
