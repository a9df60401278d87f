"""Versions that other servers serve, among our own: which groups there are then, and in which order.

After upstream kube-aggregator `pkg/apiserver/handler_apis.go`, k8s.io/apiserver `pkg/endpoints/discovery/aggregated`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kubecore.api.scheme import APIGroup, Scheme
from kubecore.apiserver.discovery import priorities
from kubecore.apiserver.discovery.priorities import Priority
from kubecore.apiserver.registry.custom.versions import by_priority

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ForeignVersion:
    """`resources` as apidiscovery.k8s.io/v2 has them; `current`: its server answered when it was last asked. What one
    that did not served before is not told."""

    group: str
    version: str
    priority: Priority
    resources: Sequence[JSON] = ()
    current: bool = False

    def told(self) -> JSON:
        """Its entry in aggregated discovery."""
        entry: JSON = {"version": self.version}
        if self.resources and self.current:
            entry["resources"] = list(self.resources)
        return {**entry, "freshness": "Current" if self.current else "Stale"}


def without(scheme: Scheme, foreign: Sequence[ForeignVersion]) -> Scheme:
    """What of it nobody else serves."""
    taken = {(one.group, one.version) for one in foreign}
    if not any((one.group, one.version) in taken for one in scheme.resources):
        return scheme
    return Scheme(one for one in scheme.resources if (one.group, one.version) not in taken)


def in_order(scheme: Scheme, foreign: Sequence[ForeignVersion], *, aggregated: bool) -> list[APIGroup]:
    """All groups, the preferred version of each first. Groups of one priority are in order of their names in the
    aggregated document, and of their versions' APIServices elsewhere."""
    every = {
        (group.name, version): priorities.of_local(group.name, version)
        for group in scheme.groups()
        for version in group.versions
    }
    every |= {(one.group, one.version): one.priority for one in foreign}
    return _by_name(every) if aggregated else _by_service(every)


def _by_name(every: dict[tuple[str, str], Priority]) -> list[APIGroup]:
    highest: dict[str, int] = {}
    for (group, _), priority in every.items():
        highest[group] = max(highest.get(group, 0), priority.group)
    return _grouped(every, lambda group, version: (-highest[group], group))


def _by_service(every: dict[tuple[str, str], Priority]) -> list[APIGroup]:
    return _grouped(every, lambda group, version: (-every[group, version].group, f"{version}.{group}"))


def _grouped(every: dict[tuple[str, str], Priority], rank: Callable[[str, str], tuple[int, str]]) -> list[APIGroup]:
    groups: dict[str, list[str]] = {}
    for group, version in sorted(every, key=lambda one: rank(*one)):
        groups.setdefault(group, []).append(version)
    return [
        APIGroup(name, tuple(sorted(versions, key=lambda one: (-every[name, one].version, by_priority(one)))))
        for name, versions in groups.items()
    ]
