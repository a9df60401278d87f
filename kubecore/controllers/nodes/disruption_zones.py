"""How fast pods may be taken from nodes that are lost: where many nodes of a zone are, it is the network rather than
the nodes that has failed.

(kubernetes `pkg/controller/nodelifecycle`, handleDisruption.) No I/O; times are monotonic seconds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from kubecore.api import meta
from kubecore.api.zones import region_and_zone
from kubecore.client.client import Object
from kubecore.controllers import conditions

_EXCLUDED = "node.kubernetes.io/exclude-disruption"
_FEWEST_OF_PARTIAL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictionRates:
    """kube-controller-manager's flags: nodes per second and zone whose pods are to leave them."""

    normal: float = 0.1
    """(--node-eviction-rate)"""
    partial: float = 0.01
    """Where a large zone is unhealthy; a small one is left alone then (--secondary-node-eviction-rate)."""
    large: int = 50
    """A zone of more nodes is large (--large-cluster-size-threshold)."""
    unhealthy: float = 0.55
    """The part of a zone's nodes that makes it unhealthy (--unhealthy-zone-threshold)."""


class _State(Enum):
    NORMAL = "normal"
    PARTIAL = "partial disruption"
    FULL = "full disruption"


@dataclass(slots=True)
class _Zone:
    """At most one node may go at once, others as `rate` lets them; `token` is what has come of the next one's turn."""

    rate: float
    counts: Counter[bool] = field(default_factory=Counter)
    """Nodes that are ready, and that are not."""
    waiting: dict[str, None] = field(default_factory=dict)
    """Names of nodes, in the order of their turns."""
    token: float = 1.0
    counted_at: float = 0.0

    def count(self, now: float) -> None:
        self.token = min(1.0, self.token + self.rate * (now - self.counted_at))
        self.counted_at = now

    def first(self) -> str:
        return next(iter(self.waiting))

    def change_rate(self, rate: float, now: float) -> None:
        self.count(now)
        if rate != self.rate:
            self.rate = rate
            self.token = float(int(self.token))

    def state(self, rates: EvictionRates) -> _State:
        ready, unready = self.counts[True], self.counts[False]
        if unready and not ready:
            return _State.FULL
        if unready >= _FEWEST_OF_PARTIAL and unready >= rates.unhealthy * (ready + unready):
            return _State.PARTIAL
        return _State.NORMAL


class DisruptionZones:
    """Told of every node. `all_disrupted`: no node of the cluster is ready, and pods are taken from none."""

    def __init__(self, rates: EvictionRates) -> None:
        self._rates = rates
        self._nodes: dict[str, tuple[str, bool] | None] = {}
        """A node's zone and whether it is ready; None for one that does not count."""
        self._zones: dict[str, _Zone] = {}
        self._waiting_in: dict[str, _Zone] = {}
        self.all_disrupted = False

    def see(self, node: Object, now: float) -> bool:
        """A node as it is now; whether that changed from which nodes pods may be taken, or how fast."""
        name = meta.name(node)
        told = (zone_of(node), conditions.is_true(node, "Ready")) if _EXCLUDED not in meta.labels(node) else None
        known = self._nodes.get(name)
        self._nodes[name] = told
        if told == known:
            return False
        self._count(known, -1, now)
        self._count(told, 1, now)
        return self._judge(now)

    def forget(self, name: str, now: float) -> bool:
        """Likewise, of a node that is gone."""
        self.settle(name)
        self._count(self._nodes.pop(name, None), -1, now)
        return self._judge(now)

    def may_evict(self, node: Object, now: float) -> float | None:
        """0: its pods may be taken from the node, which counts as done. Else in how many seconds it may be so, None
        where it waits for others or for a change of its zone: `turns` names it when they have come to it."""
        name, zone = meta.name(node), self._zone(zone_of(node), now)
        if self._waiting_in.get(name) is not zone:
            self.settle(name)
            zone.waiting[name] = None
            self._waiting_in[name] = zone
        if self.all_disrupted or zone.rate <= 0 or name != zone.first():
            return None
        zone.count(now)
        if zone.token < 1.0:
            return (1.0 - zone.token) / zone.rate
        zone.token -= 1.0
        self.settle(name)
        return 0.0

    def give_back(self, node: Object, now: float) -> None:
        """What `may_evict` said was not done."""
        name, zone = meta.name(node), self._zone(zone_of(node), now)
        zone.token = 1.0
        zone.waiting = {name: None, **zone.waiting}
        self._waiting_in[name] = zone

    def settle(self, name: str) -> bool:
        """The node's pods need not go, or are going already; whether it waited for its turn."""
        zone = self._waiting_in.pop(name, None)
        if zone is not None:
            del zone.waiting[name]
        return zone is not None

    def turns(self) -> list[str]:
        """The nodes that are next, one of each zone in which some wait."""
        return [zone.first() for zone in self._zones.values() if zone.waiting]

    def counts(self) -> dict[str, tuple[int, int]]:
        """By zone: its nodes that are ready, and those that are not."""
        return {name: (zone.counts[True], zone.counts[False]) for name, zone in list(self._zones.items())}

    def _zone(self, name: str, now: float) -> _Zone:
        found = self._zones.get(name)
        if found is None:
            found = self._zones[name] = _Zone(self._rates.normal, counted_at=now)
        return found

    def _count(self, told: tuple[str, bool] | None, change: int, now: float) -> None:
        if told is not None:
            zone, ready = told
            self._zone(zone, now).counts[ready] += change

    def _judge(self, now: float) -> bool:
        counting = {name: zone for name, zone in self._zones.items() if zone.counts.total()}
        states = {name: zone.state(self._rates) for name, zone in counting.items()}
        before = self.all_disrupted, [zone.rate for zone in self._zones.values()]
        self.all_disrupted = bool(states) and set(states.values()) == {_State.FULL}
        for name, state in states.items():
            rate = self._rates.normal
            if state is _State.PARTIAL:
                rate = self._rates.partial if counting[name].counts.total() > self._rates.large else 0.0
            counting[name].change_rate(rate, now)
        return before != (self.all_disrupted, [zone.rate for zone in self._zones.values()])


def zone_of(node: Object) -> str:
    """As metrics tell it, too."""
    region, zone = region_and_zone(meta.labels(node))
    return f"{region}:\0:{zone}" if region or zone else ""
