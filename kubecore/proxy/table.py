"""Brings the balancer and the forwarder to what the Services ask for, touching only what has changed."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kubecore import _native
from kubecore.proxy.addresses import AddressBook
from kubecore.proxy.claims import Claims, Problem, where
from kubecore.proxy.data_plane import Mode
from kubecore.proxy.held_addresses import HeldAddresses
from kubecore.proxy.virtual_servers import ServerKey, VirtualServer

_PRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


class ServiceTable:
    """Invariants, kept between calls:

    - `_applied` holds exactly the servers the balancer has; `_bound` those of them the forwarder listens for, with
      the PROXY protocol's version that it speaks there.
    """

    mode: Mode = "userspace"
    unfinished = False

    def __init__(self, *, clock: _native.Clock | None = None, addresses: AddressBook | None = None) -> None:
        self.balancer = _native.Balancer()
        self.forwarder = _native.Forwarder(self.balancer, clock)
        self._held = HeldAddresses(addresses)
        self._claims = Claims()
        self._applied: dict[ServerKey, VirtualServer] = {}
        self._bound: dict[ServerKey, int | None] = {}

    def __len__(self) -> int:
        return len(self._applied)

    def apply(
        self, service: str, servers: Iterable[VirtualServer], *, addresses: Iterable[str] = ()
    ) -> tuple[list[Problem], list[str]]:
        granted = self._claims.ask(service, servers)
        for key in granted.lost:
            self._give_up(key)
        problems = granted.problems
        own = {ip for ip in (_held_for(one) for one in granted.servers) if ip}
        problems += self._held.hold(service, own | set(addresses))
        problems += [problem for server in granted.servers if (problem := self._serve(server))]
        return problems, granted.heirs

    def commit(self) -> None:
        """What was applied is in effect already."""

    def sweep(self) -> list[str]:
        return self._held.sweep()

    def close(self) -> None:
        """Close all listeners, end all connections, take the addresses back."""
        self.forwarder.shutdown()
        for key in self._applied:
            self.balancer.remove_service(*key)
        self._applied.clear()
        self._bound.clear()
        self._claims.clear()
        self._held.close()

    def rows(self) -> list[dict[str, Any]]:
        """The balancer's services (see `_native.Balancer.services`), each with `service`, the key of its Service,
        `purpose`, and `listening`; without the rates, which nobody has reckoned here."""
        found = []
        for row in self.balancer.services():
            for counted in (row, *row["destinations"]):
                del counted["per_second"]
            key = (row["protocol"], row["address"], row["port"])
            purpose = self._applied[key].purpose if key in self._applied else ""
            found.append(
                {**row, "service": self._claims.owner(key), "purpose": purpose, "listening": key in self._bound}
            )
        return found

    def _give_up(self, key: ServerKey) -> None:
        if key in self._applied:
            self.forwarder.close(*key)
            self.balancer.remove_service(*key)
            del self._applied[key]
            self._bound.pop(key, None)

    def _serve(self, server: VirtualServer) -> Problem | None:
        try:
            self._balance(server)
        except ValueError as error:
            return _problem(server, error)
        if server.key in self._bound:
            if self._bound[server.key] == server.proxy_protocol:
                return None
            self.forwarder.close(*server.key)
            del self._bound[server.key]
        try:
            self.forwarder.listen(*server.key, proxy_protocol=server.proxy_protocol)
        except (OSError, ValueError) as error:
            return _problem(server, error)
        self._bound[server.key] = server.proxy_protocol
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
