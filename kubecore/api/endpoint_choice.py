"""Which endpoints get the connections of a Service's port on a node: pure functions of its EndpointSlices.

Ready endpoints do; when none is ready, those that are terminating but still serving. A policy Local narrows the choice
to this node's endpoints first; else hints may narrow it to those meant for this node or its zone. (kubernetes
`pkg/proxy/topology.go`, `endpointslicecache.go`.)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
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
    take connections, be it on other nodes. `serving`, of UDP: all that answer, whoever may come to them now, for flows
    stay where they are (kubernetes `pkg/proxy/conntrack/cleanup.go`)."""

    cluster: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()
    anywhere: bool = False
    serving: tuple[Endpoint, ...] = ()


NONE = Choice()


@dataclass(frozen=True, slots=True)
class _Candidate:
    address: str
    port: int
    ready: bool
    draining: bool
    """Terminating, and still serving."""
    node: str
    for_nodes: frozenset[str]
    for_zones: frozenset[str]


def choose(slices: Iterable[Object], port: Object, family: str, place: Place) -> Choice:
    """For one port of a Service and one address family ("IPv4", "IPv6")."""
    places = (place,)
    return _choice(_candidates(slices, port, family, places), places, flows_stay=_flows_stay(port))


def choose_for_each(
    slices: Iterable[Object], port: Object, family: str, places: Sequence[Place], *, policy_local: bool
) -> tuple[Choice, tuple[Choice, ...]]:
    """For who may have come to any of these places, and for each of them; () if it makes no difference to connections,
    which are bound by a policy Local only with `policy_local`."""
    candidates = _candidates(slices, port, family, places)
    flows_stay = _flows_stay(port)
    shared = _choice(candidates, places, flows_stay=flows_stay)
    if len(places) < 2 or not candidates or not (policy_local or _any_hints(candidates)):
        return shared, ()
    return shared, tuple(_choice(candidates, (place,), flows_stay=flows_stay) for place in places)


def _flows_stay(port: Object) -> bool:
    return port.get("protocol") == "UDP"


def _any_hints(candidates: list[_Candidate]) -> bool:
    return any(one.for_nodes or one.for_zones for one in candidates)


def _choice(candidates: list[_Candidate], places: Sequence[Place], *, flows_stay: bool) -> Choice:
    if not candidates:
        return NONE
    ready = [one for one in candidates if one.ready]
    draining = [one for one in candidates if one.draining and not one.ready]
    serving = _sorted([*ready, *draining]) if flows_stay else ()
    if not places[0].node:
        cluster = _sorted(ready or draining)
        return Choice(cluster, cluster, bool(cluster), serving)
    names = [place.node for place in places]
    local = [one for one in ready if one.node in names] or [one for one in draining if one.node in names]
    cluster = _sorted(_hinted_to_any(ready, places) or draining)
    return Choice(cluster, _sorted(local), bool(ready or draining), serving)


def ready_here(slices: Iterable[Object], port: Object, family: str, places: Sequence[Place]) -> dict[str, str]:
    """Addresses of the endpoints that are ready at one of these places, with their nodes."""
    names, found = {place.node for place in places}, _candidates(slices, port, family, places)
    return {one.address: one.node for one in found if one.ready and (names == {""} or one.node in names)}


def _candidates(slices: Iterable[Object], port: Object, family: str, places: Sequence[Place]) -> list[_Candidate]:
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
            one = _candidate(given, address, number)
            # one that moves from slice to slice may be in two of them for a moment
            other = found.get((address, number))
            found[address, number] = one if other is None else _better(one, other, places)
    return list(found.values())


def _better(one: _Candidate, other: _Candidate, places: Sequence[Place]) -> _Candidate:
    def rank(candidate: _Candidate) -> tuple[bool, bool]:
        return any(place.node in ("", candidate.node) for place in places), candidate.ready

    return one if rank(one) > rank(other) else other


def _candidate(given: Object, address: str, port: int) -> _Candidate:
    conditions, hints = given.get("conditions") or {}, given.get("hints") or {}
    # conditions that are not set: ready, serving, not terminating
    serving = conditions.get("serving") is not False
    return _Candidate(
        address,
        port,
        ready=conditions.get("ready") is not False,
        draining=serving and bool(conditions.get("terminating")),
        node=given.get("nodeName") or "",
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


def _hinted_to_any(ready: list[_Candidate], places: Sequence[Place]) -> list[_Candidate]:
    if len(places) == 1 or not _any_hints(ready):
        return _hinted(ready, places[0])
    meant = {id(one) for place in places for one in _hinted(ready, place)}
    return [one for one in ready if id(one) in meant]


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
