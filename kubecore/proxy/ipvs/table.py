"""The mode ipvs: the kernel's own load balancer has the Services, one virtual service for each address and port.

What IPVS cannot do is left to the tables of mode userspace: Services that are to be forwarded, node ports at loopback
addresses, whose packets never leave, and endpoints that listen on the host's loopback address alone (the API server's,
mostly), which IPVS leads nobody to who comes over a link. What it does not ask, `packet_rules` does. Where traffic
policy Local binds outside clients alone, those from inside have a virtual service of their own, found by a mark; so
have pods of each of several nodes where they may go to other endpoints.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import socket
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from kubecore.api.endpoint_choice import Endpoint
from kubecore.netlink import Netlink
from kubecore.proxy.claims import Claims, Problem, where
from kubecore.proxy.data_plane import COUNTED, Mode, ModeUnavailable, each_once, summed
from kubecore.proxy.handover import Handover
from kubecore.proxy.held_addresses import HeldAddresses
from kubecore.proxy.host_ports import HostPorts, taken
from kubecore.proxy.ipvs.leftovers import own_marks
from kubecore.proxy.ipvs.messages import BY_MARK, Connection, Destination, Service, missing
from kubecore.proxy.ipvs.packet_rules import Led, PacketRules, is_silent
from kubecore.proxy.leading import INSIDE, Group
from kubecore.proxy.nftables.ruleset import Site
from kubecore.proxy.table import ServiceTable
from kubecore.proxy.virtual_servers import ServerKey, VirtualServer

log = logging.getLogger(__name__)

_SYSCTL = Path("/proc/sys/net/ipv4/vs")
# Connections are known to conntrack, too; those to an endpoint that is gone end, so that who goes on sending is led
# elsewhere; a client's template does not lead it to an endpoint that drains. (As kube-proxy sets them.)
_SETTINGS = {"conntrack": "1", "expire_nodest_conn": "1", "expire_quiescent_template": "1"}
# A port that is used again at once is led to where it was, though that may drain: a kernel before 5.9 would have the
# client wait for a second otherwise.
_SETTINGS_BEFORE_5_9 = {**_SETTINGS, "conn_reuse_mode": "0"}
_EVERY_ADDRESS = {"0.0.0.0": 4, "::": 6}
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_HASHING = ("sh", "mh")


def connect() -> Connection:
    """Raises ModeUnavailable."""
    try:
        return Connection()
    except FileNotFoundError:
        raise ModeUnavailable("the kernel has no IPVS (its module ip_vs)") from None
    except OSError as error:
        raise ModeUnavailable(f"IPVS: {error.strerror}") from error


def local_addresses(link: str = "") -> list[str]:
    """Where node ports work: all addresses of this host but those of the loopback device, whose packets never leave,
    and those that Services have on `link`."""
    with Netlink() as netlink:
        index = netlink.link_index(link) if link else None
        found = [one for family in (socket.AF_INET, socket.AF_INET6) for one in netlink.addresses(family)]
    return [
        str(one.address.ip)
        for one in found
        if not (one.address.ip.is_loopback or one.address.ip.is_link_local)
        and not (one.index == index and one.address.network.num_addresses == 1)
    ]


class IpvsTable:
    """Invariants, kept between calls:

    - `_present` holds the virtual services that the kernel has from here, with the endpoints that take connections;
      after an error, too.
    - `_draining` holds destinations of weight 0, which go once nobody is connected to them any more.
    """

    mode: Mode = "ipvs"
    restores = True

    def __init__(
        self,
        *,
        held: HeldAddresses | None = None,
        userspace: ServiceTable | None = None,
        pods_on_loopback: bool = False,
        connection: Connection | None = None,
        site: Site | None = None,
        rules: PacketRules | None = None,
        ports: HostPorts | None = None,
        node_addresses: Callable[[], list[str]] = local_addresses,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        """`userspace` has what is left to it; None: nobody has. With `pods_on_loopback` endpoints there are as others.

        Raises ModeUnavailable where the kernel has no IPVS."""
        site = site or Site(table="kubecore-ipvs")
        self._leaves = userspace is not None
        self._pods_on_loopback = pods_on_loopback
        self._connection = connection or connect()
        self._rules = rules or PacketRules(site)
        self._unreflected = ""
        self._node_addresses = node_addresses
        self._ports = ports
        self._handover = Handover(userspace, held or HeldAddresses(None), monotonic)
        self._claims = Claims()
        self._servers: dict[str, list[VirtualServer]] = {}
        self._present: dict[ServerKey, tuple[Service, set[Endpoint]]] = {}
        self._draining: dict[ServerKey, set[Endpoint]] = {}
        self._own_marks = own_marks(site.table)
        self._next_mark = itertools.count(self._own_marks.start + 1)
        self._marks: dict[ServerKey, dict[Group, int]] = {}
        # what a killed run may have left: it goes on and is taken up when it is asked for, marks excepted, by which the
        # rules of that run find their servers
        self._found = set(self._connection.services())
        self._left_marks = {key[2] for key in self._found if key[0] == BY_MARK}
        _set_up()

    def apply(
        self, service: str, servers: Iterable[VirtualServer], *, addresses: Iterable[str] = ()
    ) -> tuple[list[Problem], list[str]]:
        had, problems = taken(self._ports, service, servers)
        granted = self._claims.ask(service, self._at_each_address(had))
        problems += granted.problems
        mine = [one for one in granted.servers if not self._is_left(one)]
        left = [
            one if one.forwarded else replace(one, proxy_protocol=None) for one in granted.servers if self._is_left(one)
        ]
        own = {one.address for one in granted.servers if one.purpose != "NodePort"}
        problems += self._handover.apply(service, left=left, taken=mine, own=own, for_all=addresses)
        problems += self._lead_groups(mine)
        problems += self._keep_out(service, mine, self._rules.tighten)
        for server in mine:
            try:
                self._serve(server, at_once=server.protocol == "UDP")
            except OSError as error:
                problems.append(_not_served(server, error))
        self._keep_out(service, mine, self._rules.loosen)
        gone = (*granted.lost, *(one.key for one in left))
        for server in mine:
            self._forget_groups(server.key, but=_groups(server))
        for key in gone:
            self._forget_groups(key)
            self._remove(key)
        if not self._pods_on_loopback:
            self._rules.reflect(service, (to for one in mine for to in one.all_endpoints()))
        if mine:
            self._servers[service] = mine
        else:
            self._servers.pop(service, None)
        return problems, granted.heirs

    # ------------------------------------------------------------------ what nf_tables does
    def _lead_groups(self, servers: list[VirtualServer]) -> list[Problem]:
        """Clients who may go to other endpoints have virtual services of their own."""
        problems = []
        for server in servers:
            for group, endpoints in _groups(server).items():
                mark = self._marks.get(server.key, {}).get(group) or self._new_mark()
                try:
                    self._serve(_by_mark(server, mark, endpoints), at_once=server.protocol == "UDP")
                    self._marks.setdefault(server.key, {})[group] = mark
                except OSError as error:
                    problems.append(_not_served(server, error))
        return problems

    def _new_mark(self) -> int:
        return next(mark for mark in self._next_mark if mark not in self._left_marks)

    def _forget_groups(self, key: ServerKey, but: Container[Group] = ()) -> None:
        marks = self._marks.get(key, {})
        for group in [one for one in marks if one not in but]:
            self._remove((BY_MARK, _family_of(key), marks.pop(group)))
        if not marks:
            self._marks.pop(key, None)

    def _keep_out(self, service: str, servers: list[VirtualServer], bring: _Bring) -> list[Problem]:
        try:
            bring(service, servers, {(one.key, group): mark for one in servers for group, mark in self._led(one)})
        except (OSError, ModeUnavailable) as error:
            return [problem for server in servers for problem in _not_kept(server, error)][:1]
        return []

    def _led(self, server: VirtualServer) -> list[tuple[Group, int]]:
        """Groups of clients that it is to have, with the marks of those that there are."""
        marks = self._marks.get(server.key, {})
        return [(group, marks[group]) for group in _groups(server) if group in marks]

    # ------------------------------------------------------------------ what IPVS does
    def _is_left(self, server: VirtualServer) -> bool:
        if not self._leaves:
            return False
        if server.forwarded or server.address in _LOOPBACK.values():
            return True
        return not self._pods_on_loopback and any(address.startswith("127.") for address, _ in server.endpoints)

    def _at_each_address(self, servers: Iterable[VirtualServer]) -> Iterable[VirtualServer]:
        """IPVS has no virtual service for every address of the node."""
        here: list[str] | None = None
        for server in servers:
            version = _EVERY_ADDRESS.get(server.address)
            if version is None:
                yield server
                continue
            here = self._node_addresses() if here is None else here
            for address in here:
                if (":" in address) == (version == 6):
                    yield server.at(address)
            if self._leaves:
                yield server.at(_LOOPBACK[version])

    def _serve(self, server: VirtualServer, *, at_once: bool) -> None:
        """`at_once`: endpoints that go do not wait until nobody is connected to them."""
        try:
            self._bring_to(server, at_once=at_once)
        except OSError as error:
            if not missing(error):
                raise
            # somebody else has cleared the kernel's table
            self._remove(server.key)
            self._bring_to(server, at_once=at_once)

    def _bring_to(self, server: VirtualServer, *, at_once: bool) -> None:
        key = server.key
        wanted = Service(
            key, server.scheduler, int(server.affinity_seconds or 0), fallback=server.scheduler in _HASHING
        )
        present, endpoints = self._present.get(key, (None, set()))
        if present is None and key in self._found:
            endpoints = self._take_up(wanted)
        elif present is None:
            self._connection.add_service(wanted)
        elif present != wanted:
            self._connection.change_service(wanted)
        self._present[key] = wanted, endpoints
        # the one added last stands first in the rotation, as in mode userspace
        for endpoint in server.endpoints:
            if endpoint not in endpoints:
                self._take_in(key, endpoint)
                endpoints.add(endpoint)
        for endpoint in endpoints.difference(server.endpoints):
            self._let_go(key, endpoint, at_once=at_once)
            endpoints.discard(endpoint)

    def _take_up(self, wanted: Service) -> set[Endpoint]:
        """Where a virtual service that is there already leads to; who is connected stays so."""
        key = wanted.key
        self._found.discard(key)
        self._connection.change_service(wanted)
        weights = {one.endpoint: one.weight for one in self._connection.destinations(key)}
        if draining := {endpoint for endpoint, weight in weights.items() if not weight}:
            self._draining[key] = draining
        return set(weights) - draining

    def _take_in(self, key: ServerKey, endpoint: Endpoint) -> None:
        draining = self._draining.get(key, set())
        if endpoint in draining:
            self._connection.change_destination(key, endpoint, 1)
            draining.discard(endpoint)
        else:
            self._connection.add_destination(key, endpoint, 1)

    def _let_go(self, key: ServerKey, endpoint: Endpoint, *, at_once: bool) -> None:
        """Who is connected stays so; nobody else is led there."""
        if at_once:
            self._connection.delete_destination(key, endpoint)
            return
        self._connection.change_destination(key, endpoint, 0)
        self._draining.setdefault(key, set()).add(endpoint)

    def _remove(self, key: ServerKey) -> None:
        if key not in self._present:
            return
        try:
            self._connection.delete_service(key)
        except OSError as error:
            if not missing(error):
                raise
        del self._present[key]
        self._draining.pop(key, None)

    @property
    def unfinished(self) -> bool:
        return bool(self._draining) or self._handover.unfinished

    def commit(self) -> None:
        """What was applied is in effect already; what has drained meanwhile goes."""
        self._reflect()
        self._handover.settle()
        for key, endpoints in list(self._draining.items()):
            open_at = {one.endpoint: one.active + one.inactive for one in self._connection.destinations(key)}
            for endpoint in [one for one in endpoints if not open_at.get(one)]:
                if endpoint in open_at:  # else somebody else has removed it
                    self._connection.delete_destination(key, endpoint)
                endpoints.discard(endpoint)
            if not endpoints:
                del self._draining[key]

    def _reflect(self) -> None:
        try:
            self._rules.commit()
            self._unreflected = ""
        except (OSError, ModeUnavailable) as error:
            if str(error) != self._unreflected:
                self._unreflected = str(error)
                log.warning("pods cannot reach themselves through their Services: %s", error)

    def restore(self) -> set[str] | None:
        """Whoever clears the kernel's table clears all of it, so one of ours tells; there may be very many."""
        one = next(iter(self._present), None)
        cleared = one is not None and not self._connection.has_service(one)
        gone = self._present.keys() - self._connection.services().keys() if cleared else set()
        # Last: what has been asked for is forgotten then, and only who hears of it asks again.
        unruled = self._rules.restore()
        if not gone and unruled is None:
            return None
        for key in gone:
            del self._present[key]
            self._draining.pop(key, None)
        keys = {service: {key for one in held for key in self._keys(one)} for service, held in self._servers.items()}
        return {service for service, held in keys.items() if held & gone} | set(unruled or ())

    def rows(self) -> list[dict[str, Any]]:
        counted = self._connection.services()
        return self._handover.rows() + [
            {
                "service": service,
                "purpose": server.purpose,
                "protocol": server.protocol,
                "address": server.address,
                "port": server.port,
                "scheduler": server.scheduler,
                "persistence_seconds": server.affinity_seconds,
                "listening": True,
                **summed(counted[key] for key in self._keys(server) if key in counted),
                "destinations": each_once(
                    _row(one) for key in self._keys(server) for one in self._connection.destinations(key)
                ),
            }
            for service, servers in self._servers.items()
            for server in servers
            if server.key in self._present
        ]

    def _keys(self, server: VirtualServer) -> list[ServerKey]:
        return [server.key, *((BY_MARK, _family_of(server.key), mark) for _, mark in self._led(server))]

    def sweep(self) -> list[str]:
        """Virtual services at addresses that a killed run held go with these, and those by marks of ours."""
        swept = self._handover.sweep()
        self._rules.sweep()
        for key in self._found:
            if key[1] in swept or (key[0] == BY_MARK and key[2] in self._own_marks):
                with suppress(FileNotFoundError, ProcessLookupError):
                    self._connection.delete_service(key)
        self._found.clear()
        return swept

    def close(self) -> None:
        for key in list(self._present):
            try:
                self._remove(key)
            except OSError as error:
                log.warning("%s %s:%d stays in IPVS: %s", *key, error.strerror)
        self._marks.clear()
        self._connection.close()
        self._rules.close()
        self._servers.clear()
        self._claims.clear()
        self._handover.close()
        if self._ports is not None:
            self._ports.close()


