"""Terminals that an OCI runtime makes within a container: it sends the master's side over a socket."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from kubecore.kubelet.runtime.processes import above_standard, close_all

NAME = "console.sock"


class Console:
    """A socket in a `folder` of the container's, where the program finds it by its name: a socket's path may have 107
    bytes only."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._socket.bind(f"/proc/self/fd/{descriptor}/{name}")
        finally:
            os.close(descriptor)
        self._socket.listen(1)
        self._socket.setblocking(False)

    def take(self) -> int:
        """The master, once the program has ended well. Raises OSError."""
        connection, _ = self._socket.accept()
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
        if not descriptors:
            raise OSError(0, "the OCI runtime has sent no terminal")
        master, *others = descriptors
        close_all(*others)
        os.set_inheritable(master, False)
        os.set_blocking(master, False)
        return above_standard(master)

    def close(self) -> None:
        self._socket.close()
        with suppress(OSError):
            self._path.unlink()
