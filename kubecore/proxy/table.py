"""Brings the balancer and the forwarder to what the Services ask for, touching only what has changed."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kubecore import _native
from kubecore.proxy.addresses import AddressBook
from kubecore.proxy.virtual_servers import ServerKey, VirtualServer

_PRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a virtual server is not served; `passing` ones may be gone at the next attempt."""

    server: VirtualServer
    reason: str
    message: str
    passing: bool


class ServiceTable:
    """Invariants, kept between calls:

    - `_claims` holds for every server key the Services that ask for it, in order of asking; the first one has it.
    - `_applied` holds exactly the servers the balancer has; `_bound` those of them the forwarder listens for.
    """

    def __init__(self, *, clock: _native.Clock | None = None, addresses: AddressBook | None = None) -> None:
        self.balancer = _native.Balancer()
        self.forwarder = _native.Forwarder(self.balancer, clock)
        self._addresses = addresses
        self._asked: dict[str, dict[ServerKey, VirtualServer]] = {}
        self._claims: dict[ServerKey, list[str]] = {}
        self._applied: dict[ServerKey, VirtualServer] = {}
        self._bound: set[ServerKey] = set()
        self._held: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._applied)

    def apply(
        self, service: str, servers: Iterable[VirtualServer], *, addresses: Iterable[str] = ()
    ) -> tuple[list[Problem], list[str]]:
        """Make `servers` all that is served for a Service (its key); none takes it out. `addresses` are held on the
        link for the sake of others who listen on them. Returns the problems, and other Services that have become the
        first to ask for something and should be applied again.
        """
        wanted = {server.key: server for server in servers}
        asked = self._asked.get(service, {})
        heirs = [heir for key in asked.keys() - wanted.keys() if (heir := self._give_up(service, key))]
        if wanted:
            self._asked[service] = wanted
        else:
            self._asked.pop(service, None)
        problems = self._hold(
            service, set(addresses) | {ip for ip in (_held_for(one) for one in wanted.values()) if ip}
        )
        for key, server in wanted.items():
            claims = self._claims.setdefault(key, [])
            if service not in claims:
                claims.append(service)
            if claims[0] != service:
                taken = f"{_where(server)} belongs to Service {claims[0]}"
                problems.append(Problem(server, "AddressTaken", taken, passing=False))
            elif problem := self._serve(server):
                problems.append(problem)
        return problems, heirs

    def close(self) -> None:
        """Close all listeners, end all connections, take the addresses back."""
        self.forwarder.shutdown()
        for key in self._applied:
            self.balancer.remove_service(*key)
        self._applied.clear()
        self._bound.clear()
        self._claims.clear()
        self._asked.clear()
        self._held.clear()
        if self._addresses is not None:
            self._addresses.close()

    def rows(self) -> list[dict[str, Any]]:
        """The balancer's services (see `_native.Balancer.services`), each with `service`, the key of its Service,
        `purpose`, and `listening`."""
        found = []
        for row in self.balancer.services():
            key = (row["protocol"], row["address"], row["port"])
            claims = self._claims.get(key) or [""]
            purpose = self._applied[key].purpose if key in self._applied else ""
            found.append({**row, "service": claims[0], "purpose": purpose, "listening": key in self._bound})
        return found

    def _give_up(self, service: str, key: ServerKey) -> str | None:
        claims = self._claims.get(key, [])
        if service not in claims:
            return None
        had_it = claims[0] == service
        claims.remove(service)
        if not claims:
            self._claims.pop(key)
        if had_it and key in self._applied:
            self.forwarder.close(*key)
            self.balancer.remove_service(*key)
            del self._applied[key]
            self._bound.discard(key)
        return claims[0] if had_it and claims else None

    def _serve(self, server: VirtualServer) -> Problem | None:
        try:
            self._balance(server)
        except ValueError as error:
            return _problem(server, error)
        if server.key in self._bound:
            return None
        try:
            self.forwarder.listen(*server.key)
        except (OSError, ValueError) as error:
            return _problem(server, error)
        self._bound.add(server.key)
        return None

    def _balance(self, server: VirtualServer) -> None:
        known = self._applied.get(server.key)
        options = (server.scheduler, server.affinity_seconds)
        if known is None or options != (known.scheduler, known.affinity_seconds):
            self.balancer.put_service(
                *server.key,
                scheduler=server.scheduler,
                persistence_seconds=server.affinity_seconds,
                hash_fallback=True,
            )
            held = known.endpoints if known is not None else ()
            known = self._applied[server.key] = replace(server, endpoints=held)
        if known.endpoints != server.endpoints:
            self.balancer.set_destinations(*server.key, [(ip, port, 1) for ip, port in server.endpoints])
        self._applied[server.key] = server

    def _hold(self, service: str, addresses: set[str]) -> list[Problem]:
        if self._addresses is None:
            return []
        problems = []
        held = self._held.get(service, set())
        for address in held - addresses:
            self._addresses.release(address)
        now = held & addresses
        for address in sorted(addresses - held):
            try:
                self._addresses.hold(address)
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


def _held_for(server: VirtualServer) -> str | None:
    return None if server.purpose == "NodePort" else server.address


def _where(server: VirtualServer) -> str:
    host = f"[{server.address}]" if ":" in server.address else server.address
    return f"{server.protocol} {host}:{server.port}"


def _problem(server: VirtualServer, error: OSError | ValueError) -> Problem:
    if not isinstance(error, OSError):
        return Problem(server, "FailedToListen", f"cannot serve {_where(server)}: {error}", passing=False)
    message = f"cannot listen on {_where(server)}: {error.strerror}"
    if error.errno == errno.EACCES:
        message += f"; ports below {_first_unprivileged_port()} need root or CAP_NET_BIND_SERVICE here"
    return Problem(server, "FailedToListen", message, passing=error.errno != errno.EACCES)


def _first_unprivileged_port() -> int:
    try:
        return int(_PRIVILEGED.read_text())
    except (OSError, ValueError):
        return 1024
