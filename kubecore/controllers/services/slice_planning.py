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


def plan(wanted: Iterable[Group], existing: Iterable[Object], labels: dict[str, str], *, owner: str) -> Plan:
    """Slices to write. Those to create hold addressType, ports and endpoints only; the others are whole objects.

    `owner`: the Service's uid. What belongs to an earlier Service of its name goes with that one."""
    result = Plan()
    by_key: dict[GroupKey, list[Object]] = {}
    for one in sorted(existing, key=meta.name):
        if any(reference["uid"] == owner for reference in meta.owner_references(one)):
            by_key.setdefault((one["addressType"], ports_key(one.get("ports") or [])), []).append(one)
        else:
            result.delete.append(one)
    spare: list[Object] = []
    for group in wanted:
        spare += _plan_group(group, by_key.pop(group.key, []), labels, result)
    for left_over in by_key.values():
        spare += left_over
    _reuse(spare, labels, result)
    return result


def _plan_group(group: Group, existing: list[Object], labels: dict[str, str], result: Plan) -> list[Object]:
    """Returns slices that the group has no use for."""
    missing = {endpoint_key(endpoint): endpoint for endpoint in group.endpoints}
    changed: list[_Filling] = []
    unchanged: list[_Filling] = []
    spare: list[Object] = []
    for one in existing:
        before = one.get("endpoints") or []
        found = (missing.pop(endpoint_key(endpoint), None) for endpoint in before)
        stay = [endpoint for endpoint in found if endpoint is not None]
        same = stay == before and meta.labels(one) == labels and (one.get("ports") or []) == group.ports
        if (before and not stay) or (not group.endpoints and (changed or unchanged)):
            spare.append(one)
        else:
            (unchanged if same else changed).append(_Filling(one, stay))
    rest = list(missing.values())
    # slices that change anyhow take new endpoints first, the fullest before others
    for slice in sorted(changed, key=lambda one: -len(one.endpoints)):
        rest = slice.fill(rest)
    while rest:
        fitting = [one for one in unchanged if one.room >= len(rest)]
        if fitting:
            # one more slice changes only where that spares making another
            closest = min(fitting, key=lambda one: one.room)
            rest = closest.fill(rest)
            unchanged.remove(closest)
            changed.append(closest)
        else:
            first, rest = rest[:MAXIMUM_PER_SLICE], rest[MAXIMUM_PER_SLICE:]
            result.create.append({"addressType": group.address_type, "ports": group.ports, "endpoints": first})
    if not group.endpoints and not changed and not unchanged:
        result.create.append({"addressType": group.address_type, "ports": group.ports, "endpoints": []})
    result.update += [_as(one.slice, group.ports, one.endpoints, labels) for one in changed]
    return spare


@dataclass(slots=True)
class _Filling:
    slice: Object
    endpoints: list[Endpoint]

    @property
    def room(self) -> int:
        return MAXIMUM_PER_SLICE - len(self.endpoints)

    def fill(self, rest: list[Endpoint]) -> list[Endpoint]:
        """Takes what it has room for, and returns what is left."""
        room = max(0, self.room)
        self.endpoints = [*self.endpoints, *rest[:room]]
        return rest[room:]


def _reuse(spare: list[Object], labels: dict[str, str], result: Plan) -> None:
    """What is to go takes the place of what is to come: a change is sent to every node once, and leaves no gap."""
    for one in spare:
        made = next((made for made in reversed(result.create) if made["addressType"] == one["addressType"]), None)
        if made is None:
            result.delete.append(one)
        else:
            result.create.remove(made)
            result.update.append(_as(one, made["ports"], made["endpoints"], labels))


def _as(one: Object, ports: list[Port], endpoints: list[Endpoint], labels: dict[str, str]) -> Object:
    changed: Object = meta.deepcopy(one)
    changed["endpoints"], changed["ports"] = endpoints, ports
    changed["metadata"]["labels"] = dict(labels)
    return changed


def endpoint_key(endpoint: Endpoint) -> tuple[str, ...]:
    """What makes two entries the same endpoint, whatever its state."""
    target = endpoint.get("targetRef") or {}
    return (target.get("uid", ""), *endpoint["addresses"])
