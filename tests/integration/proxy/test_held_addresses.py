"""Service addresses of the kernel itself, in a network namespace of their own."""

from __future__ import annotations

import errno
import ipaddress
import socket
import time
from collections.abc import Iterator

import pytest

from kubecore.netlink import Netlink
from kubecore.proxy.addresses import AddressBook
from tests.support.net_world import Namespace

pytestmark = [pytest.mark.root]

IPV6_FREEBIND = 78  # Linux include/uapi/linux/in6.h
LINK, ADDRESSES = "kc-test", ["10.96.0.1", "fd96::1"]


@pytest.fixture
def host() -> Iterator[Namespace]:
    made = Namespace()
    with made.here():
        yield made
    made.close()


def is_here(address: str, *, freebind: bool = True) -> bool:
    """Whether the forwarder can listen there, and be reached, or with `freebind` off anybody could listen."""
    six = ":" in address
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET) as listener:
        try:
            if six and freebind:
                listener.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            listener.bind((address, 80))
            listener.listen()
            if freebind:
                socket.create_connection((address, 80), timeout=5).close()
        except OSError as error:
            assert error.errno in (errno.EADDRNOTAVAIL, errno.ENETUNREACH)
            return False
        return True


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("address", ADDRESSES)
class TestHeld:
    def test_one_is_here_for_as_long_as_it_is_held(self, address: str) -> None:
        book = AddressBook(LINK)
        book.hold(address)
        assert is_here(address)
        book.release(address)
        assert not is_here(address)

    def test_anybody_can_listen_on_one_that_is_held_for_all(self, address: str) -> None:
        book = AddressBook(LINK)
        book.hold(address, for_all=True)
        assert is_here(address, freebind=False)
        book.release(address, for_all=True)
        assert not is_here(address)

    def test_what_a_killed_run_left_is_taken_over(self, address: str) -> None:
        AddressBook(LINK).hold(address)
        book = AddressBook(LINK)
        book.hold(address)
        assert book.sweep() == []
        assert is_here(address)
        book.release(address)
        assert not is_here(address)

    def test_or_swept_when_nobody_asks_for_it(self, address: str) -> None:
        AddressBook(LINK).hold(address)
        assert AddressBook(LINK).sweep() == [address]
        assert not is_here(address)

    def test_the_hosts_own_address_stays_its_own(self, address: str) -> None:
        with Netlink() as netlink:
            # Not a bridge: where it has no ports, the kernel takes IPv6 addresses out of use some time later.
            index = netlink.link_index("lo")
            assert index is not None
            netlink.set_up(index)
            netlink.add_address(index, ipaddress.ip_interface(address))
        deadline = time.monotonic() + 60
        while not is_here(address):  # the kernel makes the route of an IPv6 address when it comes to it
            assert time.monotonic() < deadline
        book = AddressBook(LINK)
        book.hold(address)
        assert book.sweep() == []
        book.release(address)
        assert is_here(address)


@pytest.mark.usefixtures("host")
def test_the_node_does_not_connect_from_one() -> None:
    """Though it is the most like the address that is connected to, by which the kernel chooses among addresses."""
    own, held, asked = "fd00:10:244::1", "fd00:10:96::a", "fd00:10:d6::1"
    book = AddressBook(LINK)
    book.hold(held, for_all=True)
    book.hold(asked)
    with Netlink() as netlink:
        index = netlink.link_index(LINK)
        assert index is not None
        netlink.add_address(index, ipaddress.ip_interface(f"{own}/64"))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.connect((asked, 80))
        assert client.getsockname()[0] == own
