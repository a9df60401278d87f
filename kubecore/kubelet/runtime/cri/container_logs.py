"""Logs that a container runtime writes: followed by what the kernel tells of their folders, rotated by the kubelet.

Upstream: `pkg/kubelet/logs/container_log_manager.go`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from kubecore.clock import Clock
from kubecore.kubelet.folder_watch import FolderWatch
from kubecore.kubelet.logs.writing import LogBook, rotated_files
from kubecore.kubelet.runtime.interface import RuntimeFailure

LOOK_SECONDS = 10.0


class ContainerLogs:
    """`reopen(container_id)` has the runtime write on in a new file of the same name."""

    def __init__(self, book: LogBook, clock: Clock, reopen: Callable[[str], Awaitable[None]]) -> None:
        self._book = book
        self._clock = clock
        self._reopen = reopen
        self._open: dict[str, Path] = {}
        self._watches: dict[Path, FolderWatch] = {}
        book.on_followed.append(self._followed)

    def opened(self, container_id: str, path: Path | None) -> None:
        if path is not None and container_id not in self._open:
            self._open[container_id] = path
            self._book.opened(path)

    def closed(self, container_id: str) -> None:
        path = self._open.pop(container_id, None)
        if path is not None:
            self._book.closed(path)

    def close(self) -> None:
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()

    def _followed(self, path: Path, followed: bool) -> None:
        watch = self._watches.pop(path, None)
        if watch is not None:
            watch.close()
        if followed and path in self._open.values():
            with suppress(OSError):
                self._watches[path] = FolderWatch(path.parent, lambda: self._book.wrote(path), while_written=True)

    async def rotate(self) -> None:
        """Those that have become large. No line is lost: what a runtime has said before it opens the new file goes to
        the old one, which whoever follows reads to its end."""
        for container_id, path in list(self._open.items()):
            with suppress(OSError):
                if path.stat().st_size > self._book.rotation.file_bytes:
                    await self._rotate(container_id, path)

    async def _rotate(self, container_id: str, path: Path) -> None:
        stamp = self._clock.now().strftime("%Y%m%d-%H%M%S%f")
        rotated = path.with_name(f"{path.name}.{stamp}")
        path.rename(rotated)  # noqa: ASYNC240
        try:
            await self._reopen(container_id)
        except RuntimeFailure:
            rotated.rename(path)  # it is tried again later
            return
        self._book.wrote(path)
        old = rotated_files(path)
        for one in old[: max(len(old) - self._book.rotation.files + 1, 0)]:
            one.unlink(missing_ok=True)
