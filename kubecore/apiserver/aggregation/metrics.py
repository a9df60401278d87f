"""Which APIServices are available, under Kubernetes' names.

After upstream kube-aggregator `pkg/controllers/status/metrics`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kubecore.api import meta
from kubecore.apiserver.registry.resources.apiservices import API_SERVICES, AVAILABLE
from kubecore.metrics import Counter, Gauge, Named

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import Lookup

_TOLD = "of APIServices which are marked as unavailable broken down by APIService name"


class AggregationMetrics:
    """`lines` looks at what is stored, so that there is nothing to keep up to date."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._became_unavailable = Counter(
            Named("aggregator_unavailable_apiservice_total", f"[ALPHA] Counter {_TOLD} and reason.", ("name", "reason"))
        )

    def changed(self, name: str, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Conditions of an APIService."""
        if before.get("status") == "True" and after.get("status") != "True":
            self._became_unavailable.add(name, after.get("reason") or "UnknownReason")

    def lines(self) -> Iterator[str]:
        gauge = Gauge(Named("aggregator_unavailable_apiservice", f"[ALPHA] Gauge {_TOLD}.", ("name",)))
        for obj in self._lookup.list(API_SERVICES):
            condition = meta.condition(obj, AVAILABLE) or {}
            gauge.set(0.0 if condition.get("status") == "True" else 1.0, meta.name(obj))
        yield from gauge.lines()
        yield from self._became_unavailable.lines()
