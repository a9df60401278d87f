"""Service addresses of this host, by way of a link, so that they can be bound and pods reach them through it.

Those of IPv4 are routes, of which there may be many. The kernel lets nobody bind an address of IPv6 that no link has.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections import Counter
from contextlib import suppress

from kubecore.netlink import Netlink


class AddressBook:
    """Single addresses held on one link, each as long as anybody holds it.

    The link is the nodes' bridge; it is made when nobody has made it yet (the kubelet takes it over), and removed at
    the end if it was made here and nothing else is on it.
    """

    def __init__(self, link: str) -> None:
        self._link = link
        self._holders: Counter[str] = Counter()
        self._made_link = False

    def hold(self, address: str) -> None:
        """Raises OSError when the address cannot be put on the link."""
        self._holders[address] += 1
        if self._holders[address] > 1:
            return
        try:
            self._add(address)
        except BaseException:
            del self._holders[address]
            raise

    def ensure_link(self) -> None:
        """It is there and up. Raises OSError when that cannot be."""
        with Netlink() as netlink:
            netlink.set_up(self._index(netlink))

    def release(self, address: str) -> None:
        self._holders[address] -= 1
        if self._holders[address] <= 0:
            del self._holders[address]
            self._delete(address)

    def sweep(self) -> list[str]:
        """Remove single addresses that nobody holds: those a killed run left. Returns them."""
        removed = []
        with Netlink() as netlink:
            index = netlink.link_index(self._link)
            if index is None:
                return []
            for found in (*netlink.addresses(socket.AF_INET), *netlink.addresses(socket.AF_INET6)):
                single = found.address.network.prefixlen == found.address.max_prefixlen
                if found.index == index and single and str(found.address.ip) not in self._holders:
                    netlink.delete_address(index, found.address)
                    removed.append(str(found.address.ip))
            for one in netlink.locals(index):
                if str(one) not in self._holders:
                    netlink.delete_local(index, one)
                    removed.append(str(one))
        return removed

    def close(self) -> None:
        for address in list(self._holders):
            self._holders[address] = 1
            self.release(address)
        if self._made_link:
            with Netlink() as netlink, suppress(OSError):
                index = netlink.link_index(self._link)
                if index is not None and not _in_use(netlink, index):
                    netlink.delete_link(self._link)

    def _add(self, address: str) -> None:
        with Netlink() as netlink:
            index = self._index(netlink)
            with suppress(FileExistsError):  # a killed run left it
                given = ipaddress.ip_address(address)
                if given.version == 4:
                    netlink.add_local(index, given)
                else:
                    netlink.add_address(index, ipaddress.ip_interface(given))

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

    def _delete(self, address: str) -> None:
        with Netlink() as netlink, suppress(OSError):
            index = netlink.link_index(self._link)
            given = ipaddress.ip_address(address)
            if index is None:
                return
            if given.version == 4:
                netlink.delete_local(index, given)
            else:
                netlink.delete_address(index, ipaddress.ip_interface(given))


def _in_use(netlink: Netlink, index: int) -> bool:
    """Whether anybody has given the link an address; of IPv6 it has one by itself."""
    held = (*netlink.addresses(socket.AF_INET), *netlink.addresses(socket.AF_INET6))
    return bool(netlink.locals(index)) or any(
        found.index == index and not found.address.is_link_local for found in held
    )
