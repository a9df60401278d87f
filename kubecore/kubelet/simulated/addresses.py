"""Addresses that lead nowhere, for nodes and pods without a network.

They are of 240.0.0.0/4, which is reserved and used by nobody, and of 100::/64, which routers discard (RFC 6666):
whoever connects to one fails, and reaches no stranger.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Hashable, Sequence

NODES = {"IPv4": "240.0.0.0/8", "IPv6": "100::f000:0/104"}
PODS = {"IPv4": "241.0.0.0/8", "IPv6": "100::f100:0/104"}
"""By family; each has room for as many."""


class Addresses:
    """Of one network, or one of each family; the same number of each is given to one owner at a time. What came free
    lately is given away last."""

    def __init__(self, networks: Sequence[str]) -> None:
        parsed = [ipaddress.ip_network(one) for one in networks]
        self._firsts = [(one.version, int(one.network_address)) for one in parsed]
        self._size = min(one.num_addresses for one in parsed)
        self._next = 1
        self._given: dict[Hashable, int] = {}
        self._used: set[int] = set()

    def keep(self, owner: Hashable, address: str) -> None:
        """`owner` has this one already; nothing happens when it is of another network."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return
        for version, first in self._firsts:
            number = int(parsed) - first
            if version == parsed.version and 0 < number < self._size:
                self._given[owner] = number
                self._used.add(number)
                self._next = max(self._next, number + 1)

    def of(self, owner: Hashable) -> tuple[str, ...]:
        """One of each network. RuntimeError when all are given away."""
        number = self._given.get(owner)
        if number is None:
            number = self._given[owner] = self._free()
            self._used.add(number)
        return tuple(_text(version, first + number) for version, first in self._firsts)

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


def _text(version: int, address: int) -> str:
    if version == 4:
        return socket.inet_ntoa(address.to_bytes(4, "big"))
    return socket.inet_ntop(socket.AF_INET6, address.to_bytes(16, "big"))
