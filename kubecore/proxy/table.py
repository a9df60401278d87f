"""Brings the balancer and the forwarder to what the Services ask for, touching only what has changed."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kubecore import _native
from kubecore.api.endpoint_choice import Endpoint
from kubecore.pod_namespaces import PodNamespaces
from kubecore.proxy.addresses import AddressBook
from kubecore.proxy.borrowed_addresses import BorrowedAddresses
from kubecore.proxy.claims import Claims, Problem, where
from kubecore.proxy.data_plane import Mode, each_once, summed
from kubecore.proxy.held_addresses import HeldAddresses
from kubecore.proxy.host_ports import HostPorts, taken
from kubecore.proxy.leading import Group, Rule, endpoints_of, rules
from kubecore.proxy.virtual_servers import ServerKey, VirtualServer

_BY_MARK = "FWM"
_PACKETS = ("packets_in", "packets_out")
_OWN = ("127.0.0.0/8", "::1/128")
LOOK_SECONDS = 1.0
"""What only open connections still need is looked for no more often: there may be very many of them."""
_PRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


class ServiceTable:
    """Invariants, kept between calls:

    - `_applied` holds exactly the servers the balancer has, `_destinations` what each of them has there; `_bound` those
      of them the forwarder listens for.
    - `_groups` are of the servers some of whose clients get other endpoints: the balancer has those of each group as a
      service by its firewall mark.
    """

    mode: Mode = "userspace"

    def __init__(
        self,
        *,
        clock: _native.Clock | None = None,
        addresses: AddressBook | None = None,
        pod_ranges: Sequence[str] = (),
        borrowed: BorrowedAddresses | None = None,
        ports: HostPorts | None = None,
        freebind: bool = False,
        one_listener: bool = False,
        namespaces: PodNamespaces | None = None,
    ) -> None:
        """Clients from `pod_ranges` are not outside, and neither is this host. With `borrowed`, pods see clients from
        outside with their own addresses where the Service's traffic policy is Local; pods of `namespaces` are always
        seen so by each other. With `ports`, other clusters of this host have none of those that it has. With
        `freebind`, somebody else sees to it that addresses are this host's. With `one_listener`, addresses share a
        socket where the kernel lets us."""
        self.balancer = _native.Balancer()
        self._clock = clock or _native.Clock()
        inside = namespaces.native if namespaces is not None else None
        self.forwarder = _native.Forwarder(
            self.balancer,
            clock,
            one_listener=one_listener,
            freebind=freebind or addresses is not None,
            namespaces=inside,
        )
        self._held = HeldAddresses(addresses, self._used_addresses)
        self._claims = Claims()
        self._ports = ports
        self._applied: dict[ServerKey, VirtualServer] = {}
        self._destinations: dict[ServerKey, list[_Weighed]] = {}
        self._bound: set[ServerKey] = set()
        self._pod_ranges, self._inside_ranges = pod_ranges, [*pod_ranges, *_OWN]
        self._borrowed = borrowed
        self.restores = borrowed is not None
        self._groups: dict[ServerKey, _Groups] = {}
        self._next_mark = itertools.count(1)
        self._look_again = 0.0

    def __len__(self) -> int:
        return len(self._applied)

    def apply(
        self, service: str, servers: Iterable[VirtualServer], *, addresses: Iterable[str] = ()
    ) -> tuple[list[Problem], list[str]]:
        had, problems = taken(self._ports, service, servers)
        granted = self._claims.ask(service, had)
        for key in granted.lost:
            self._give_up(key)
        problems += granted.problems
        own = {ip for ip in (_held_for(one) for one in granted.servers) if ip}
        problems += self._held.hold(service, own, addresses)
        problems += [problem for server in granted.servers if (problem := self._serve(server))]
        return problems, granted.heirs

    @property
    def unfinished(self) -> bool:
        return self._held.unfinished

    def commit(self) -> None:
        """What was applied is in effect already, but for addresses that only open connections may still need."""
        now = self._clock.monotonic()
        if now >= self._look_again:
            self._held.settle()
            self._look_again = now + LOOK_SECONDS if self._held.unfinished else now

    def restore(self) -> tuple[str, ...] | None:
        """Sockets are nobody else's to remove. What keeps answers to borrowed addresses is there again at once."""
        return () if self._borrowed is not None and self._borrowed.restore() else None

    def sweep(self) -> list[str]:
        if self._borrowed is not None:
            self._borrowed.sweep()
        return self._held.sweep()

    def close(self) -> None:
        """Close all listeners, end all connections, take the addresses back."""
        self.forwarder.shutdown()
        for key in self._applied:
            self.balancer.remove_service(*key)
            self._forget_groups(key)
        self._applied.clear()
        self._destinations.clear()
        self._bound.clear()
        self._claims.clear()
        if self._borrowed is not None:
            self._borrowed.close()
        self._held.close()
        if self._ports is not None:
            self._ports.close()

    def rows(self) -> list[dict[str, Any]]:
        """The balancer's services (see `_native.Balancer.services`), each with `service`, the key of its Service,
        `purpose`, and `listening`; without the rates, which nobody has reckoned here, and the packets of TCP, which the
        kernel makes."""
        services = self.balancer.services(self._clock.monotonic())
        for row in services:
            for counted in (row, *row["destinations"]):
                del counted["per_second"]
        by_mark = {row["mark"]: row for row in services if "mark" in row}
        found = []
        for row in (one for one in services if "mark" not in one):
            key = (row["protocol"], row["address"], row["port"])
            purpose = self._applied[key].purpose if key in self._applied else ""
            marks = [one.mark for one in self._groups.get(key, _Groups()).balanced.values()]
            led = [by_mark[mark] for mark in marks if mark in by_mark]
            row |= summed([row, *led])
            row["destinations"] = each_once(to for one in (row, *led) for to in one["destinations"])
            for counted in (row, *row["destinations"]) if row["protocol"] == "TCP" else ():
                for name in _PACKETS:
                    del counted[name]
            found.append(
                {**row, "service": self._claims.owner(key), "purpose": purpose, "listening": key in self._bound}
            )
        return found

    def _used_addresses(self) -> set[str]:
        return {address for address, _ in self.forwarder.targets()}

    def _give_up(self, key: ServerKey) -> None:
        if key in self._applied:
            self.forwarder.close(*key)
            self.balancer.remove_service(*key)
            self._forget_groups(key)
            del self._applied[key], self._destinations[key]
            self._bound.discard(key)

    def _serve(self, server: VirtualServer) -> Problem | None:
        before = self._applied.get(server.key)
        fresh = server.key not in self._bound
        try:
            # of no endpoint until it is known who may come: nobody is let in
            self._balance(replace(server, endpoints=()) if fresh else server)
        except ValueError as error:
            return _problem(server, error)
        if not fresh:
            self._admit(server, before)
            return None
        try:
            self.forwarder.listen(*server.key, proxy_protocol=server.proxy_protocol)
        except (OSError, ValueError) as error:
            return _problem(server, error)
        self._bound.add(server.key)
        # Until its endpoints are there, who comes is refused: if dropped, he would try again after a second only.
        first = replace(server, anywhere=server.anywhere and not server.endpoints)
        self._admit(first, None)
        self._balance(server)
        self._admit(server, first)
        return None

    def _admit(self, server: VirtualServer, before: VirtualServer | None) -> None:
        """Have the listener know who may come to it, and who is led to other endpoints."""
        if before is not None and _admitted(before) == _admitted(server):
            return
        asked = tuple(rules(server))
        led = self._groups.setdefault(server.key, _Groups())
        wanted = endpoints_of(server, asked)
        marks = {group: self._balance_group(led, group, server, found) for group, found in wanted.items()}
        if before is None or _access(before) != _access(server) or led.asked != asked:
            local = server.inside is not None
            borrows = local and self._borrowed is not None and self._borrowed.allowed()
            self.forwarder.set_access(
                *server.key,
                sources=server.source_ranges,
                silent=server.anywhere,
                led=[(one.clients, one.targets, marks[one.group] if one.group else None) for one in asked],
                apart=server.guarded,
                inside_ranges=self._inside_ranges if local else (),
                transparent_ranges=self._pod_ranges if borrows else (),
                proxy_protocol=server.proxy_protocol,
            )
            led.asked = asked
        self._forget_groups(server.key, but=wanted)

    def _balance_group(self, led: _Groups, group: Group, server: VirtualServer, endpoints: tuple[Endpoint, ...]) -> int:
        """As the server is, from now on; returns its mark."""
        known = led.balanced.get(group) or _Balanced(next(self._next_mark))
        key, options = (_BY_MARK, "", known.mark), (server.scheduler, server.affinity_seconds)
        destinations = _weighed(endpoints, server, known.destinations)
        if known.options != options:
            self._put_service(key, server)
        if known.destinations != destinations:
            self.balancer.set_destinations(*key, destinations)
        known.options, known.destinations = options, destinations
        led.balanced[group] = known
        return known.mark

    def _forget_groups(self, key: ServerKey, but: Container[Group] = ()) -> None:
        led = self._groups.get(key, _Groups())
        for group in [one for one in led.balanced if one not in but]:
            self.balancer.remove_service(_BY_MARK, "", led.balanced.pop(group).mark)
        if not led.balanced:
            self._groups.pop(key, None)

    def _put_service(self, key: ServerKey, server: VirtualServer) -> None:
        self.balancer.put_service(
            *key,
            scheduler=server.scheduler,
            persistence_seconds=server.affinity_seconds,
            expire_quiescent=True,
            hash_fallback=True,
        )

    def _balance(self, server: VirtualServer) -> None:
        key, known = server.key, self._applied.get(server.key)
        options = (server.scheduler, server.affinity_seconds)
        if known is None or options != (known.scheduler, known.affinity_seconds):
            self._put_service(key, server)
        self._applied[key] = server
        present = self._destinations.setdefault(key, [])
        destinations = _weighed(server.endpoints, server, present)
        if destinations != present:
            self.balancer.set_destinations(*key, destinations)
            self._destinations[key] = destinations


