"""Addresses of Services out of the service range."""

from __future__ import annotations

import ipaddress

from kubecore.apiserver.registry.allocation.pool import NumberPool, static_band

# A range larger than this is used from its start only.
_MOST_ADDRESSES = 1 << 20


class AllocationError(Exception):
    """An address or port cannot be had; the message is upstream's."""


class ClusterIPs:
    """The addresses of one CIDR but its first (the network's own) and, for IPv4, its last (broadcast)."""

    def __init__(self, cidr: str) -> None:
        self.network = ipaddress.ip_network(cidr)
        reserved = 2 if self.network.version == 4 else 1
        size = max(min(self.network.num_addresses, _MOST_ADDRESSES) - reserved, 0)
        self._pool = NumberPool(size, static=static_band(size, least=16, most=256, step=16))
        self._size = size
        self._base = int(self.network.network_address) + 1

    @property
    def family(self) -> str:
        """IPv4 or IPv6, as in ipFamilies."""
        return f"IPv{self.network.version}"

    def _number(self, address: str) -> int | None:
        try:
            number = int(ipaddress.ip_address(address)) - self._base
        except ValueError:
            return None
        return number if 0 <= number < self._size else None

    def take(self, address: str) -> None:
        """Takes a certain address. Raises AllocationError when it is outside the range or taken."""
        number = self._number(address)
        if number is None:
            valid = f"The range of valid IPs is {self.network}"
            raise AllocationError(f"the provided IP ({address}) is not in the valid range. {valid}")
        if not self._pool.take(number):
            raise AllocationError("provided IP is already allocated")

    def take_any(self) -> str:
        """Takes a free address. Raises AllocationError when there is none."""
        number = self._pool.take_any()
        if number is None:
            raise AllocationError("range is full")
        return str(ipaddress.ip_address(self._base + number))

    def give_back(self, address: str) -> None:
        number = self._number(address)
        if number is not None:
            self._pool.give_back(number)

    def restore(self, address: str) -> None:
        """Marks an address that a stored Service has."""
        number = self._number(address)
        if number is not None:
            self._pool.take(number)
