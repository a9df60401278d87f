"""Which zone's clients each endpoint of a Service is meant for, in proportion to the zones' CPU: pure functions.

Services ask for it by the annotation `service.kubernetes.io/topology-mode: Auto`. (KEP-2433; kubernetes
`staging/src/k8s.io/endpointslice/topologycache`, whose words these are.)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers.services.slice_planning import Endpoint, Plan, endpoint_key

MODE_ANNOTATION = "service.kubernetes.io/topology-mode"
OLD_ANNOTATION = "service.kubernetes.io/topology-aware-hints"

INSUFFICIENT_NODES = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
NO_ZONE = "One or more endpoints do not have a zone specified"
TOO_FEW = "Insufficient number of endpoints"
OVERLOADING = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"
ENABLED = "Topology Aware Hints has been enabled"
DISABLED = "Topology Aware Hints has been disabled"

Ratios = Mapping[str, float]
"""Each zone's share of the nodes' CPU."""
Hinted = Mapping[tuple[str, ...], Endpoint]
"""Hints by endpoint."""

# By how much more than its share an endpoint may have to bear.
_OVERLOAD = 0.2


class Unsuitable(Exception):
    """Hints would do harm, or cannot be known: a Service does without them. The text says why."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """How many endpoints a zone gets."""

    minimum: int
    maximum: int
    desired: float


def is_wanted(service: Object) -> bool:
    annotations = meta.annotations(service)
    return annotations.get(OLD_ANNOTATION, annotations.get(MODE_ANNOTATION)) in ("Auto", "auto")


def allocate(ratios: Ratios | None, endpoints: int) -> dict[str, Allocation]:
    """Of so many ready endpoints, by zone. Raises Unsuitable."""
    if ratios is None:
        raise Unsuitable(INSUFFICIENT_NODES)
    numbers = f"({endpoints} endpoints, {len(ratios)} zones)"
    if len(ratios) > endpoints:
        raise Unsuitable(f"{TOO_FEW} {numbers}")
    minimums = {zone: _minimum(ratio * endpoints) for zone, ratio in ratios.items()}
    spare = endpoints - sum(minimums.values())
    if spare < 0:
        raise Unsuitable(f"{OVERLOADING} {numbers}")
    return {
        zone: Allocation(least, least + spare, max(ratios[zone] * endpoints, least)) for zone, least in minimums.items()
    }


def is_overloaded(hints: Mapping[str, int], ratios: Ratios | None) -> bool:
    """Whether so many endpoints by zone are too few for one of them."""
    if not hints:
        return False
    if not ratios:
        return True
    total = sum(hints.values())
    return any(hints.get(zone, 0) < _minimum(total * ratio) for zone, ratio in ratios.items())


def known_hints(existing: Iterable[Object]) -> Hinted:
    """What slices say already, by endpoint: not to be planned away, only to be judged anew by `give`."""
    return {
        endpoint_key(endpoint): endpoint["hints"]
        for one in existing
        for endpoint in one.get("endpoints") or ()
        if endpoint.get("hints")
    }


def give(changes: Plan, existing: Iterable[Object], address_type: str, ratios: Ratios | None) -> Counter[str]:
    """Have the slices of one address type tell their endpoints' zones: those that change anyhow, and of the others only
    those whose hints are missing or no longer fit. Returns how many endpoints each zone has. Raises Unsuitable, with
    `changes` left as they are."""
    unchanged, moving = _unchanged(changes, existing, address_type), _moving(changes, address_type)
    ready = sum(len(_ready(one)) for one in (*moving, *unchanged))
    allocations = allocate(ratios, ready)
    given: Counter[str] = Counter()
    renewed: list[tuple[Object, Object]] = []
    for one in unchanged:
        found = _fitting(one, given, allocations)
        if found is None:
            renewed.append((one, meta.deepcopy(one)))
        else:
            given += found
    moving += [new for _, new in renewed]
    if not all(endpoint.get("zone") for one in moving for endpoint in _ready(one)):
        raise Unsuitable(NO_ZONE)
    for endpoint in (endpoint for one in moving for endpoint in one.get("endpoints") or ()):
        endpoint.pop("hints", None)
    free = [endpoint for one in moving for endpoint in _ready(one)]
    for endpoint in free:
        given[endpoint["zone"]] += 1
        _mean_for(endpoint, endpoint["zone"])
    _even_out(free, given, allocations)
    changes.update += [new for old, new in renewed if new["endpoints"] != old["endpoints"]]
    return given


def take(changes: Plan, existing: Iterable[Object], address_type: str) -> None:
    """Have the slices of one address type tell no zones."""
    changes.update += [
        meta.deepcopy(one)
        for one in _unchanged(changes, existing, address_type)
        if any("hints" in endpoint for endpoint in one.get("endpoints") or ())
    ]
    for one in _moving(changes, address_type):
        for endpoint in one.get("endpoints") or ():
            endpoint.pop("hints", None)


def _minimum(desired: float) -> int:
    return math.ceil(desired / (1 + _OVERLOAD))


def _ready(one: Object) -> list[Endpoint]:
    return [endpoint for endpoint in one.get("endpoints") or () if endpoint["conditions"].get("ready")]


def _moving(changes: Plan, address_type: str) -> list[Object]:
    return [one for one in (*changes.create, *changes.update) if one["addressType"] == address_type]


def _unchanged(changes: Plan, existing: Iterable[Object], address_type: str) -> list[Object]:
    touched = {meta.name(one) for one in (*changes.update, *changes.delete)}
    return [one for one in existing if one["addressType"] == address_type and meta.name(one) not in touched]


def _mean_for(endpoint: Endpoint, zone: str) -> None:
    endpoint["hints"] = {"forZones": [{"name": zone}]}


def _fitting(one: Object, given: Counter[str], allocations: Mapping[str, Allocation]) -> Counter[str] | None:
    """How many endpoints a slice has for each zone; None if it must not stay as it is."""
    found: Counter[str] = Counter()
    for endpoint in _ready(one):
        hints = endpoint.get("hints") or {}
        zones = [hint["name"] for hint in hints.get("forZones") or ()]
        if not zones or hints.get("forNodes") or any(zone not in allocations for zone in zones):
            return None
        found.update(zones)
    if any(given[zone] + number > allocations[zone].maximum for zone, number in found.items()):
        return None
    return found


def _even_out(free: list[Endpoint], given: Counter[str], allocations: Mapping[str, Allocation]) -> None:
    """Lend endpoints of zones that have too many to those that have too few."""
    giving, receiving = _exchange(given, allocations)
    for endpoint in free:
        zone = endpoint["zone"]
        if not giving[zone]:
            continue
        needy = next((one for one in sorted(receiving) if receiving[one]), None)
        if needy is None:
            return
        giving[zone] -= 1
        receiving[needy] -= 1
        given[zone] -= 1
        given[needy] += 1
        _mean_for(endpoint, needy)


def _exchange(given: Counter[str], allocations: Mapping[str, Allocation]) -> tuple[Counter[str], Counter[str]]:
    """How many endpoints which zones give, and which receive: always from the one that has most to spare to the one
    that lacks most, as long as both are better off."""
    spare = {zone: given[zone] - one.desired for zone, one in allocations.items()}
    rich = {zone: more for zone, more in sorted(spare.items()) if more > 0}
    poor = {zone: -less for zone, less in sorted(spare.items()) if less < 0}
    giving, receiving = Counter[str](), Counter[str]()
    while rich and poor:
        richest, poorest = max(rich, key=rich.__getitem__), max(poor, key=poor.__getitem__)
        most, least = rich[richest], poor[poorest]
        if most < 0.5 or least < 0.5 or (most < 1 and least < 1):
            break
        giving[richest] += 1
        receiving[poorest] += 1
        rich[richest] -= 1
        poor[poorest] -= 1
    return giving, receiving
