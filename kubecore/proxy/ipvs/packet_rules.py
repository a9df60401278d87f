"""What IPVS does not ask or do, nf_tables does before and after it: who may come, who is inside, whom nobody answers,
and answers of endpoints to themselves."""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from kubecore.api.endpoint_choice import Endpoint
from kubecore.proxy.data_plane import ModeUnavailable
from kubecore.proxy.leading import Group
from kubecore.proxy.nftables.chains import prefix
from kubecore.proxy.nftables.elements import Place, key_of, loop, restrictions
from kubecore.proxy.nftables.messages import Batch, Connection, element, value
from kubecore.proxy.nftables.ruleset import Site, beside_ipvs
from kubecore.proxy.nftables.succession import Succession, remove_left
from kubecore.proxy.virtual_servers import ServerKey, VirtualServer

log = logging.getLogger(__name__)

Led = tuple[ServerKey, Group]
"""Clients of a server who have a virtual service of their own."""
_Content = tuple[bytes, bytes]
"""Of an element: its data, and the last key of a range."""


class PacketRules:
    """A table of nf_tables, made when the first Service needs one. That of a killed run is in force beside it until
    `sweep`, so that there is none without rules meanwhile.

    `_present` holds what the kernel's table has of each Service, `_holders` how many Services want an element that is
    for all, `_shared` which of these the kernel's table has.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._connection: Connection | None = None
        self._succession: Succession | None = None
        self._present: dict[str, dict[Place, _Content]] = {}
        self._loops: dict[str, set[Place]] = {}
        self._holders: Counter[Place] = Counter()
        self._shared: set[Place] = set()

    def tighten(self, service: str, servers: Iterable[VirtualServer], marks: Mapping[Led, int]) -> None:
        """What keeps clients out of these, or leads some of them to a virtual service by its mark, holds from now
        on, and so does what has kept silence until `loosen`. Raises OSError, and ModeUnavailable where nf_tables cannot
        be had: nothing has changed then."""
        wanted = _rules(servers, marks)
        before = self._present.get(service, {})
        silent = {place: content for place, content in before.items() if "silent" in place[0]}
        self._bring(service, silent | wanted)

    def loosen(self, service: str, servers: Iterable[VirtualServer], marks: Mapping[Led, int]) -> None:
        """No more than these ask for. Raises as `tighten` does."""
        self._bring(service, _rules(servers, marks))

    def reflect(self, service: str, endpoints: Iterable[Endpoint]) -> None:
        """These endpoints of the Service may come to themselves from the next `commit` on."""
        wanted, before = {loop(one) for one in endpoints}, self._loops.get(service, set())
        self._holders.update(wanted - before)
        for place in before - wanted:
            self._holders[place] -= 1
            if not self._holders[place]:
                del self._holders[place]
        if wanted:
            self._loops[service] = wanted
        else:
            self._loops.pop(service, None)

    def commit(self) -> None:
        """Raises as `tighten` does."""
        wanted = self._holders.keys()
        come, gone = wanted - self._shared, self._shared - wanted
        if not (come or gone):
            return
        connection, batch = self._begin()
        for place in gone:
            batch.delete_elements(place[0], [element(place[1])])
        for place in come:
            batch.add_elements(place[0], [element(place[1])])
        connection.run(batch)
        self._shared = set(wanted)

    def restore(self) -> list[str] | None:
        """As that of a data plane."""
        if self._succession is None or self._connection is None:
            return None
        if self._connection.table_is_awake(self._succession.name):
            return None
        self._connection.close()
        self._connection = self._succession = None
        lost = list(self._present)
        self._present.clear()
        self._shared.clear()
        return lost

    def sweep(self) -> None:
        """All has been asked for: what a killed run has left is no more in force."""
        with suppress(ModeUnavailable):
            remove_left(self._site.table, but=self._succession.name if self._succession is not None else "")

    def close(self) -> None:
        if self._connection is None:
            return
        self._connection.close()
        self._connection = self._succession = None
        self._present.clear()
        self._shared.clear()
        with suppress(ModeUnavailable):
            remove_left(self._site.table)

    def _bring(self, service: str, wanted: dict[Place, _Content]) -> None:
        present = self._present.get(service, {})
        if wanted == present:
            return
        connection, batch = self._begin()
        # A range is told anew with all others of its set: nothing of the old one is to be left behind.
        for (name, key), (_, end) in present.items():
            batch.delete_elements(name, [element(key, end=end)])
        for (name, key), (data, end) in wanted.items():
            batch.add_elements(name, [element(key, data, end=end)])
        connection.run(batch)
        if wanted:
            self._present[service] = wanted
        else:
            del self._present[service]

    def _begin(self) -> tuple[Connection, Batch]:
        """A transaction upon the table, which is made if it is not there."""
        if self._succession is None:
            self._succession = Succession(self._site.table, lambda name: beside_ipvs(replace(self._site, table=name)))
        if self._connection is None:
            self._connection = Connection()
        return self._connection, Batch(self._succession.name)


def is_silent(server: VirtualServer) -> bool:
    """Whether who comes from outside, or from anywhere to an address that makes no difference, is dropped: there are
    endpoints, but not for him."""
    return server.anywhere and not server.endpoints


def _rules(servers: Iterable[VirtualServer], marks: Mapping[Led, int]) -> dict[Place, _Content]:
    found: dict[Place, _Content] = {}
    by_server: dict[ServerKey, list[tuple[Group, int]]] = {}
    for (server_key, group), mark in marks.items():
        by_server.setdefault(server_key, []).append((group, mark))
    for server in servers:
        version, key = 6 if ":" in server.address else 4, key_of(server)
        found |= {place: (b"", end) for place, end in restrictions(server)}
        if is_silent(server):
            found[f"silent{version}", key] = b"", b""
        for number, part in enumerate(server.parts):
            if server.anywhere and not part.for_pods:
                found[f"{prefix(number)}silent{version}", key] = b"", b""
        for group, mark in by_server.get(server.key, ()):
            found[f"{prefix(group.node)}inside{version}", key] = value(struct.pack("=I", mark)), b""
    return found
