"""Service addresses of this host, by way of a link, so that they can be bound and pods reach them through it.

They are routes, of which there may be many. Of IPv6 the kernel lets nobody bind an address that no link has, unless he
says that he does not mind (IPV6_FREEBIND): those that others are to listen on stand on the link.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from kubecore.netlink import Netlink

Held = tuple[str, bool]
"""An address, and whether anybody at all is to be able to listen there."""


class AddressBook:
    """Single addresses held by way of one link, each as long as anybody holds it.

    The link is the nodes' bridge; it is made when nobody has made it yet (the kubelet takes it over), and removed at
    the end if it was made here and nothing else is on it.
    """

    def __init__(self, link: str, netlink: Callable[[], Netlink] | None = None) -> None:
        """`netlink`: of the network that the link is in; None for the host's."""
        self._link, self._netlink = link, netlink or Netlink
        self._holders: Counter[Held] = Counter()
        self._made_link = False

    def hold(self, address: str, *, for_all: bool = False) -> None:
        """`for_all`: whoever comes may listen there, whether or not he has heard of IPV6_FREEBIND.

        Raises OSError when the address cannot be had."""
        held = _held(address, for_all=for_all)
        self._holders[held] += 1
        if self._holders[held] > 1:
            return
        try:
            self._add(*held)
        except BaseException:
            del self._holders[held]
            raise

    def ensure_link(self) -> None:
        """It is there and up. Raises OSError when that cannot be."""
        with self._netlink() as netlink:
            netlink.set_up(self._index(netlink))

    def release(self, address: str, *, for_all: bool = False) -> None:
        held = _held(address, for_all=for_all)
        self._holders[held] -= 1
        if self._holders[held] <= 0:
            del self._holders[held]
            self._delete(*held)

    def sweep(self) -> list[str]:
        """Remove single addresses that nobody holds: those a killed run left. Returns them."""
        removed = []
        with self._netlink() as netlink:
            index = netlink.link_index(self._link)
            if index is None:
                return []
            for found in (*netlink.addresses(socket.AF_INET), *netlink.addresses(socket.AF_INET6)):
                single = found.address.network.prefixlen == found.address.max_prefixlen
                if found.index == index and single and (str(found.address.ip), True) not in self._holders:
                    netlink.delete_address(index, found.address)
                    removed.append(str(found.address.ip))
            for one in netlink.locals(index):
                if (str(one), False) not in self._holders:
                    netlink.delete_local(index, one)
                    removed.append(str(one))
        return removed

    def close(self) -> None:
        for held in list(self._holders):
            del self._holders[held]
            self._delete(*held)
        if self._made_link:
            with self._netlink() as netlink, suppress(OSError):
                index = netlink.link_index(self._link)
                if index is not None and not _in_use(netlink, index):
                    netlink.delete_link(self._link)

    def _add(self, address: str, on_link: bool) -> None:
        with self._netlink() as netlink:
            index = self._index(netlink)
            with suppress(FileExistsError):  # a killed run left it
                if on_link:
                    # what the node connects from is to be an address of its own
                    netlink.add_address(index, ipaddress.ip_interface(address), preferred=False)
                else:
                    netlink.add_local(index, ipaddress.ip_address(address))

    def _index(self, netlink: Netlink) -> int:
        index = netlink.link_index(self._link)
        if index is None:
            with suppress(FileExistsError):  # the kubelet was faster
                netlink.add_bridge(self._link)
                self._made_link = True
            index = netlink.link_index(self._link)
            if index is None:
                raise OSError(errno.ENODEV, f"link {self._link} vanished")
            netlink.set_up(index)
        return index

    def _delete(self, address: str, on_link: bool) -> None:
        with self._netlink() as netlink, suppress(OSError):
            index = netlink.link_index(self._link)
            if index is None:
                return
            if on_link:
                netlink.delete_address(index, ipaddress.ip_interface(address))
            else:
                netlink.delete_local(index, ipaddress.ip_address(address))


def _held(address: str, *, for_all: bool) -> Held:
    """An address of IPv4 can be bound wherever the host takes it for its own."""
    return address, for_all and ":" in address


def _in_use(netlink: Netlink, index: int) -> bool:
    """Whether anybody has given the link an address; of IPv6 it has one by itself."""
    held = (*netlink.addresses(socket.AF_INET), *netlink.addresses(socket.AF_INET6))
    return bool(netlink.locals(index)) or any(
        found.index == index and not found.address.is_link_local for found in held
    )
