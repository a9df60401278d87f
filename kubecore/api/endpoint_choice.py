"""Which endpoints get the connections of a Service's port on one node: pure functions of its EndpointSlices.

Ready endpoints do; when none is ready, those that are terminating but still serving. A policy Local narrows the choice
to this node's endpoints first; else hints may narrow it to those meant for this node or its zone. (kubernetes
`pkg/proxy/topology.go`, `endpointslicecache.go`.)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubecore.api.remembering import remembered

Object = Mapping[str, Any]
Endpoint = tuple[str, int]
"""(address, port)"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where connections come in: a node, in its zone. An empty `node` stands for all nodes: every endpoint is local."""

    node: str = ""
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """Endpoints for the policies Cluster and Local, sorted, each once. `anywhere`: whether there are any that could
    take connections, be it on other nodes."""

    cluster: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()
    anywhere: bool = False


NONE = Choice()


@dataclass(frozen=True, slots=True)
class _Candidate:
    address: str
    port: int
    ready: bool
    draining: bool
    """Terminating, and still serving."""
    local: bool
    for_nodes: frozenset[str]
    for_zones: frozenset[str]


def choose(slices: Iterable[Object], port: Object, family: str, place: Place) -> Choice:
    """For one port of a Service and one address family ("IPv4", "IPv6")."""
    candidates = _candidates(slices, port, family, place)
    if not candidates:
        return NONE
    ready = [one for one in candidates if one.ready]
    draining = [one for one in candidates if one.draining and not one.ready]
    local_ready = [one for one in ready if one.local]
    cluster = _sorted((_hinted(ready, place) if place.node else ready) or draining)
    if not place.node:
        return Choice(cluster, cluster, anywhere=bool(cluster))
    local = _sorted(local_ready or [one for one in draining if one.local])
    return Choice(cluster, local, anywhere=bool(ready or draining))


def ready_here(slices: Iterable[Object], port: Object, family: str, place: Place) -> set[str]:
    """Addresses of the endpoints that are ready on this node."""
    return {one.address for one in _candidates(slices, port, family, place) if one.ready and one.local}


def _candidates(slices: Iterable[Object], port: Object, family: str, place: Place) -> list[_Candidate]:
    found: dict[Endpoint, _Candidate] = {}
    for piece in slices:
        if piece.get("addressType") != family:
            continue
        number = _port_number(piece, port)
        if number is None:
            continue
        for given in piece.get("endpoints") or ():
            # consumers use only the first address of an endpoint (discovery/v1)
            address = canonical((given.get("addresses") or [""])[0])
            if not address or (":" in address) != (family == "IPv6"):
                continue
            one = _candidate(given, address, number, place)
            # one that moves from slice to slice may be in two of them for a moment
            other = found.get((address, number))
            if other is None or (one.local, one.ready) > (other.local, other.ready):
                found[address, number] = one
    return list(found.values())


def _candidate(given: Object, address: str, port: int, place: Place) -> _Candidate:
    conditions, hints = given.get("conditions") or {}, given.get("hints") or {}
    # conditions that are not set: ready, serving, not terminating
    serving = conditions.get("serving") is not False
    return _Candidate(
        address,
        port,
        ready=conditions.get("ready") is not False,
        draining=serving and bool(conditions.get("terminating")),
        local=not place.node or given.get("nodeName") == place.node,
        for_nodes=frozenset(hint["name"] for hint in hints.get("forNodes") or ()),
        for_zones=frozenset(hint["name"] for hint in hints.get("forZones") or ()),
    )


def _port_number(piece: Object, port: Object) -> int | None:
    for candidate in piece.get("ports") or ():
        same_protocol = (candidate.get("protocol") or "TCP") == (port.get("protocol") or "TCP")
        if same_protocol and (candidate.get("name") or "") == (port.get("name") or ""):
            number = candidate.get("port")
            return int(number) if number else None
    return None


def _hinted(ready: list[_Candidate], place: Place) -> list[_Candidate]:
    """Those meant for this node, else for its zone, provided that every ready endpoint says for whom it is; else all.

    (KEP-4444, KEP-3015.)
    """
    if all(one.for_nodes for one in ready):
        near = [one for one in ready if place.node in one.for_nodes]
        if near:
            return near
    if all(one.for_zones for one in ready):
        return [one for one in ready if place.zone in one.for_zones] or ready
    return ready


def _sorted(chosen: list[_Candidate]) -> tuple[Endpoint, ...]:
    if len(chosen) == 1:
        return ((chosen[0].address, chosen[0].port),)
    return tuple(sorted(((one.address, one.port) for one in chosen), key=_order))


def _order(endpoint: Endpoint) -> tuple[int, int]:
    return (int(ipaddress.ip_address(endpoint[0])), endpoint[1])


@remembered(16384)
def canonical(address: str) -> str:
    """The usual form of an IP address, also of one with leading zeros that old objects may hold; "" for no address."""
    if "." in address and ":" not in address:
        address = ".".join(part.lstrip("0") or part[-1:] for part in address.split("."))
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return ""
