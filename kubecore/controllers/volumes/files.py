"""The folders of this host in which volumes keep what is written to them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Protocol


class StoredFiles(Protocol):
    """Folders of this host that hold what is on volumes."""

    async def exists(self, path: Path) -> bool: ...

    async def make(self, path: Path, mode: int) -> None:
        """Make the folder, with this mode whatever the umask; may exist. Raises OSError."""

    async def remove(self, path: Path) -> None:
        """Remove the folder, or file, and all that is in it; need not exist. Raises OSError."""


class HostFiles:
    """The real ones. Removing may take long, so threads do it."""

    async def exists(self, path: Path) -> bool:
        return await asyncio.to_thread(path.exists)

    async def make(self, path: Path, mode: int) -> None:
        await asyncio.to_thread(_make, path, mode)

    async def remove(self, path: Path) -> None:
        await asyncio.to_thread(_remove, path)


def _make(path: Path, mode: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
