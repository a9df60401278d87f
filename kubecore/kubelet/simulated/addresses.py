"""Addresses that lead nowhere, for nodes and pods without a network.

They are of 240.0.0.0/4, which is reserved and used by nobody: whoever connects to one fails, and reaches no stranger.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Hashable

NODES = ipaddress.IPv4Network("240.0.0.0/8")
PODS = ipaddress.IPv4Network("241.0.0.0/8")


class Addresses:
    """Of one network, each given to one owner at a time; what came free lately is given away last."""

    def __init__(self, network: ipaddress.IPv4Network) -> None:
        self._first = int(network.network_address)
        self._size = network.num_addresses
        self._next = 1
        self._given: dict[Hashable, int] = {}
        self._used: set[int] = set()

    def keep(self, owner: Hashable, address: str) -> None:
        """`owner` has this one already; nothing happens when it is of another network."""
        try:
            number = int(ipaddress.IPv4Address(address)) - self._first
        except ValueError:
            return
        if 0 < number < self._size:
            self._given[owner] = number
            self._used.add(number)
            self._next = max(self._next, number + 1)

    def of(self, owner: Hashable) -> str:
        """RuntimeError when all are given away."""
        number = self._given.get(owner)
        if number is None:
            number = self._given[owner] = self._free()
            self._used.add(number)
        return socket.inet_ntoa((self._first + number).to_bytes(4, "big"))

    def release(self, owner: Hashable) -> None:
        number = self._given.pop(owner, None)
        if number is not None:
            self._used.discard(number)

    def _free(self) -> int:
        for _ in range(self._size):
            number, self._next = self._next, self._next % (self._size - 1) + 1
            if number < self._size and number not in self._used:
                return number
        raise RuntimeError("all addresses of simulated pods are given away")
