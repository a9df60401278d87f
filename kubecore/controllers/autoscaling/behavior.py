"""How far and how fast an autoscaler may go: stabilisation windows, policies, and the bounds of its spec.

After upstream kubernetes pkg/controller/podautoscaler/horizontal.go. What was recommended and done before is kept
here, by autoscaler, in monotonic seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from kubecore.client.client import Object

Condition = tuple[str, str, str, str]
"""Type, status, reason, message."""

_IN_RANGE = ("DesiredWithinRange", "the desired count is within the acceptable range")
_TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
_UP_LIMIT = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
_DOWN_LIMIT = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
_UP_STABLE = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
_DOWN_STABLE = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
)
_READY = ("ReadyForNewScale", "recommended size matches current size")


class Dated(NamedTuple):
    when: float
    replicas: int


@dataclass(slots=True)
class History:
    """Of one autoscaler: recommendations as they were before anything was done to them, and changes of size."""

    recommendations: list[Dated] = field(default_factory=list)
    ups: list[Dated] = field(default_factory=list)
    downs: list[Dated] = field(default_factory=list)

    def begin(self, now: float, current: int) -> None:
        """What was there when the autoscaler came is a recommendation, too."""
        if not self.recommendations:
            self.recommendations.append(Dated(now, current))

    def note_change(self, behavior: Object | None, now: float, before: int, after: int) -> None:
        if behavior is None:
            return
        changes, rules = (self.ups, behavior["scaleUp"]) if after > before else (self.downs, behavior["scaleDown"])
        longest = max((policy["periodSeconds"] for policy in rules.get("policies") or ()), default=0)
        changes[:] = [one for one in changes if one.when >= now - longest]
        changes.append(Dated(now, abs(after - before)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """`down_window` is the window of stabilisation for autoscalers that do not say one, in seconds."""

    current: int
    least: int
    most: int
    down_window: float


def limit(
    history: History, behavior: Object | None, bounds: Bounds, desired: int, now: float
) -> tuple[int, list[Condition]]:
    """What becomes of a recommendation, and the conditions that tell why."""
    if behavior is None:
        return _limit_plainly(history, bounds, desired, now)
    stable, reason = _stabilise(history, behavior, bounds, desired, now)
    conditions = [("AbleToScale", "True", *(reason if stable != desired else _READY))]
    allowed, reason = _by_rules(history, behavior, bounds, stable, now)
    return allowed, [*conditions, ("ScalingLimited", "False" if allowed == stable else "True", *reason)]


# ---------------------------------------------------------------------- without behaviour
def _limit_plainly(history: History, bounds: Bounds, desired: int, now: float) -> tuple[int, list[Condition]]:
    cutoff = now - bounds.down_window
    recent = [one for one in history.recommendations if one.when >= cutoff]
    stable = max([desired, *(one.replicas for one in recent)])
    history.recommendations = [*recent, Dated(now, desired)]
    conditions = [("AbleToScale", "True", *(_DOWN_STABLE if stable != desired else _READY))]
    fastest = max(2 * bounds.current, 4)
    most, reason = (fastest, _UP_LIMIT) if bounds.most > fastest else (bounds.most, _TOO_MANY)
    allowed = stable
    if stable < bounds.least:
        allowed, reason = bounds.least, _TOO_FEW
    elif stable > most:
        allowed = most
    else:
        reason = _IN_RANGE
    return allowed, [*conditions, ("ScalingLimited", "False" if allowed == stable else "True", *reason)]


# ---------------------------------------------------------------------- with behaviour
def _stabilise(
    history: History, behavior: Object, bounds: Bounds, desired: int, now: float
) -> tuple[int, tuple[str, str]]:
    up_window = behavior["scaleUp"].get("stabilizationWindowSeconds") or 0
    down_window = behavior["scaleDown"].get("stabilizationWindowSeconds")
    down_window = bounds.down_window if down_window is None else down_window
    lowest = min([desired, *(one.replicas for one in history.recommendations if one.when > now - up_window)])
    highest = max([desired, *(one.replicas for one in history.recommendations if one.when > now - down_window)])
    oldest = now - max(up_window, down_window)
    history.recommendations = [one for one in history.recommendations if one.when >= oldest] + [Dated(now, desired)]
    stable = min(max(bounds.current, lowest), highest)
    return stable, _UP_STABLE if desired >= bounds.current else _DOWN_STABLE


def _by_rules(
    history: History, behavior: Object, bounds: Bounds, desired: int, now: float
) -> tuple[int, tuple[str, str]]:
    if desired > bounds.current:
        fastest = max(_fastest_up(history, behavior["scaleUp"], bounds.current, now), bounds.current)
        most, reason = (fastest, _UP_LIMIT) if bounds.most > fastest else (bounds.most, _TOO_MANY)
        if desired > most:
            return most, reason
    elif desired < bounds.current:
        fastest = min(_fastest_down(history, behavior["scaleDown"], bounds.current, now), bounds.current)
        least, reason = (fastest, _DOWN_LIMIT) if bounds.least < fastest else (bounds.least, _TOO_FEW)
        if desired < least:
            return least, reason
    return desired, _IN_RANGE


def _fastest_up(history: History, rules: Object, current: int, now: float) -> int:
    def proposed(policy: Object, start: int) -> int:
        if policy["type"] == "Pods":
            return int(start + policy["value"])
        # Rounded up, for what grows by less than one would never grow.
        grown: float = start * (1 + policy["value"] / 100)
        return math.ceil(grown)

    return _chosen(history, rules, current, now, proposed, widest=max, narrowest=min)


def _fastest_down(history: History, rules: Object, current: int, now: float) -> int:
    def proposed(policy: Object, start: int) -> int:
        if policy["type"] == "Pods":
            return int(start - policy["value"])
        kept: float = start * (1 - policy["value"] / 100)
        return int(kept)

    return _chosen(history, rules, current, now, proposed, widest=min, narrowest=max)


def _chosen(
    history: History,
    rules: Object,
    current: int,
    now: float,
    proposed: Callable[[Object, int], int],
    *,
    widest: Callable[[list[int]], int],
    narrowest: Callable[[list[int]], int],
) -> int:
    """Each policy counts from how many there were when its period began."""
    select = rules.get("selectPolicy") or "Max"
    if select == "Disabled":
        return current
    found = []
    for policy in rules.get("policies") or ():
        since = now - policy["periodSeconds"]
        added, removed = (
            sum(one.replicas for one in changes if one.when > since) for changes in (history.ups, history.downs)
        )
        found.append(proposed(policy, current - added + removed))
    if not found:
        return current
    return narrowest(found) if select == "Min" else widest(found)
