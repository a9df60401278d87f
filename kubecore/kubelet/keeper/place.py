"""Where a node's keeper is found: files in the node's folder."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SOCKET, _LOCK = "keeper.sock", "keeper.lock"
LOG = "keeper.log"
_WAITING = 8


class NotAlone(Exception):
    """Another keeper of this node runs."""


@contextmanager
def short(root: Path, name: str) -> Iterator[str]:
    """A socket's path may have 107 bytes only; this one's has fewer, wherever the folder is."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def connect(root: Path) -> socket.socket | None:
    """To the node's keeper; None where none runs."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short(root, _SOCKET) as path:
            connection.connect(path)
    except OSError:
        connection.close()
        return None
    return connection


def is_kept(root: Path) -> bool:
    """Whether a keeper runs, so that the node's pods may."""
    try:
        descriptor = os.open(root / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class Place:
    """Taken by the one keeper of a node. Raises NotAlone."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._held = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._held)
            raise NotAlone from None
        path = root / _SOCKET
        path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.setblocking(False)
        with short(root, _SOCKET) as found:
            self.listener.bind(found)
        path.chmod(0o600)
        self.listener.listen(_WAITING)
        self._inode = path.stat().st_ino

    @property
    def found(self) -> bool:
        """A kubelet would find it."""
        try:
            return (self._root / _SOCKET).stat().st_ino == self._inode
        except OSError:
            return False

    def leave(self) -> None:
        if self.found:
            (self._root / _SOCKET).unlink(missing_ok=True)
        self.listener.close()
        os.close(self._held)
