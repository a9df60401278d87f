"""Service addresses on the nodes' bridge. The kernel is played by a few lines of Python."""

from __future__ import annotations

import errno
import ipaddress
import socket

import pytest

from kubecore.netlink import Address, Interface, InterfaceAddress
from kubecore.proxy import addresses
from kubecore.proxy.addresses import AddressBook


class Kernel:
    """Links and their addresses; what `with Netlink() as netlink` gives."""

    def __init__(self) -> None:
        self.links: dict[str, int] = {}
        self.up: set[int] = set()
        self.found: list[InterfaceAddress] = []
        self.routed: list[tuple[int, Address]] = []
        self.refuses = ""

    def __call__(self) -> Kernel:
        return self

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def link_index(self, name: str) -> int | None:
        return self.links.get(name)

    def add_bridge(self, name: str) -> None:
        self.links[name] = len(self.links) + 1

    def delete_link(self, name: str) -> None:
        del self.links[name]

    def set_up(self, index: int) -> None:
        self.up.add(index)

    def add_address(self, index: int, address: Interface, *, preferred: bool = True) -> None:
        if InterfaceAddress(index, address) in self.found:
            raise FileExistsError(errno.EEXIST, "File exists")
        if str(address) == self.refuses:
            raise PermissionError(errno.EACCES, "Permission denied")
        self.found.append(InterfaceAddress(index, address))

    def delete_address(self, index: int, address: Interface) -> None:
        if InterfaceAddress(index, address) not in self.found:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        self.found.remove(InterfaceAddress(index, address))

    def addresses(self, family: int) -> list[InterfaceAddress]:
        version = 4 if family == socket.AF_INET else 6
        return [one for one in self.found if one.address.version == version]

    def add_local(self, index: int, address: Address) -> None:
        if (index, address) in self.routed:
            raise FileExistsError(errno.EEXIST, "File exists")
        self.routed.append((index, address))

    def delete_local(self, index: int, address: Address) -> None:
        if (index, address) not in self.routed:
            raise ProcessLookupError(errno.ESRCH, "No such process")
        self.routed.remove((index, address))

    def locals(self, index: int) -> list[Address]:
        return [address for link, address in self.routed if link == index]

    def put(self, address: str, link: str = "bridge") -> None:
        self.found.append(InterfaceAddress(self.links[link], ipaddress.ip_interface(address)))

    def shown(self) -> list[str]:
        """Addresses on links; routes as the address alone."""
        return sorted([*(str(one.address) for one in self.found), *(str(address) for _, address in self.routed)])


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(addresses, "Netlink", kernel)
    return kernel


@pytest.fixture
def book(kernel: Kernel) -> AddressBook:
    return AddressBook("bridge")


class TestHolding:
    def test_an_address_stays_on_the_link_until_its_last_holder_lets_go(
        self, kernel: Kernel, book: AddressBook
    ) -> None:
        book.hold("10.96.0.1")
        book.hold("10.96.0.1")
        book.release("10.96.0.1")
        assert kernel.shown() == ["10.96.0.1"]
        book.release("10.96.0.1")
        assert kernel.shown() == []

    def test_the_link_is_made_and_set_up_when_nobody_has_made_it(self, kernel: Kernel, book: AddressBook) -> None:
        book.hold("10.96.0.1")
        assert kernel.up == {kernel.links["bridge"]}

    def test_an_address_that_a_killed_run_left_is_taken_over(self, kernel: Kernel, book: AddressBook) -> None:
        kernel.add_bridge("bridge")
        for address in ("10.96.0.1", "fd00::1"):
            kernel.add_local(kernel.links["bridge"], ipaddress.ip_address(address))
        kernel.put("fd00::2/128")
        book.hold("10.96.0.1")
        book.hold("fd00::1")
        book.hold("fd00::2", for_all=True)
        assert kernel.shown() == ["10.96.0.1", "fd00::1", "fd00::2/128"]

    def test_one_that_cannot_be_had_is_not_held(self, kernel: Kernel, book: AddressBook) -> None:
        kernel.refuses = "fd00::1/128"
        for _ in range(2):
            with pytest.raises(OSError, match="Permission denied"):
                book.hold("fd00::1", for_all=True)

    def test_addresses_of_both_families_are_routes(self, kernel: Kernel, book: AddressBook) -> None:
        for address in ("10.96.0.1", "fd00::1"):
            book.hold(address)
        assert kernel.shown() == ["10.96.0.1", "fd00::1"]

    def test_one_of_ipv6_that_anybody_is_to_listen_on_stands_on_the_link(
        self, kernel: Kernel, book: AddressBook
    ) -> None:
        for address in ("10.96.0.1", "fd00::1"):
            book.hold(address, for_all=True)
        assert kernel.shown() == ["10.96.0.1", "fd00::1/128"]
        book.hold("fd00::1")
        book.release("fd00::1", for_all=True)
        assert kernel.shown() == ["10.96.0.1", "fd00::1"]


class TestSweeping:
    def test_single_addresses_that_nobody_holds_are_removed(self, kernel: Kernel, book: AddressBook) -> None:
        kernel.add_bridge("bridge")
        kernel.add_bridge("other")
        kernel.put("10.244.0.1/24")
        kernel.add_local(kernel.links["bridge"], ipaddress.IPv4Address("10.96.0.9"))
        kernel.put("10.96.0.7/32")  # an older kubecore's
        kernel.put("10.96.0.8/32", link="other")
        kernel.add_local(kernel.links["bridge"], ipaddress.ip_address("fd00::8"))
        kernel.put("fd00::1/128")  # an older kubecore's, of a Service that is there
        kernel.put("fd00::9/128")
        kernel.put("fd44::1/64")
        for address in ("10.96.0.1", "fd00::1"):
            book.hold(address)
        assert book.sweep() == ["10.96.0.7", "fd00::1", "fd00::9", "10.96.0.9", "fd00::8"]
        assert kernel.shown() == ["10.244.0.1/24", "10.96.0.1", "10.96.0.8/32", "fd00::1", "fd44::1/64"]


class TestClosing:
    def test_addresses_go_and_the_link_with_them_if_it_was_made_here(self, kernel: Kernel, book: AddressBook) -> None:
        book.hold("10.96.0.1")
        book.hold("10.96.0.1")
        book.close()
        assert (kernel.shown(), kernel.links) == ([], {})

    def test_an_address_that_the_link_gave_itself_does_not_keep_it(self, kernel: Kernel, book: AddressBook) -> None:
        book.hold("10.96.0.1")
        kernel.put("fe80::1/64")
        book.close()
        assert kernel.links == {}

    def test_the_link_stays_if_somebody_else_uses_it_meanwhile(self, kernel: Kernel, book: AddressBook) -> None:
        book.hold("10.96.0.1")
        kernel.put("10.244.0.1/24")
        book.close()
        assert (kernel.shown(), set(kernel.links)) == (["10.244.0.1/24"], {"bridge"})

    def test_or_if_it_was_there_before(self, kernel: Kernel, book: AddressBook) -> None:
        kernel.add_bridge("bridge")
        book.hold("10.96.0.1")
        book.close()
        assert set(kernel.links) == {"bridge"}

    def test_a_link_that_is_gone_already_is_no_trouble(self, kernel: Kernel, book: AddressBook) -> None:
        book.hold("10.96.0.1")
        kernel.delete_link("bridge")
        book.close()
        assert kernel.links == {}
