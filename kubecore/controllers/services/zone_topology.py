"""What the zones' hints of all Services depend on: the nodes' CPU by zone, and which zone has how many endpoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from kubecore.api import meta, quantity
from kubecore.client.client import Object
from kubecore.controllers.services import zone_hints
from kubecore.controllers.services.zone_hints import Ratios

ZONE_LABEL = "topology.kubernetes.io/zone"
# No Service's pods are expected there.
_EXCLUDED_LABELS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


class NodeCpus:
    """Allocatable CPU of the ready nodes, added up by zone.

    `_counted` holds what each node has been counted as: its zone and thousandths of a CPU, None if it lacks either.
    """

    def __init__(self) -> None:
        self._counted: dict[str, tuple[str, int] | None] = {}
        self._by_zone: Counter[str] = Counter()
        self._lacking = 0

    def see(self, node: Object) -> bool:
        """Whether that made a difference."""
        name = meta.name(node)
        share = _share(node)
        before, known = self._counted.get(name), name in self._counted
        counts = _is_ready(node) and not any(label in meta.labels(node) for label in _EXCLUDED_LABELS)
        if counts == known and (not counts or share == before):
            return False
        self._forget(name)
        if counts:
            self._counted[name] = share
            if share is None:
                self._lacking += 1
            else:
                self._by_zone[share[0]] += share[1]
        return True

    def lose(self, node: Object) -> bool:
        return self._forget(meta.name(node))

    def ratios(self) -> Ratios | None:
        """None where one node's zone or CPU is unknown, or all are in one zone."""
        zones = +self._by_zone
        if self._lacking or len(zones) < 2:
            return None
        total = sum(zones.values())
        return {zone: cpu / total for zone, cpu in sorted(zones.items())}

    def _forget(self, name: str) -> bool:
        if name not in self._counted:
            return False
        before = self._counted.pop(name)
        if before is None:
            self._lacking -= 1
        else:
            self._by_zone[before[0]] -= before[1]
        return True


class HintedServices:
    """How many endpoints each zone has of the Services that have hints, by key and address type."""

    def __init__(self) -> None:
        self._hints: dict[str, dict[str, Mapping[str, int]]] = {}

    def enable(self, key: str, address_type: str, hints: Mapping[str, int]) -> bool:
        """Whether there were none before."""
        held = self._hints.setdefault(key, {})
        fresh = address_type not in held
        held[address_type] = hints
        return fresh

    def disable(self, key: str, address_type: str) -> bool:
        """Whether there were any."""
        held = self._hints.get(key)
        if held is None or held.pop(address_type, None) is None:
            return False
        if not held:
            del self._hints[key]
        return True

    def forget(self, key: str) -> None:
        self._hints.pop(key, None)

    def overloaded(self, ratios: Ratios | None) -> list[str]:
        """Keys of Services whose endpoints do not suit the zones any more."""
        return [
            key
            for key, hints in self._hints.items()
            if any(zone_hints.is_overloaded(one, ratios) for one in hints.values())
        ]


def _share(node: Object) -> tuple[str, int] | None:
    zone = meta.labels(node).get(ZONE_LABEL, "")
    cpu = quantity.milli(((node.get("status") or {}).get("allocatable") or {}).get("cpu") or 0)
    return (zone, cpu) if zone and cpu else None


def _is_ready(node: Object) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