_Bring = Callable[[str, Iterable[VirtualServer], Mapping[Led, int]], None]


def _family_of(key: ServerKey) -> str:
    """Stands for the family of its address."""
    return "::" if ":" in key[1] else "0.0.0.0"


def _groups(server: VirtualServer) -> dict[Group, tuple[Endpoint, ...]]:
    """Clients who may go to other endpoints than most, with these."""
    found: dict[Group, tuple[Endpoint, ...]] = {}
    if server.inside is not None and set(server.inside) != set(server.endpoints):
        found[INSIDE] = server.inside
    usual = server.endpoints if server.inside is None else server.inside
    for number, part in enumerate(server.parts):
        if part.for_pods and set(part.for_pods) != set(usual):
            found[Group(number, inside=True)] = part.for_pods
    return found


def _by_mark(server: VirtualServer, mark: int, endpoints: tuple[Endpoint, ...]) -> VirtualServer:
    address = _family_of(server.key)
    given: dict[str, Any] = {"endpoints": endpoints, "inside": None, "parts": (), "guarded": False}
    return replace(server, protocol=BY_MARK, address=address, port=mark, **given)


def _not_served(server: VirtualServer, error: OSError) -> Problem:
    message = f"IPVS cannot serve {where(server)}: {error.strerror}"
    return Problem(server, "FailedToListen", message, passing=True)


