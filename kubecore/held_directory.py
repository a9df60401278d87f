"""One process at a time per directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path


class DirectoryInUse(Exception):
    """Another process, or another part of this one, holds the directory."""


class HeldDirectory:
    """Made where it is missing, and held until `release` or the end of the process, however it ends.

    Raises DirectoryInUse, which names the process that holds it, and OSError when it cannot be written to.
    """

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory)) from None
        self._descriptor: int | None = os.open(directory / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            self.release()
            raise DirectoryInUse(f"{directory} is in use by process {holder or 'unknown'}") from None
        # Only told to people; the lock itself is the kernel's and dies with the process.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
