"""Which addresses each Service needs on the nodes' link."""

from __future__ import annotations

from collections.abc import Iterable

from kubecore.proxy.addresses import AddressBook, Held
from kubecore.proxy.claims import Problem
from kubecore.proxy.virtual_servers import VirtualServer


class HeldAddresses:
    """By Service. Without a book nothing needs to be held: the kernel answers on all of 127.0.0.0/8."""

    def __init__(self, book: AddressBook | None) -> None:
        self._book = book
        self._held: dict[str, set[Held]] = {}

    def hold(self, service: str, own: set[str], for_all: Iterable[str] = ()) -> list[Problem]:
        """Hold exactly these for the Service: its `own`, where the forwarder listens, and those that are `for_all`."""
        if self._book is None:
            return []
        problems = []
        wanted = {(address, False) for address in own} | {(address, True) for address in for_all}
        held = self._held.get(service, set())
        for address, for_anybody in held - wanted:
            self._book.release(address, for_all=for_anybody)
        now = held & wanted
        for address, for_anybody in sorted(wanted - held):
            try:
                self._book.hold(address, for_all=for_anybody)
                now.add((address, for_anybody))
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
