"""Which changes of a Service concern its load balancer, and what its events say of them: pure functions.

(kubernetes `cloud-provider/controllers/service/controller.go`, needsUpdate.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Object


@dataclass(frozen=True, slots=True)
class Change:
    """The first one found; those without a `reason` have no event of their own."""

    reason: str = ""
    message: str = ""


_UNTOLD = Change()
_QUIET = ("ports", "sessionAffinity", "sessionAffinityConfig")
_SINGLE = {"externalTrafficPolicy": "ExternalTrafficPolicy", "healthCheckNodePort": "HealthCheckNodePort"}


def change(old: Object, new: Object, *, had: bool, has: bool) -> Change | None:
    """`had`, `has`: whether the Service as it was, and as it is, wants a load balancer of ours."""
    before, now = old["spec"], new["spec"]
    if not (had or has):
        return None
    if had != has:
        return Change("Type", f"{before.get('type')} -> {now.get('type')}")
    if (of_ranges := _differs("loadBalancerSourceRanges", before, now)) is not None:
        return Change("LoadBalancerSourceRanges", of_ranges)
    if any(before.get(one) != now.get(one) for one in _QUIET):
        return _UNTOLD
    if (of_address := _differs("loadBalancerIP", before, now)) is not None:
        return Change("LoadbalancerIP", of_address)
    if (of_addresses := _external(before.get("externalIPs") or [], now.get("externalIPs") or [])) is not None:
        return Change("ExternalIP", of_addresses)
    if meta.annotations(old) != meta.annotations(new):
        return _UNTOLD
    for field, reason in _SINGLE.items():
        if (told := _differs(field, before, now)) is not None:
            return Change(reason, told)
    return None


def _differs(field: str, before: Object, now: Object) -> str | None:
    old, new = before.get(field), now.get(field)
    return None if (old or None) == (new or None) else f"{_shown(field, old)} -> {_shown(field, new)}"


def _external(before: list[str], now: list[str]) -> str | None:
    if len(before) != len(now):
        return f"Count: {len(before)} -> {len(now)}"
    return next((f"Added: {new}" for old, new in zip(before, now, strict=True) if old != new), None)


def _shown(field: str, value: Any) -> str:
    """As Go prints it."""
    if field == "loadBalancerSourceRanges":
        return f"[{' '.join(value or ())}]"
    return str(value or (0 if field == "healthCheckNodePort" else ""))
