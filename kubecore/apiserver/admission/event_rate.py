"""EventRateLimit: how many events are taken from all, from a namespace, a user, or a source about an object.

After upstream plugin/pkg/admission/eventratelimit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubecore.api import configuration_file, errors
from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.api.errors import Cause, FieldError, aggregated
from kubecore.apiserver.admission.chain import CREATE, UPDATE, Plugin

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.clock import Clock

JSON = dict[str, Any]

_VERSIONS = {
    "eventratelimit.admission.k8s.io/v1alpha1": {"limits": [{"type": str, "qps": int, "burst": int, "cacheSize": int}]}
}
_SERVER = "Server"
_BUCKETS = 4096


@dataclass(frozen=True, slots=True)
class Limit:
    """`qps` events a second in the long run, `burst` at once; `buckets` are remembered of those used last."""

    kind: str
    qps: int
    burst: int
    buckets: int


def load(text: str) -> tuple[Limit, ...]:
    """From YAML or JSON; nobody has the plugin without a limit. Raises InvalidConfiguration."""
    given = configuration_file.read(text, "Configuration", _VERSIONS) if text.strip() else {}
    limits = given.get("limits") or ()
    causes: list[Cause] = []
    if not limits:
        causes.append(FieldError.invalid("limits", given.get("limits"), "must not be empty"))
    for index, one in enumerate(limits):
        path = f"limits[{index}]"
        if one.get("type") not in _KEYS:
            causes.append(FieldError.not_supported(f"{path}.type", one.get("type") or "", _KEYS))
        causes += [
            FieldError.invalid(f"{path}.{field}", one.get(field) or 0, "must be positive")
            for field in ("burst", "qps")
            if (one.get(field) or 0) <= 0
        ]
        if one.get("type") != _SERVER and (one.get("cacheSize") or 0) < 0:
            causes.append(FieldError.invalid(f"{path}.cacheSize", one["cacheSize"], "must not be negative"))
    if causes:
        told = list(map(str, causes))
        raise InvalidConfiguration(aggregated(told))
    return tuple(Limit(one["type"], one["qps"], one["burst"], one.get("cacheSize") or _BUCKETS) for one in limits)


class EventRateLimit(Plugin):
    name = "EventRateLimit"

    def __init__(self, limits: tuple[Limit, ...], clock: Clock) -> None:
        self._enforcers = [_Enforcer(limit, clock) for limit in limits]

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == "events" and operation in (CREATE, UPDATE)

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        # Those of events.k8s.io are another kind, which upstream lets through.
        if ctx.dry_run or ctx.api_version not in ("", "v1"):
            return
        # Each limit counts the event, also one that another limit refuses.
        refusals = [told for enforcer in self._enforcers if (told := enforcer.refusal(ctx, obj or {}))]
        if refusals:
            told = aggregated(refusals)
            raise errors.StatusError(429, "TooManyRequests", f"Too many requests: {told}")


class _Enforcer:
    def __init__(self, limit: Limit, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._key = _KEYS[limit.kind]
        # How much each bucket had, and when; those used last are at the end.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def refusal(self, ctx: RequestContext, event: JSON) -> str:
        """Empty where there is room."""
        key, now = self._key(ctx, event), self._clock.monotonic()
        had, since = self._buckets.pop(key, (float(self._limit.burst), now))
        has = min(float(self._limit.burst), had + (now - since) * self._limit.qps)
        accepted = has >= 1
        self._buckets[key] = (has - accepted, now)
        if len(self._buckets) > self._limit.buckets:
            self._buckets.popitem(last=False)
        return "" if accepted else f"limit reached on type {self._limit.kind} for key {key}"


def _source_and_object(event: JSON) -> str:
    source, about = event.get("source") or {}, event.get("involvedObject") or {}
    parts = [source.get(field) for field in ("component", "host")]
    parts += [about.get(field) for field in ("kind", "namespace", "name", "uid", "apiVersion")]
    return "".join(part or "" for part in parts)


_KEYS: dict[str, Callable[[RequestContext, JSON], str]] = {
    _SERVER: lambda ctx, event: "",
    "Namespace": lambda ctx, event: ctx.namespace,
    "User": lambda ctx, event: ctx.user.username,
    "SourceAndObject": lambda ctx, event: _source_and_object(event),
}
