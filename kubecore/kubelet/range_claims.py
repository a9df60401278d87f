"""Address ranges held by one cluster at a time.

A range is held by an abstract Unix socket named after it. As addresses do, such a name belongs to the network
namespace; it is the same for every user in there, and gone with its process, however that ends.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence


class RangeError(Exception):
    """A range cannot be had; the text is for the user."""


class Claim:
    """A cluster's hold on a range, until `release` or the process's end."""

    def __init__(self, network: str) -> None:
        """Raises RangeError when another cluster of this host has it."""
        self.network = network
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(f"\0kubecore/range/{network}".encode())
        except OSError as error:
            self._socket.close()
            if error.errno != errno.EADDRINUSE:
                raise
            raise RangeError(f"another cluster on this machine has the addresses {network} now") from error

    def release(self) -> None:
        self._socket.close()


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
