"""Address ranges held by one cluster at a time.

A range is held by an abstract Unix socket named after it. As addresses do, such a name belongs to the network
namespace; it is the same for every user in there, and gone with its process, however that ends.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence


class RangeError(Exception):
    """A range cannot be had; the text is for the user."""


class Claim:
    """A cluster's hold on a range, until `release` or the process's end."""

    def __init__(self, network: str) -> None:
        """Raises RangeError when another cluster of this host has it."""
        self.network = network
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        name = f"\0kubecore/range/{network}".encode()
        try:
            self._socket.bind(name)
            # So that whoever would like to have it can find out who has it.
            self._socket.listen()
        except OSError as error:
            self._socket.close()
            if error.errno != errno.EADDRINUSE:
                raise
            who = f"another cluster on this machine{_process_of(name)}"
            raise RangeError(f"{who} has the addresses {network} now") from error

    def release(self) -> None:
        self._socket.close()


def _process_of(name: bytes) -> str:
    """Who listens there, in words; "" where that cannot be found out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(name)
            credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return ""
    process, _, _ = struct.unpack("3i", credentials)
    return f" (process {process})" if process else ""


def claim_first(networks: Sequence[str]) -> Claim:
    """The first that nobody has. Raises RangeError when all are taken."""
    for network in networks:
        try:
            return Claim(network)
        except RangeError:
            if len(networks) == 1:  # it was asked for
                raise
    raise RangeError(
        f"no addresses are left for one more cluster on this machine: all {len(networks)} ranges are taken"
    )
