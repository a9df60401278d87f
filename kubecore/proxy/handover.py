"""What a mode of the kernel leaves to the forwarder, and how the kernel takes it back.

Who is connected, or about to be, stays with the forwarder: a Service's address stays here and the listener open until
nobody comes through them any more, though the kernel leads all who come newly elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kubecore.clock import RealClock
from kubecore.proxy.claims import Problem
from kubecore.proxy.held_addresses import HeldAddresses
from kubecore.proxy.table import LOOK_SECONDS, ServiceTable
from kubecore.proxy.virtual_servers import ServerKey, VirtualServer

HANDSHAKE_SECONDS = 5.0
"""Who has sent the first packet of a connection has come by then, and what he says is told."""


@dataclass(slots=True)
class _Part:
    """Of one Service: what the forwarder has for good, what it still has, each until when at least."""

    left: list[VirtualServer] = field(default_factory=list)
    leaving: dict[ServerKey, tuple[VirtualServer, float]] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    for_all: frozenset[str] = frozenset()


class Handover:
    """Without `userspace` nothing is left to anybody."""

    def __init__(
        self, userspace: ServiceTable | None, held: HeldAddresses, monotonic: Callable[[], float] | None
    ) -> None:
        """Time goes by `monotonic`, in seconds."""
        self.userspace = userspace
        self._held = held
        self._monotonic = monotonic or RealClock().monotonic
        self._parts: dict[str, _Part] = {}
        self._look_again = 0.0

    def apply(
        self,
        service: str,
        *,
        left: Sequence[VirtualServer],
        taken: Iterable[VirtualServer],
        own: Iterable[str] = (),
        for_all: Iterable[str] = (),
    ) -> list[Problem]:
        """`left` is served by the forwarder from now on, `taken` by the kernel once it is told. Held in any case
        are `own`, and addresses `for_all`, for others to listen on."""
        part = self._parts.setdefault(service, _Part())
        until = self._monotonic() + HANDSHAKE_SECONDS
        carried = {one.key: (one, until) for one in part.left} | part.leaving
        staying = {one.key for one in left}
        part.leaving = {
            one.key: (_as_before(carried[one.key][0], one), carried[one.key][1])
            for one in taken
            if one.key in carried and one.key not in staying
        }
        part.left, part.held, part.for_all = list(left), frozenset(own), frozenset(for_all)
        return self._bring(service, part)

    @property
    def unfinished(self) -> bool:
        return any(part.leaving for part in self._parts.values())

    def settle(self) -> None:
        """The kernel has been told: what nobody comes through any more goes."""
        if self.userspace is None or not self.unfinished:
            return
        now = self._monotonic()
        if now < self._look_again:
            return
        self._look_again = now + LOOK_SECONDS
        in_use = self.userspace.forwarder.targets()
        for service, part in list(self._parts.items()):
            waiting = part.leaving.items()
            over = [key for key, (one, until) in waiting if now >= until and not _is_used(one, in_use)]
            for key in over:
                del part.leaving[key]
            if over:
                self._bring(service, part)

    def rows(self) -> list[dict[str, Any]]:
        """Of what is left to the forwarder for good."""
        leaving = {key for part in self._parts.values() for key in part.leaving}
        found = self.userspace.rows() if self.userspace is not None else []
        return [row for row in found if (row["protocol"], row["address"], row["port"]) not in leaving]

    def sweep(self) -> list[str]:
        """Remove addresses that a killed run left. Returns them; raises OSError."""
        return self._held.sweep()

    def close(self) -> None:
        self._parts.clear()
        if self.userspace is not None:
            self.userspace.close()
        self._held.close()

    def _bring(self, service: str, part: _Part) -> list[Problem]:
        leaving = [one for one, _ in part.leaving.values()]
        here = [*part.left, *leaving]
        addresses = {one.address for one in here if one.purpose != "NodePort"} | part.held
        problems = self._held.hold(service, addresses, part.for_all)
        if self.userspace is not None:
            problems += self.userspace.apply(service, here)[0]
        if not (here or addresses or part.for_all):
            del self._parts[service]
        return problems


def _as_before(old: VirtualServer, new: VirtualServer) -> VirtualServer:
    """With the endpoints of now, for who comes late, and told of clients as it was."""
    return replace(new, scheduler=old.scheduler, proxy_protocol=old.proxy_protocol, forwarded=old.forwarded)


def _is_used(server: VirtualServer, in_use: set[tuple[str, int]]) -> bool:
    if server.address in ("0.0.0.0", "::"):
        return any(port == server.port for _, port in in_use)
    return (server.address, server.port) in in_use
