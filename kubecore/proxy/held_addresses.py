"""Which addresses each Service needs on the nodes' link."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from kubecore.proxy.addresses import AddressBook, Held
from kubecore.proxy.claims import Problem
from kubecore.proxy.virtual_servers import VirtualServer


class HeldAddresses:
    """By Service. Without a book nothing needs to be held: the kernel answers on all of 127.0.0.0/8."""

    def __init__(self, book: AddressBook | None, used: Callable[[], Collection[str]] | None = None) -> None:
        """With `used`, the addresses that open connections came by, one that is needed no more goes at `settle`, and
        only when it is none of these: a client whose connection has lost its address is told nothing, and waits."""
        self._book = book
        self._used = used
        self._held: dict[str, set[Held]] = {}
        self._leaving: list[Held] = []

    def hold(self, service: str, own: set[str], for_all: Iterable[str] = ()) -> list[Problem]:
        """Hold exactly these for the Service: its `own`, where the forwarder listens, and those that are `for_all`."""
        if self._book is None:
            return []
        problems = []
        wanted = {(address, False) for address in own} | {(address, True) for address in for_all}
        held = self._held.get(service, set())
        self._leaving += held - wanted
        if self._used is None:
            self._release(())
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

    @property
    def unfinished(self) -> bool:
        """Some address is only there for the connections that came by it."""
        return bool(self._leaving)

    def settle(self) -> None:
        """Let go of what nobody needs any more."""
        if self._leaving and self._used is not None:
            self._release(self._used())

    def _release(self, used: Collection[str]) -> None:
        leaving, self._leaving = self._leaving, []
        for address, for_anybody in leaving:
            if address in used:
                self._leaving.append((address, for_anybody))
            elif self._book is not None:
                self._book.release(address, for_all=for_anybody)

    def sweep(self) -> list[str]:
        """Remove those that a killed run left; OSError."""
        return self._book.sweep() if self._book is not None else []

    def close(self) -> None:
        """Take all of them back."""
        self._held.clear()
        self._leaving.clear()
        if self._book is not None:
            self._book.close()
