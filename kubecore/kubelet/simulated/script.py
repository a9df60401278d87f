"""What a simulated pod's annotations say of its life. Pure.

All of them begin with `simulation.kubecore.dev/`. A duration is `500ms`, `30s`, `1h30m` or a range `1s..5s`, of which
every container attempt takes its own value, the same at every look.

| annotation | means | without it |
|---|---|---|
| start-delay | from the pod's arrival on the node until its containers are created | 0s |
| ready-delay | from a container's start until it is ready | 0s |
| run-for | from a container's start until it ends by itself | for ever; restartPolicy Never or OnFailure: 1s; init 0s |
| exit-code | how it ends then | 0 |
| stop-delay | from the pod's deletion until its containers have ended (with 143), within the grace period | 0s |
| waiting | `Reason` or `Reason: message` for which containers cannot start, as long as it says so | |
| ready | `false`: running containers are not ready, as long as it says so | true |
| restart-at | an RFC 3339 time: containers that started before it are killed then | |

`ready-delay`, `run-for`, `exit-code`, `waiting` and `ready` are about main containers; with a container's name behind
them, as in `run-for.setup`, about that one, whatever its kind.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kubecore.api import meta
from kubecore.kubelet.pods.records import ContainerRecord

Object = dict[str, Any]

PREFIX = "simulation.kubecore.dev/"
_FOR_PODS = frozenset({"start-delay", "stop-delay", "restart-at"})
_FOR_CONTAINERS = frozenset({"ready-delay", "run-for", "exit-code", "waiting", "ready"})
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_REASON = re.compile(r"[A-Z][A-Za-z]*")
TASK_RUNS_FOR = timedelta(seconds=1)
"""What is not to run always has somebody who waits for its end: a Job, `helm test`, `kubectl run --restart=Never`."""


class ScriptError(ValueError):
    """An annotation cannot be understood; the text names it."""


@dataclass(frozen=True, slots=True)
class Span:
    """A duration, or a range of them."""

    shortest: timedelta
    longest: timedelta

    @classmethod
    def parse(cls, text: str) -> Span:
        """ValueError when it is none."""
        low, dots, high = text.partition("..")
        span = cls(_duration(low), _duration(high if dots else low))
        if span.longest < span.shortest:
            raise ValueError
        return span

    def pick(self, *about: object) -> timedelta:
        """The value for what `about` names: spread evenly over the range, and always the same."""
        if self.longest == self.shortest:
            return self.shortest
        share = zlib.crc32(repr(about).encode()) / 2**32
        return self.shortest + (self.longest - self.shortest) * share


ZERO = Span(timedelta(0), timedelta(0))


def _duration(text: str) -> timedelta:
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(text)
    return timedelta(seconds=sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts))


class Script:
    """The annotations of one pod. ScriptError from the constructor when one is wrong."""

    def __init__(self, pod: Object) -> None:
        self._uid = meta.uid(pod)
        self._policy = pod["spec"].get("restartPolicy", "Always")
        self._said = {
            key.removeprefix(PREFIX): value
            for key, value in (pod["metadata"].get("annotations") or {}).items()
            if key.startswith(PREFIX)
        }
        if self._said:
            self._check({container["name"] for container in _containers(pod["spec"])})

    def _check(self, containers: set[str]) -> None:
        for key in self._said:
            word, dot, container = key.partition(".")
            if word not in _FOR_CONTAINERS and (dot or word not in _FOR_PODS):
                known = ", ".join(sorted(_FOR_PODS | _FOR_CONTAINERS))
                raise ScriptError(f"annotation {PREFIX}{key}: there is no such rule; there are: {known}")
            if dot and container not in containers:
                raise ScriptError(f"annotation {PREFIX}{key}: the pod has no container {container!r}")
            _VALUES[word](self._said, key)

    # ---- of the pod

    @property
    def start_delay(self) -> timedelta:
        return _span(self._said, "start-delay").pick(self._uid, "start-delay")

    @property
    def stop_delay(self) -> timedelta:
        return _span(self._said, "stop-delay").pick(self._uid, "stop-delay")

    @property
    def restart_at(self) -> datetime | None:
        return _time(self._said, "restart-at")

    # ---- of a container's present attempt

    def ready_delay(self, record: ContainerRecord) -> timedelta:
        key = self._key("ready-delay", record)
        return _span(self._said, key).pick(self._uid, "ready-delay", record.name, record.restart_count)

    def run_for(self, record: ContainerRecord) -> timedelta | None:
        """None: for ever."""
        key = self._key("run-for", record)
        if key in self._said:
            return _span(self._said, key).pick(self._uid, "run-for", record.name, record.restart_count)
        if record.kind == "init":
            return timedelta(0)
        policy = record.spec.get("restartPolicy") or self._policy
        return TASK_RUNS_FOR if record.kind == "main" and policy != "Always" else None

    def exit_code(self, record: ContainerRecord) -> int:
        return _code(self._said, self._key("exit-code", record))

    def waiting(self, record: ContainerRecord) -> tuple[str, str] | None:
        """Reason and message for which it cannot start."""
        return _obstacle(self._said, self._key("waiting", record))

    def ready(self, record: ContainerRecord) -> bool:
        return _truth(self._said, self._key("ready", record))

    def _key(self, word: str, record: ContainerRecord) -> str:
        own = f"{word}.{record.name}"
        return word if own not in self._said and record.kind == "main" else own


def _containers(spec: Object) -> list[Object]:
    return [*(spec.get("initContainers") or []), *spec["containers"]]


# ---- values, with their defaults


def _span(said: Mapping[str, str], key: str) -> Span:
    text = said.get(key)
    if text is None:
        return ZERO
    try:
        return Span.parse(text)
    except ValueError:
        raise _wrong(key, text, "a duration such as 30s or a range such as 1s..5s") from None


def _code(said: Mapping[str, str], key: str) -> int:
    text = said.get(key, "0")
    if not (text.isascii() and text.isdecimal() and int(text) < 256):
        raise _wrong(key, text, "a number from 0 to 255")
    return int(text)


def _obstacle(said: Mapping[str, str], key: str) -> tuple[str, str] | None:
    text = said.get(key)
    if text is None:
        return None
    reason, _, message = text.partition(":")
    if not _REASON.fullmatch(reason):
        raise _wrong(key, text, "a reason such as ImagePullBackOff, or a reason, a colon and a message")
    return reason, message.strip()


def _truth(said: Mapping[str, str], key: str) -> bool:
    text = said.get(key, "true")
    if text not in ("true", "false"):
        raise _wrong(key, text, "true or false")
    return text == "true"


def _time(said: Mapping[str, str], key: str) -> datetime | None:
    text = said.get(key)
    if text is None:
        return None
    try:
        return meta.parse_time(text)
    except ValueError:
        raise _wrong(key, text, "a time such as 2026-01-02T15:04:05Z") from None


def _wrong(key: str, text: str, expected: str) -> ScriptError:
    return ScriptError(f"annotation {PREFIX}{key}: {text!r} is not {expected}")


_VALUES = {
    "start-delay": _span,
    "stop-delay": _span,
    "ready-delay": _span,
    "run-for": _span,
    "exit-code": _code,
    "waiting": _obstacle,
    "ready": _truth,
    "restart-at": _time,
}
