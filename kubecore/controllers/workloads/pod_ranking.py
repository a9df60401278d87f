"""Which pods to delete first when there are too many: pure functions.

The order is documented at https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-down-a-replicaset
and made by kubernetes `pkg/controller/controller_utils.go`, ActivePodsWithRanks.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers import pods

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}
_COST = "controller.kubernetes.io/pod-deletion-cost"


def choose(candidates: Iterable[Object], related: Iterable[Object], count: int, now: datetime) -> list[Object]:
    """The `count` pods of `candidates` to delete; `related` are all pods that serve the same purpose, on any node."""
    listed = list(candidates)
    if count >= len(listed):
        return listed
    on_node = Counter(pods.node_name(pod) for pod in related if pods.is_active(pod))

    def compare(one: Object, other: Object) -> int:
        return _compare(one, other, on_node, now)

    return sorted(listed, key=functools.cmp_to_key(compare))[:count]


def age_ratios(candidates: Iterable[Object], chosen: Iterable[Object], now: datetime) -> list[float]:
    """How many times as old as the youngest of the ready `candidates` each of the ready `chosen` is."""
    ages = _ages(candidates, now)
    youngest = min(ages, default=0.0)
    return [age / youngest for age in _ages(chosen, now)] if youngest > 0 else []


def _ages(found: Iterable[Object], now: datetime) -> list[float]:
    created = [meta.creation_timestamp(pod) for pod in found if pods.is_ready(pod)]
    return [(now - when).total_seconds() for when in created if when is not None]


def _compare(one: Object, other: Object, on_node: Counter[str], now: datetime) -> int:
    """Negative when `one` should go first."""
    first, second = _rank(one, on_node), _rank(other, on_node)
    if first != second:
        return -1 if first < second else 1
    if pods.is_ready(one) and pods.is_ready(other):
        by_ready = _younger(pods.ready_since(one), pods.ready_since(other), now)
        if by_ready is not None:
            return by_ready or _by_uid(one, other)
    restarts, others = pods.restarts(one), pods.restarts(other)
    if restarts != others:
        return -1 if restarts > others else 1
    by_age = _younger(meta.creation_timestamp(one), meta.creation_timestamp(other), now)
    return by_age if by_age else _by_uid(one, other)


def _rank(pod: Object, on_node: Counter[str]) -> tuple[int, int, int, int, int]:
    """Unassigned, early in life, not ready, cheap, and doubled up on its node: smaller goes first."""
    node = pods.node_name(pod)
    return (
        1 if node else 0,
        _PHASES.get(pods.phase(pod), 0),
        1 if pods.is_ready(pod) else 0,
        _deletion_cost(pod),
        -on_node[node],
    )


def _deletion_cost(pod: Object) -> int:
    text = meta.annotations(pod).get(_COST, "0")
    try:
        return int(text)
    except ValueError:
        return 0


def _younger(one: datetime | None, other: datetime | None, now: datetime) -> int | None:
    """Negative when `one` is later; 0 when both are about as old (same power of two); None when they are equal."""
    if one == other:
        return None
    if one is None or other is None:
        return -1 if one is None else 1
    return _age_bucket(one, now) - _age_bucket(other, now)


def _age_bucket(when: datetime, now: datetime) -> int:
    """Ages are compared by their logarithm, so that scaling down spreads over failure domains by chance."""
    nanoseconds = (now - when).total_seconds() * 1e9
    return int(math.log2(nanoseconds)) if nanoseconds >= 1 else -1


def _by_uid(one: Object, other: Object) -> int:
    return -1 if meta.uid(one) < meta.uid(other) else 1
