"""Which addresses each Service needs on the nodes' link."""

from __future__ import annotations

from kubecore.proxy.addresses import AddressBook
from kubecore.proxy.claims import Problem
from kubecore.proxy.virtual_servers import VirtualServer


class HeldAddresses:
    """By Service. Without a book nothing needs to be held: the kernel answers on all of 127.0.0.0/8."""

    def __init__(self, book: AddressBook | None) -> None:
        self._book = book
        self._held: dict[str, set[str]] = {}

    def hold(self, service: str, addresses: set[str]) -> list[Problem]:
        """Hold exactly these for the Service."""
        if self._book is None:
            return []
        problems = []
        held = self._held.get(service, set())
        for address in held - addresses:
            self._book.release(address)
        now = held & addresses
        for address in sorted(addresses - held):
            try:
                self._book.hold(address)
                now.add(address)
            except OSError as error:
                message = f"service address {address} cannot be put on this node's bridge: {error.strerror}"
                server = VirtualServer("TCP", address, 0, "ClusterIP", "rr", None, ())
                problems.append(Problem(server, "FailedToAddAddress", message, passing=True))
        if now:
            self._held[service] = now
        else:
            self._held.pop(service, None)
        return problems

    def sweep(self) -> list[str]:
        """Remove those that a killed run left; OSError."""
        return self._book.sweep() if self._book is not None else []

    def close(self) -> None:
        """Take all of them back."""
        self._held.clear()
        if self._book is not None:
            self._book.close()
