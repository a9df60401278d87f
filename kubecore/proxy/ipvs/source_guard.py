"""Who may come to an address of a load balancer: IPVS asks nobody where he comes from, so nf_tables does before it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress

from kubecore.proxy.data_plane import ModeUnavailable
from kubecore.proxy.nftables.elements import Place, restrictions
from kubecore.proxy.nftables.messages import Batch, Connection, element
from kubecore.proxy.nftables.program import find_nft, run_nft
from kubecore.proxy.nftables.ruleset import guard_ruleset
from kubecore.proxy.virtual_servers import VirtualServer

log = logging.getLogger(__name__)


class SourceGuard:
    """A table of this name, made when the first Service asks for it.

    `_present` holds what the kernel's table has of each Service: elements with the last keys of ranges.
    """

    def __init__(self, table: str) -> None:
        self._table = table
        self._connection: Connection | None = None
        self._present: dict[str, dict[Place, bytes]] = {}

    def restrict(self, service: str, servers: Iterable[VirtualServer]) -> None:
        """Have the source ranges of these hold, and no others of the Service. Raises OSError, and ModeUnavailable where
        nf_tables cannot be had: nothing has changed then."""
        wanted = {place: end for server in servers for place, end in restrictions(server)}
        present = self._present.get(service, {})
        if wanted == present:
            return
        batch = Batch(self._table)
        for (name, key), end in present.items():
            batch.delete_elements(name, [element(key, end=end)])
        for (name, key), end in wanted.items():
            batch.add_elements(name, [element(key, end=end)])
        self._connect().run(batch)
        if wanted:
            self._present[service] = wanted
        else:
            del self._present[service]

    def close(self) -> None:
        if self._connection is None:
            return
        self._connection.close()
        self._connection = None
        self._present.clear()
        with suppress(ModeUnavailable):
            run_nft(find_nft(), f"delete table inet {self._table}\n")

    def _connect(self) -> Connection:
        if self._connection is None:
            run_nft(find_nft(), guard_ruleset(self._table))
            self._connection = Connection()
        return self._connection
