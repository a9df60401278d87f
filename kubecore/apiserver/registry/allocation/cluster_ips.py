"""Addresses of Services out of the service ranges.

After kubernetes `pkg/registry/core/service/ipallocator`: the range of the command line comes first, ServiceCIDRs add
to it, and every address that is taken has an IPAddress, whoever took it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from kubecore.apiserver.registry.allocation.metrics import DYNAMIC, STATIC, Allocations, InUse, of_addresses
from kubecore.apiserver.registry.allocation.pool import NumberPool, static_band
from kubecore.apiserver.registry.validation.addresses import parse_old_cidr, parse_old_ip

# Of a larger range only so many at its start are given away unasked.
_MOST_ADDRESSES = 1 << 20
# More free ones are not told.
_MOST_FREE = (1 << 63) - 1


class AllocationError(Exception):
    """An address or port cannot be had; the message is upstream's."""


class RangeFull(AllocationError):
    """Nothing is left to be given to those who ask for anything."""

    def __init__(self) -> None:
        super().__init__("range is full")


class _Range:
    """The addresses of one CIDR but its first (the network's own) and, for IPv4, its last (broadcast)."""

    def __init__(self, cidr: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
        self.network = cidr
        reserved = 2 if cidr.version == 4 else 1
        size = max(min(cidr.num_addresses, _MOST_ADDRESSES) - reserved, 0)
        self.pool = NumberPool(size, static=static_band(size, least=16, most=256, step=16))
        self._size = size
        self._base = int(cidr.network_address) + 1
        self._end = int(cidr.network_address) + cidr.num_addresses - (reserved - 1)
        # The ServiceCIDRs that name this range and let it be used.
        self.owners: set[str] = set()

    def number(self, address: int) -> int | None:
        number = address - self._base
        return number if 0 <= number < self._size else None

    def contains(self, address: int) -> bool:
        return self._base <= address < self._end

    def address(self, number: int) -> int:
        return self._base + number

    def in_use(self, addresses: Iterable[int]) -> InUse:
        """`addresses` are all that are taken."""
        taken = sum(map(self.contains, addresses))
        return InUse((str(self.network),), taken, max(min(self._end - self._base, _MOST_FREE) - taken, 0))


class ClusterIPs:
    """Who has which address of one family. Ranges may overlap, so an address that is taken is taken in all of them."""

    def __init__(self, cidr: str, asked: Allocations | None = None) -> None:
        """`cidr` is always there, whatever ServiceCIDRs say. `asked` counts."""
        self._asked = asked or of_addresses()
        first = _Range(ipaddress.ip_network(cidr))
        first.owners.add("")
        self.network = first.network
        self._ranges: dict[str, _Range] = {str(first.network): first}
        # An address is free when neither a Service nor an IPAddress has it.
        self._of_services: set[int] = set()
        self._of_objects: set[int] = set()

    @property
    def family(self) -> str:
        """IPv4 or IPv6, as in ipFamilies."""
        return f"IPv{self.network.version}"

    # --- ranges

    def set_ranges(self, owner: str, cidrs: Iterable[str]) -> None:
        """The ranges a ServiceCIDR gives now; none when it is being deleted or not ready."""
        wanted = {}
        for text in cidrs:
            parsed = parse_old_cidr(text)
            if parsed is not None and parsed.version == self.network.version:
                wanted[str(parsed)] = parsed
        for key, network in wanted.items():
            if key not in self._ranges:
                self._ranges[key] = self._made(network)
            self._ranges[key].owners.add(owner)
        for key in [key for key, held in self._ranges.items() if owner in held.owners and key not in wanted]:
            self._ranges[key].owners.discard(owner)
            if not self._ranges[key].owners:
                del self._ranges[key]

    def _made(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> _Range:
        made = _Range(network)
        for address in self._of_services | self._of_objects:
            number = made.number(address)
            if number is not None:
                made.pool.take(number)
        return made

    def contains(self, address: str) -> bool:
        """Whether any range has the address."""
        parsed = self._parsed(address)
        return parsed is not None and self._range_of(parsed) is not None

    def in_use(self) -> list[InUse]:
        """Of each range. It may be called on any thread."""
        addresses = self._of_services | self._of_objects
        return [held.in_use(addresses) for held in list(self._ranges.values())]

    def _range_of(self, address: int) -> str | None:
        return next((key for key, held in self._ranges.items() if held.contains(address)), None)

    def _parsed(self, address: str) -> int | None:
        parsed = parse_old_ip(address)
        return int(parsed) if parsed is not None and parsed.version == self.network.version else None

    # --- for Services

    def take(self, address: str) -> None:
        """Takes a certain address. Raises AllocationError when it is outside all ranges or taken."""
        parsed = self._parsed(address)
        key = self._range_of(parsed) if parsed is not None else None
        if parsed is None or key is None:
            raise AllocationError("the provided network does not match the current range")
        if parsed in self._of_services or parsed in self._of_objects:
            self._asked.failed(key, STATIC)
            raise AllocationError("provided IP is already allocated")
        self._asked.taken(key, STATIC)
        self._of_services.add(parsed)
        self._mark(parsed)

    def check(self, address: str) -> None:
        """What a dry run asks: whether the address is in the range, taken or not. Raises AllocationError."""
        parsed = self._parsed(address)
        first = self._ranges[str(self.network)]
        if parsed is None or not first.contains(parsed):
            valid = f"The range of valid IPs is {self.network}"
            raise AllocationError(f"the provided IP ({address}) is not in the valid range. {valid}")

    def take_any(self) -> str:
        """Takes a free address. Raises RangeFull when there is none."""
        for key, held in self._ranges.items():
            number = held.pool.take_any()
            if number is None:
                self._asked.failed(key, DYNAMIC)
            else:
                self._asked.taken(key, DYNAMIC)
                address = held.address(number)
                self._of_services.add(address)
                self._mark(address)
                return self._shown(address)
        raise RangeFull

    def any_unused(self) -> str:
        """The answer to a dry run that asks for any."""
        return str(self.network.network_address)

    def give_back(self, address: str) -> None:
        parsed = self._parsed(address)
        if parsed is not None:
            self._of_services.discard(parsed)
            self._unmark(parsed)

    def restore(self, address: str) -> None:
        """Marks an address that a stored Service has."""
        parsed = self._parsed(address)
        if parsed is not None:
            self._of_services.add(parsed)
            self._mark(parsed)

    # --- for IPAddresses

    def stands(self, address: str) -> bool:
        """Whether there is an IPAddress, maybe of a range that ends."""
        return self._parsed(address) in self._of_objects

    def hold(self, address: str) -> bool:
        """An IPAddress stands for the address from now on; False when one did already."""
        parsed = self._parsed(address)
        if parsed is None or parsed in self._of_objects:
            return False
        self._of_objects.add(parsed)
        self._mark(parsed)
        return True

    def let_go(self, address: str) -> None:
        parsed = self._parsed(address)
        if parsed is not None:
            self._of_objects.discard(parsed)
            self._unmark(parsed)

    # --- marks

    def _shown(self, address: int) -> str:
        made = ipaddress.IPv4Address if self.network.version == 4 else ipaddress.IPv6Address
        return str(made(address))

    def _mark(self, address: int) -> None:
        for held in self._ranges.values():
            number = held.number(address)
            if number is not None:
                held.pool.take(number)

    def _unmark(self, address: int) -> None:
        if address in self._of_services or address in self._of_objects:
            return
        for held in self._ranges.values():
            number = held.number(address)
            if number is not None:
                held.pool.give_back(number)
