"""Which EndpointSlices to make, change and delete so that they say what they should: pure functions.

Slices that need no change are left alone, and endpoints stay in their slice, because every changed slice is sent to
every node. (kubernetes `staging/src/k8s.io/endpointslice/reconciler.go`.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers.services.service_endpoints import Port, ports_key

MAXIMUM_PER_SLICE = 100

Endpoint = dict[str, Any]
GroupKey = tuple[str, tuple[tuple[Any, ...], ...]]


@dataclass(slots=True)
class Group:
    """Endpoints of one address family that serve the same ports: what one slice can hold."""

    address_type: str
    ports: list[Port]
    endpoints: list[Endpoint] = field(default_factory=list)

    @property
    def key(self) -> GroupKey:
        return (self.address_type, ports_key(self.ports))


@dataclass(slots=True)
class Plan:
    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def plan(wanted: Iterable[Group], existing: Iterable[Object], labels: dict[str, str]) -> Plan:
    """Slices to write. Those to create hold addressType, ports and endpoints only; the others are whole objects."""
    result = Plan()
    by_key: dict[GroupKey, list[Object]] = {}
    for one in existing:
        by_key.setdefault((one["addressType"], ports_key(one.get("ports") or [])), []).append(one)
    for group in wanted:
        _plan_group(group, by_key.pop(group.key, []), labels, result)
    for left_over in by_key.values():
        result.delete += left_over
    return result


def _plan_group(group: Group, existing: list[Object], labels: dict[str, str], result: Plan) -> None:
    missing = {endpoint_key(endpoint): endpoint for endpoint in group.endpoints}
    kept: list[tuple[Object, list[Endpoint]]] = []
    for one in sorted(existing, key=meta.name):
        stay = []
        for endpoint in one.get("endpoints") or ():
            wanted = missing.pop(endpoint_key(endpoint), None)
            if wanted is not None:
                stay.append(wanted)
        kept.append((one, stay))
    rest = list(missing.values())
    # slices that change anyhow take new endpoints first, then those with most room
    for one, stay in sorted(kept, key=lambda entry: (entry[1] == entry[0].get("endpoints"), len(entry[1]))):
        room = MAXIMUM_PER_SLICE - len(stay)
        stay += rest[:room]
        rest = rest[room:]
        _plan_slice(one, stay, group, labels, result)
    while rest:
        result.create.append(
            {"addressType": group.address_type, "ports": group.ports, "endpoints": rest[:MAXIMUM_PER_SLICE]}
        )
        rest = rest[MAXIMUM_PER_SLICE:]
    has_slice = result.create or any(one not in result.delete for one, _ in kept)
    if not group.endpoints and not has_slice:
        result.create.append({"addressType": group.address_type, "ports": group.ports, "endpoints": []})


def _plan_slice(one: Object, endpoints: list[Endpoint], group: Group, labels: dict[str, str], result: Plan) -> None:
    if not endpoints and group.endpoints:
        result.delete.append(one)
        return
    same_endpoints = endpoints == (one.get("endpoints") or [])
    if same_endpoints and meta.labels(one) == labels and (one.get("ports") or []) == group.ports:
        return
    changed = meta.deepcopy(one)
    changed["endpoints"], changed["ports"] = endpoints, group.ports
    changed["metadata"]["labels"] = dict(labels)
    result.update.append(changed)


def endpoint_key(endpoint: Endpoint) -> tuple[str, ...]:
    """What makes two entries the same endpoint, whatever its state."""
    target = endpoint.get("targetRef") or {}
    return (target.get("uid", ""), *endpoint["addresses"])
