"""When a node is short of something: thresholds as flags give them, and which of them are met. Pure.

After upstream `pkg/kubelet/eviction/helpers.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubecore.api import durations, quantity

# Signal -> the resource in question, the node's condition.
SIGNALS: Mapping[str, tuple[str, str]] = {
    "memory.available": ("memory", "MemoryPressure"),
    "nodefs.available": ("ephemeral-storage", "DiskPressure"),
    "nodefs.inodesFree": ("inodes", "DiskPressure"),
    "imagefs.available": ("ephemeral-storage", "DiskPressure"),
    "imagefs.inodesFree": ("inodes", "DiskPressure"),
    "pid.available": ("pids", "PIDPressure"),
}
DEFAULT_HARD = "memory.available<100Mi,nodefs.available<1%,nodefs.inodesFree<1%"
"""Of memory upstream's; of the disk less than its 10% and 5%, as the machine is seldom a cluster's alone."""


class BadThreshold(ValueError):
    """The text says which."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Of one signal, in bytes or pieces."""

    available: int
    capacity: int


@dataclass(frozen=True, slots=True)
class Value:
    """A number, or a `share` of the capacity."""

    number: int = 0
    share: float = 0.0

    def of(self, capacity: int) -> int:
        return int(capacity * self.share) if self.share else self.number


@dataclass(frozen=True, slots=True)
class Threshold:
    """`grace_seconds`: for how long it must be met, None for a hard one. Once it was, it is until there is
    `reclaim` more than `value`."""

    signal: str
    value: Value
    grace_seconds: float | None = None
    reclaim: Value = Value()

    @property
    def resource(self) -> str:
        return SIGNALS[self.signal][0]

    @property
    def condition(self) -> str:
        return SIGNALS[self.signal][1]

    def met(self, seen: Observation, *, before: bool) -> bool:
        wanted = self.value.of(seen.capacity) + (self.reclaim.of(seen.capacity) if before else 0)
        return seen.available < wanted


def parse(hard: str, soft: str = "", soft_grace: str = "", minimum_reclaim: str = "") -> tuple[Threshold, ...]:
    """Of the flags --eviction-hard, --eviction-soft, --eviction-soft-grace-period and --eviction-minimum-reclaim: lists
    separated by commas, `memory.available<5%`, `nodefs.available=1m30s`. Raises BadThreshold."""
    graces = {signal: _seconds(text) for signal, text in _pairs(soft_grace, "=")}
    reclaims = {signal: _value(text) for signal, text in _pairs(minimum_reclaim, "=")}
    found = [Threshold(signal, _value(text)) for signal, text in _pairs(hard, "<")]
    for signal, text in _pairs(soft, "<"):
        if signal not in graces:
            raise BadThreshold(f"grace period must be specified for the soft eviction threshold {signal}")
        found.append(Threshold(signal, _value(text), graces[signal]))
    kept = [one for one in found if one.value.number or one.value.share]
    return tuple(Threshold(one.signal, one.value, one.grace_seconds, reclaims.get(one.signal, Value())) for one in kept)


def _pairs(text: str, operator: str) -> Iterable[tuple[str, str]]:
    for part in filter(None, (one.strip() for one in text.split(","))):
        signal, found, value = part.partition(operator)
        if not found:
            raise BadThreshold(f"invalid eviction threshold syntax {part}, expected <signal>{operator}<value>")
        if signal not in SIGNALS:
            raise BadThreshold(f"unsupported eviction signal {signal}")
        yield signal, value


def _value(text: str) -> Value:
    try:
        if not text.endswith("%"):
            return Value(number=quantity.nano(text) // 10**9)
        share = float(text[:-1]) / 100
    except ValueError as error:
        raise BadThreshold(f"invalid eviction threshold {text!r}") from error
    if not 0 <= share < 1:
        raise BadThreshold(f"eviction percentage threshold {text} must be >= 0% and < 100%")
    return Value(share=share)


def _seconds(text: str) -> float:
    try:
        return durations.seconds(text)
    except ValueError as error:
        raise BadThreshold(f"invalid eviction grace period {text!r}") from error
