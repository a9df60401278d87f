"""How many replicas a metric asks for: no I/O but asking for the metric.

After upstream kubernetes pkg/controller/podautoscaler/replica_calculator.go. Amounts are thousandths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from kubecore.api import meta, pod_resources, quantity
from kubecore.client.client import Object
from kubecore.controllers.autoscaling.metrics import MetricsError, PodMetric

_MOST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far usage may be off its target before anything is done, as a part of the target."""

    down: float = 0.1
    up: float = 0.1

    def covers(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When usage is off its target, and when CPU usage of a pod counts: `cpu_initialization` and `initial_delay` are
    seconds after its start."""

    now: datetime
    tolerance: Tolerance = Tolerance()
    cpu_initialization: float = 300.0
    initial_delay: float = 30.0


class Proposal(NamedTuple):
    """Replicas, the average usage by pod, and that in percent of what is requested (-1 where it is not asked)."""

    replicas: int
    usage: int
    utilization: int = -1


class _Groups(NamedTuple):
    ready: int
    unready: set[str]
    missing: set[str]


def by_utilization(
    pods: list[Object],
    metrics: dict[str, PodMetric],
    current: int,
    target: int,
    *,
    resource: str,
    container: str,
    rules: Rules,
) -> Proposal:
    """`target` is percent of requests. Raises MetricsError."""
    groups = _usable(pods, metrics, resource, rules)
    requests = {meta.name(pod): _request(pod, container, resource) for pod in pods}
    values = {name: metric.value for name, metric in metrics.items()}

    def ratio(given: Mapping[str, int]) -> tuple[float, int, int]:
        counted = [name for name in given if name in requests]
        total, requested = sum(given[name] for name in counted), sum(requests[name] for name in counted)
        if not requested:
            raise MetricsError("no metrics returned matched known pods")
        percent = total * 100 // requested
        return percent / target, percent, total // len(counted)

    found, percent, usage = ratio(values)
    fallback = max(100, target)
    worst = {name: requests[name] * fallback // 100 for name in groups.missing}
    replicas = _replicas(values, groups, current, found, lambda given: ratio(given)[0], worst, rules.tolerance)
    return Proposal(replicas, usage, percent)


def by_value(
    pods: list[Object],
    metrics: dict[str, PodMetric],
    current: int,
    target: int,
    *,
    resource: str = "",
    rules: Rules,
) -> Proposal:
    """`target` is an average by pod. Raises MetricsError."""
    groups = _usable(pods, metrics, resource, rules)
    values = {name: metric.value for name, metric in metrics.items()}
    usage = _average(values)
    worst = dict.fromkeys(groups.missing, target)
    replicas = _replicas(
        values, groups, current, usage / target, lambda given: _average(given) / target, worst, rules.tolerance
    )
    return Proposal(replicas, usage)


def by_total(pods: list[Object], current: int, usage: int, target: int, tolerance: Tolerance) -> Proposal:
    """One value for all of the pods together, which is to be `target`. Raises MetricsError."""
    ratio = usage / target
    if not current:
        return Proposal(math.ceil(ratio), usage)
    if tolerance.covers(ratio):
        return Proposal(current, usage)
    if not pods:
        told = "no pods returned by selector while calculating replica count"
        raise MetricsError(f"unable to calculate ready pods: {told}")
    ready = sum(1 for pod in pods if _phase(pod) == "Running" and _is_ready(pod))
    return Proposal(min(math.ceil(ratio * ready), _MOST), usage)


def by_share(running: int, usage: int, target: int, tolerance: Tolerance) -> Proposal:
    """One value for all, of which each of the running pods is to have `target`."""
    replicas = running
    ratio = usage / (target * running) if running else math.inf
    if not tolerance.covers(ratio):
        replicas = min(math.ceil(usage / target), _MOST)
    return Proposal(replicas, math.ceil(usage / running) if running else usage)


def _replicas(
    values: dict[str, int],
    groups: _Groups,
    current: int,
    ratio: float,
    ratio_of: Callable[[Mapping[str, int]], float],
    worst: Mapping[str, int],
    tolerance: Tolerance,
) -> int:
    """Missing pods are taken to use `worst` when that would keep replicas, and unready ones nothing, so that neither
    makes more of a change than what is known does."""
    unready_count = bool(groups.unready) and ratio > 1.0
    if not unready_count and not groups.missing:
        return current if tolerance.covers(ratio) else math.ceil(ratio * groups.ready)
    if ratio < 1.0:
        values.update(worst)
    elif ratio > 1.0:
        values.update(dict.fromkeys(groups.missing, 0))
    if unready_count:
        values.update(dict.fromkeys(groups.unready, 0))
    again = ratio_of(values)
    turned = (ratio < 1.0 < again) or (ratio > 1.0 > again)
    if tolerance.covers(again) or turned:
        return current
    replicas = math.ceil(again * len(values))
    if (again < 1.0 and replicas > current) or (again > 1.0 and replicas < current):
        # It is the number of metrics that has changed, then.
        return current
    return replicas


def _usable(pods: list[Object], metrics: dict[str, PodMetric], resource: str, rules: Rules) -> _Groups:
    """Takes metrics that do not count out of `metrics`. Raises MetricsError when none is left."""
    if not pods:
        raise MetricsError("no pods returned by selector while calculating replica count")
    ready, unready, missing, ignored = 0, set(), set(), set()
    for pod in pods:
        name = meta.name(pod)
        if meta.is_deleting(pod) or _phase(pod) == "Failed":
            ignored.add(name)
        elif _phase(pod) == "Pending":
            unready.add(name)
        elif name not in metrics:
            missing.add(name)
        elif resource == "cpu" and _is_starting(pod, metrics[name], rules):
            unready.add(name)
        else:
            ready += 1
    for name in ignored | unready:
        metrics.pop(name, None)
    if not metrics:
        raise MetricsError("did not receive metrics for targeted pods (pods might be unready)")
    return _Groups(ready, unready, missing)


def _is_starting(pod: Object, metric: PodMetric, rules: Rules) -> bool:
    """What a pod uses while it starts says nothing of what it will."""
    condition, started = meta.condition(pod, "Ready"), (pod.get("status") or {}).get("startTime")
    if condition is None or not started or not condition.get("lastTransitionTime"):
        return True
    start, changed = meta.parse_time(started), meta.parse_time(condition["lastTransitionTime"])
    is_unready = condition.get("status") == "False"
    if start + timedelta(seconds=rules.cpu_initialization) > rules.now:
        return is_unready or metric.timestamp < changed + timedelta(seconds=metric.window)
    return is_unready and start + timedelta(seconds=rules.initial_delay) > changed


def _request(pod: Object, container: str, resource: str) -> int:
    """What the pod, or one of its containers, requests. Raises MetricsError."""
    spec = pod.get("spec") or {}
    if not container and pod_resources.of_the_pod_itself(spec, pod_resources.REQUESTS):
        requested = pod_resources.requests(pod).get(resource)
        if requested is None:
            raise MetricsError(f"missing pod-level request for {resource} in Pod {meta.name(pod)}")
        return -(-requested.nano // 10**6)
    total = 0
    for one in _lasting(spec):
        if container in ("", one["name"]):
            given = ((one.get("resources") or {}).get("requests") or {}).get(resource)
            if given is None:
                told = f"missing request for {resource} in container {one['name']} of Pod {meta.name(pod)}"
                raise MetricsError(told)
            total += quantity.milli(given)
            if container:
                return total
    if container:
        raise MetricsError(f"container {container} not found in Pod {meta.name(pod)}")
    return total


def _lasting(spec: Object) -> Iterable[Object]:
    yield from spec.get("containers") or ()
    yield from (one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always")


def _average(values: Mapping[str, int]) -> int:
    return sum(values.values()) // len(values)


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "")


def _is_ready(pod: Object) -> bool:
    condition = meta.condition(pod, "Ready")
    return condition is not None and condition.get("status") == "True"
