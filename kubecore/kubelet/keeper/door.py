"""How a cluster that starts anew comes into the network that its pods have gone on in: a keeper hands it out.

Whoever may enter the node's folder may connect, as with the keeper itself, and gets the two descriptors of the network.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path

from kubecore.kubelet.keeper.place import short
from kubecore.node_network import NodeNetwork

_NAME = "network.sock"
_PATIENCE_SECONDS = 5.0
_WAITING = 8


class Door:
    """To a network, as long as the keeper that has it runs."""

    def __init__(self, root: Path, network: NodeNetwork) -> None:
        self._path, self._network = root / _NAME, network
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        with short(root, _NAME) as path:
            self._listener.bind(path)
        self._path.chmod(0o600)
        self._listener.listen(_WAITING)
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._hand_out)

    def _hand_out(self) -> None:
        with suppress(OSError):  # it has gone again
            connection, _ = self._listener.accept()
            with connection:
                socket.send_fds(connection, [b"\0"], list(self._network.descriptors))

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listener.close()
        self._path.unlink(missing_ok=True)


def network_kept_at(root: Path) -> NodeNetwork | None:
    """What the keeper of the node with this folder has; None where there is none, or none that answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE_SECONDS)
        try:
            with short(root, _NAME) as path:
                connection.connect(path)
            _, found, _, _ = socket.recv_fds(connection, 1, 2)
        except OSError:
            return None
    if len(found) == 2:
        return NodeNetwork(*found)
    for descriptor in found:
        os.close(descriptor)
    return None
