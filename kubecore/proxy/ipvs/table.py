"""The mode ipvs: the kernel's own load balancer has the Services, one virtual service for each address and port.

What IPVS cannot do is left to the tables of mode userspace: Services that are to be forwarded, node ports at loopback
addresses, whose packets never leave, and endpoints that listen on the host's loopback address alone (the API server's,
mostly), which IPVS leads nobody to who comes over a link.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kubecore.api.endpoint_choice import Endpoint
from kubecore.netlink import Netlink
from kubecore.proxy.claims import Claims, Problem, where
from kubecore.proxy.data_plane import Mode, ModeUnavailable
from kubecore.proxy.held_addresses import HeldAddresses
from kubecore.proxy.ipvs.messages import Connection, Destination, Service, missing
from kubecore.proxy.ipvs.source_guard import SourceGuard
from kubecore.proxy.table import ServiceTable
from kubecore.proxy.virtual_servers import ServerKey, VirtualServer

log = logging.getLogger(__name__)

_SYSCTL = Path("/proc/sys/net/ipv4/vs")
# Connections are known to conntrack, too; a client's template does not lead it to an endpoint that drains; a port that
# is used again at once gets a connection of its own. (As kube-proxy sets them.)
_SETTINGS = {"conntrack": "1", "expire_quiescent_template": "1", "conn_reuse_mode": "0"}
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

    def __init__(
        self,
        *,
        held: HeldAddresses | None = None,
        userspace: ServiceTable | None = None,
        pods_on_loopback: bool = False,
        connection: Connection | None = None,
        guard: SourceGuard | None = None,
        node_addresses: Callable[[], list[str]] = local_addresses,
    ) -> None:
        """`userspace` has what is left to it; None: nobody has. With `pods_on_loopback` endpoints there are as others.

        Raises ModeUnavailable where the kernel has no IPVS."""
        self._userspace = userspace
        self._pods_on_loopback = pods_on_loopback
        self._connection = connection or connect()
        self._guard = guard or SourceGuard("kubecore-guard")
        self._node_addresses = node_addresses
        self._held = held or HeldAddresses(None)
        self._claims = Claims()
        self._servers: dict[str, list[VirtualServer]] = {}
        self._present: dict[ServerKey, tuple[Service, set[Endpoint]]] = {}
        self._draining: dict[ServerKey, set[Endpoint]] = {}
        # what a killed run may have left; such keys are made anew when they are asked for
        self._found = set(self._connection.services())
        _set_up()

    def apply(
        self, service: str, servers: Iterable[VirtualServer], *, addresses: Iterable[str] = ()
    ) -> tuple[list[Problem], list[str]]:
        granted = self._claims.ask(service, self._at_each_address(servers))
        for key in granted.lost:
            self._remove(key)
        own = {one.address for one in granted.servers if one.purpose != "NodePort"}
        problems = granted.problems + self._held.hold(service, own | set(addresses))
        mine = [one for one in granted.servers if not self._is_left(one)]
        if self._userspace is not None:
            left = [
                one if one.forwarded else replace(one, proxy_protocol=None)
                for one in granted.servers
                if self._is_left(one)
            ]
            for server in left:
                self._remove(server.key)
            problems += self._userspace.apply(service, left)[0]
        problems += self._restrict(service, granted.servers)
        for server in mine:
            try:
                self._serve(server)
            except OSError as error:
                message = f"IPVS cannot serve {where(server)}: {error.strerror}"
                problems.append(Problem(server, "FailedToListen", message, passing=True))
        if mine:
            self._servers[service] = mine
        else:
            self._servers.pop(service, None)
        return problems, granted.heirs

    def _restrict(self, service: str, servers: list[VirtualServer]) -> list[Problem]:
        try:
            self._guard.restrict(service, servers)
        except (OSError, ModeUnavailable) as error:
            message = f"loadBalancerSourceRanges are not enforced, everybody is let in: {error}"
            restricted = [one for one in servers if one.source_ranges]
            return [Problem(one, "SourceRangesNotEnforced", message, passing=True) for one in restricted[:1]]
        return []

    def _is_left(self, server: VirtualServer) -> bool:
        if self._userspace is None:
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
                    yield replace(server, address=address)
            if self._userspace is not None:
                yield replace(server, address=_LOOPBACK[version])

    def _serve(self, server: VirtualServer) -> None:
        try:
            self._bring_to(server)
        except OSError as error:
            if not missing(error):
                raise
            # somebody else has cleared the kernel's table
            self._remove(server.key)
            self._bring_to(server)

    def _bring_to(self, server: VirtualServer) -> None:
        key = server.key
        wanted = Service(
            key, server.scheduler, int(server.affinity_seconds or 0), fallback=server.scheduler in _HASHING
        )
        present, endpoints = self._present.get(key, (None, set()))
        if present is None:
            if key in self._found:
                self._found.discard(key)
                self._connection.delete_service(key)
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
            self._let_go(key, endpoint, at_once=server.protocol == "UDP")
            endpoints.discard(endpoint)

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
        return bool(self._draining)

    def commit(self) -> None:
        """What was applied is in effect already; what has drained meanwhile goes."""
        for key, endpoints in list(self._draining.items()):
            open_at = {one.endpoint: one.active + one.inactive for one in self._connection.destinations(key)}
            for endpoint in [one for one in endpoints if not open_at.get(one)]:
                if endpoint in open_at:  # else somebody else has removed it
                    self._connection.delete_destination(key, endpoint)
                endpoints.discard(endpoint)
            if not endpoints:
                del self._draining[key]

    def rows(self) -> list[dict[str, Any]]:
        left = self._userspace.rows() if self._userspace is not None else []
        return left + [
            {
                "service": service,
                "purpose": server.purpose,
                "protocol": server.protocol,
                "address": server.address,
                "port": server.port,
                "scheduler": server.scheduler,
                "persistence_seconds": server.affinity_seconds,
                "listening": True,
                "destinations": [_row(one) for one in self._connection.destinations(server.key)],
            }
            for service, servers in self._servers.items()
            for server in servers
            if server.key in self._present
        ]

    def sweep(self) -> list[str]:
        """Virtual services at addresses that a killed run held go with these."""
        swept = self._held.sweep()
        for key in self._found:
            if key[1] in swept:
                self._connection.delete_service(key)
        self._found.clear()
        return swept

    def close(self) -> None:
        for key in list(self._present):
            try:
                self._remove(key)
            except OSError as error:
                log.warning("%s %s:%d stays in IPVS: %s", *key, error.strerror)
        self._connection.close()
        self._guard.close()
        if self._userspace is not None:
            self._userspace.close()
        self._servers.clear()
        self._claims.clear()
        self._held.close()


def _row(one: Destination) -> dict[str, Any]:
    names = ("weight", "active", "inactive", "connections", "packets_in", "packets_out", "bytes_in", "bytes_out")
    address, port = one.endpoint
    return {"address": address, "port": port, **{name: getattr(one, name) for name in names}}


def _set_up() -> None:
    for name, value in _SETTINGS.items():
        try:
            (_SYSCTL / name).write_text(value)
        except OSError as error:
            log.warning("net.ipv4.vs.%s cannot be set to %s: %s", name, value, error.strerror)