def _not_kept(server: VirtualServer, error: Exception) -> Iterator[Problem]:
    """What a server goes without for want of nf_tables."""
    if server.source_ranges:
        message = f"loadBalancerSourceRanges are not enforced, everybody is let in: {error}"
        yield Problem(server, "SourceRangesNotEnforced", message, passing=True)
    if server.parts:
        message = f"nodes of this host count as one for {where(server)}: {error}"
        yield Problem(server, "TrafficPolicyNotEnforced", message, passing=True)
    elif is_silent(server) or _groups(server):
        message = f"the traffic policy of {where(server)} binds clients from inside, and who has no endpoint on this "
        yield Problem(server, "TrafficPolicyNotEnforced", message + f"node is refused: {error}", passing=True)


def _row(one: Destination) -> dict[str, Any]:
    names = ("weight", "active", "inactive", *COUNTED)
    address, port = one.endpoint
    return {"address": address, "port": port, **{name: getattr(one, name) for name in names}}


def settings(release: str) -> dict[str, str]:
    """Of a kernel that calls itself so, its settings for IPVS."""
    version = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    return _SETTINGS if version >= (5, 9) else _SETTINGS_BEFORE_5_9


def _set_up() -> None:
    for name, value in settings(os.uname().release).items():
        try:
            (_SYSCTL / name).write_text(value)
        except OSError as error:
            log.warning("net.ipv4.vs.%s cannot be set to %s: %s", name, value, error.strerror)
