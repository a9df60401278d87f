"""The mode nftables: the kernel's own tables carry the connections, and only what has changed is told to it.

What they cannot carry is left to the tables of mode userspace: Services that are to be forwarded, and node ports at
::1, which no packet leaves for a link.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from kubecore.api.endpoint_choice import Endpoint
from kubecore.proxy import conntrack
from kubecore.proxy.claims import Claims, Problem
from kubecore.proxy.data_plane import Mode, ModeUnavailable
from kubecore.proxy.handover import Handover
from kubecore.proxy.held_addresses import HeldAddresses
from kubecore.proxy.host_ports import HostPorts, taken
from kubecore.proxy.nftables.chains import Pick
from kubecore.proxy.nftables.counting import Counted
from kubecore.proxy.nftables.elements import EVERY_ADDRESS, LOOPS, Elements, Members, Place, elements_of, encode
from kubecore.proxy.nftables.messages import Batch, Connection
from kubecore.proxy.nftables.program import find_nft, run_nft
from kubecore.proxy.nftables.ruleset import Site, ruleset
from kubecore.proxy.nftables.succession import Succession
from kubecore.proxy.table import ServiceTable
from kubecore.proxy.virtual_servers import ServerKey, VirtualServer

log = logging.getLogger(__name__)

_NOTHING = Elements()
_LOOPBACK, _EVERY_SIX = "::1", "::"


class NftablesTable:
    """Invariants, kept between calls:

    - `_present` is what the kernel's table holds, `_wanted` what it is to hold after the next commit, by place.
    - `_in_force`: the kernel consults it, and nothing that a killed run has left.
    - `_changed` are the places where the two may differ; `_holders` counts the Services that want a shared element.
    """

    mode: Mode = "nftables"
    restores = True

    def __init__(
        self,
        site: Site,
        *,
        held: HeldAddresses | None = None,
        userspace: ServiceTable | None = None,
        ports: HostPorts | None = None,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        """`userspace` has what is left to it; None: nobody has.

        Raises ModeUnavailable where the kernel, `nft` or the rights for it are missing. What a killed run left leads
        connections until the first commit, which puts this table in its place."""
        self._leaves = userspace is not None
        self._handover = Handover(userspace, held or HeldAddresses(None), monotonic)
        self._ports = ports
        self._succession = Succession(site.table, lambda name: ruleset(replace(site, table=name), asleep=True))
        self._in_force = False
        self._connection = Connection()
        self._claims = Claims()
        self._servers: dict[str, list[VirtualServer]] = {}
        self._elements: dict[str, Elements] = {}
        self._members = Members()
        self._holders: Counter[Place] = Counter()
        self._chains: set[Pick] = set()
        self._new_chains: set[Pick] = set()
        self._present: dict[Place, bytes] = {}
        self._wanted: dict[Place, bytes] = {}
        self._ends: dict[Place, bytes] = {}
        self._changed: dict[Place, None] = {}
        self._udp: dict[ServerKey, set[Endpoint]] = {}

    def apply(
        self, service: str, servers: Iterable[VirtualServer], *, addresses: Iterable[str] = ()
    ) -> tuple[list[Problem], list[str]]:
        had, problems = taken(self._ports, service, servers)
        granted = self._claims.ask(service, had)
        problems += granted.problems
        left = [one for one in granted.servers if self._is_left(one)]
        mine = [one for one in granted.servers if one.address != _LOOPBACK and not self._is_left(one)]
        self._note_udp(self._servers.get(service, []), mine)
        if mine:
            self._servers[service] = mine
        else:
            self._servers.pop(service, None)
        self._replace(service, elements_of(mine, self._members))
        here = [*left, *_at_loopback(mine)] if self._leaves else []
        problems += self._handover.apply(service, left=here, taken=mine, for_all=addresses)
        return problems, granted.heirs

    def _is_left(self, server: VirtualServer) -> bool:
        return server.forwarded and self._leaves

    def _note_udp(self, old: list[VirtualServer], new: list[VirtualServer]) -> None:
        """Flows of UDP to what has changed may have to end, once the change is in effect."""
        before = {one.key: one for one in old if one.protocol == "UDP"}
        after = {one.key: one for one in new if one.protocol == "UDP"}
        for key in before.keys() | after.keys():
            if before.get(key) != after.get(key):
                one = after.get(key)
                self._udp[key] = {*one.all_endpoints(), *one.serving} if one is not None else set()

    def _replace(self, service: str, new: Elements) -> None:
        old = self._elements.get(service, _NOTHING)
        wanted, changed = self._wanted, self._changed
        for place in old.own.keys() - new.own.keys():
            # another Service may have got it meanwhile
            if wanted.get(place) == old.own[place]:
                del wanted[place]
                changed[place] = None
        for place, data in new.own.items():
            if old.own.get(place) != data or place not in wanted:
                wanted[place] = data
                changed[place] = None
        for place in new.shared - old.shared:
            self._holders[place] += 1
            wanted[place] = b""
            changed[place] = None
        for place in old.shared - new.shared:
            self._holders[place] -= 1
            if not self._holders[place]:
                del self._holders[place], wanted[place]
                changed[place] = None
        self._members.exchange(old.members, new.members)
        self._ends.update(new.ends)
        self._new_chains |= new.chains - self._chains
        if new.own:
            self._elements[service] = new
        else:
            self._elements.pop(service, None)

    @property
    def unfinished(self) -> bool:
        return self._handover.unfinished

    def commit(self) -> None:
        if self._changed or not self._in_force:
            self._commit()
        self._end_stale_udp()
        self._handover.settle()

    def _commit(self) -> None:
        try:
            self._tell()
        except OSError as error:
            # somebody may have emptied the table, or removed it
            why = error.strerror or error
            log.warning("table inet %s is made anew, since it could not be changed: %s", self._succession.name, why)
            self._forget_commits()
            self._tell()
        self._remember_commit()

    def _end_stale_udp(self) -> None:
        if not self._udp:
            return
        virtual: dict[Endpoint, set[Endpoint]] = {}
        ports: dict[int, set[Endpoint]] = {}
        for (_, address, port), endpoints in self._udp.items():
            if address in EVERY_ADDRESS:  # of both families
                ports.setdefault(port, set()).update(endpoints)
            else:
                virtual[address, port] = endpoints
        self._udp.clear()
        try:
            conntrack.end_stale(virtual, ports)
        except OSError as error:
            log.warning("flows of UDP that lead to gone endpoints could not be ended: %s", error.strerror)

    def _tell(self) -> None:
        batch, last = self._transactions()
        self._connection.run(batch)
        if last:
            self._connection.run(last)
        if not self._in_force:
            self._succession.take_over(self._connection)
            self._in_force = True

    def _transactions(self) -> tuple[Batch, Batch]:
        """What is told at once, and what goes only when nobody is on the way any more who was led by what went before:
        who is led back to himself and not masqueraded gets no answer, however often he asks."""
        batch, last = Batch(self._succession.name), Batch(self._succession.name)
        for pick in self._new_chains:
            batch.add_chain(pick.name, pick.rules())
        gone: dict[str, list[bytes]] = {}
        come: dict[str, list[bytes]] = {}
        for place in self._changed:
            before, after = self._present.get(place), self._wanted.get(place)
            if before == after:
                continue
            end = self._ends.get(place, b"")
            if before is not None:
                gone.setdefault(place[0], []).append(encode(place, b"", end))
            if after is not None:
                come.setdefault(place[0], []).append(encode(place, after, end))
        for name, elements in gone.items():
            (last if name in LOOPS else batch).delete_elements(name, elements)
        for name, elements in come.items():
            batch.add_elements(name, elements)
        return batch, last

    def _forget_commits(self) -> None:
        """Everything is to be told to the kernel again."""
        try:
            self._succession.begin()
        except ModeUnavailable as error:
            raise OSError(str(error)) from error
        self._in_force = False
        self._present.clear()
        self._new_chains |= self._chains
        self._chains.clear()
        self._changed = dict.fromkeys(self._wanted)

    def _remember_commit(self) -> None:
        self._chains |= self._new_chains
        self._new_chains.clear()
        for place in self._changed:
            after = self._wanted.get(place)
            if after is not None:
                self._present[place] = after
            else:
                self._present.pop(place, None)
                self._ends.pop(place, None)
        self._changed.clear()

    def restore(self) -> tuple[str, ...] | None:
        if not self._in_force or self._connection.table_is_awake(self._succession.name):
            return None
        self._forget_commits()
        return ()

    def rows(self) -> list[dict[str, Any]]:
        try:
            counted = Counted(conntrack.flows(led=True))
        except OSError as error:
            log.warning("connections could not be counted: %s", error.strerror)
            counted = Counted([])
        carried = [_row(service, one, counted) for service, servers in self._servers.items() for one in servers]
        return carried + self._handover.rows()

    def sweep(self) -> list[str]:
        return self._handover.sweep()

    def close(self) -> None:
        self._connection.close()
        try:
            self._succession.close()
        except ModeUnavailable as error:
            log.warning("table inet %s could not be removed: %s", self._succession.name, error)
        self._servers.clear()
        self._claims.clear()
        self._handover.close()
        if self._ports is not None:
            self._ports.close()


def _at_loopback(servers: Iterable[VirtualServer]) -> list[VirtualServer]:
    ports = (one for one in servers if one.purpose == "NodePort" and one.address in (_EVERY_SIX, _LOOPBACK))
    return [replace(one, address=_LOOPBACK, proxy_protocol=None) for one in ports]


def _row(service: str, server: VirtualServer, counted: Counted) -> dict[str, Any]:
    """Weight 0 have those that only keep what they have."""
    weights = dict.fromkeys(server.all_endpoints(), 1)
    if server.address not in EVERY_ADDRESS:  # others may have the port elsewhere
        for one in counted.endpoints(server):
            weights.setdefault(one, 0)
    return {
        "service": service,
        "purpose": server.purpose,
        "protocol": server.protocol,
        "address": server.address,
        "port": server.port,
        "scheduler": "sh" if server.scheduler == "sh" else "random",
        "persistence_seconds": server.affinity_seconds,
        "listening": True,
        "destinations": [
            {"address": one[0], "port": one[1], "weight": weight, **counted.of(server, one)}
            for one, weight in weights.items()
        ],
    }


def probe() -> None:
    """Raises ModeUnavailable where this host cannot have such a table. Changes nothing."""
    run_nft(find_nft(), ruleset(Site(table="kubecore-probe")), "--check")