_Weighed = tuple[str, int, int]
"""(address, port, weight)"""


@dataclass(slots=True)
class _Balanced:
    """A group's service by its mark, and what the balancer has of it."""

    mark: int
    options: tuple[str, float | None] | None = None
    destinations: list[_Weighed] = field(default_factory=list)


@dataclass(slots=True)
class _Groups:
    """Of one server, and the rules by which its listener knows them."""

    asked: tuple[Rule, ...] = ()
    balanced: dict[Group, _Balanced] = field(default_factory=dict)


def _weighed(endpoints: Iterable[Endpoint], server: VirtualServer, present: Iterable[_Weighed]) -> list[_Weighed]:
    """To those of weight 0 nobody comes, but who is there stays: of what is present, all that serve."""
    weights = dict.fromkeys(endpoints, 1)
    serving = set(server.serving)
    for ip, port, _ in present if serving else ():
        if (ip, port) in serving:
            weights.setdefault((ip, port), 0)
    return [(ip, port, weight) for (ip, port), weight in weights.items()]


def _admitted(server: VirtualServer) -> tuple[Any, ...]:
    """What the groups of clients depend on, and what else the listener is to know."""
    balancing = (server.inside, server.parts, server.scheduler, server.affinity_seconds, server.serving)
    return (server.source_ranges, server.anywhere, server.proxy_protocol, server.guarded, balancing)


def _access(server: VirtualServer) -> tuple[Any, ...]:
    """What the listener is to know besides the groups."""
    return (server.source_ranges, server.anywhere, server.proxy_protocol, server.inside is None, server.guarded)


def _held_for(server: VirtualServer) -> str | None:
    return None if server.purpose == "NodePort" else server.address


def _problem(server: VirtualServer, error: OSError | ValueError) -> Problem:
    if not isinstance(error, OSError):
        return Problem(server, "FailedToListen", f"cannot serve {where(server)}: {error}", passing=False)
    message = f"cannot listen on {where(server)}: {error.strerror}"
    if error.errno == errno.EACCES:
        message += f"; ports below {_first_unprivileged_port()} need root or CAP_NET_BIND_SERVICE here"
    return Problem(server, "FailedToListen", message, passing=error.errno != errno.EACCES)


def _first_unprivileged_port() -> int:
    try:
        return int(_PRIVILEGED.read_text())
    except (OSError, ValueError):
        return 1024
