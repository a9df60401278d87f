"""ResourceClaims against quotas: how many, and how many devices of each class they may get
(upstream kubernetes pkg/quota/v1/evaluator/core/resource_claims.go)."""

from __future__ import annotations

from collections.abc import Iterable

from kubecore.api import amounts
from kubecore.api.amounts import Amounts
from kubecore.api.quota.evaluator import CREATE, JSON, UPDATE, Evaluator

KEY = "resourceclaims.resource.k8s.io"
_OF_CLASS = ".deviceclass.resource.k8s.io/devices"
_MOST_DEVICES = 32
"""That one claim can get."""


class ResourceClaimEvaluator(Evaluator):
    def __init__(self) -> None:
        super().__init__(KEY)

    def handles(self, operation: str, subresource: str) -> bool:
        return not subresource and operation in (CREATE, UPDATE)

    def matching(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name == self.count or name.endswith(_OF_CLASS)]

    def usage(self, obj: JSON) -> Amounts:
        found = {self.count: amounts.ONE}
        for request in ((obj.get("spec") or {}).get("devices") or {}).get("requests") or ():
            amounts.accumulate(found, _of_request(request))
        return found


def _of_request(request: JSON) -> Amounts:
    """Of alternatives, the most devices of each class."""
    found: Amounts = {}
    exactly = request.get("exactly")
    for one in request.get("firstAvailable") or ([exactly] if exactly else []):
        amounts.raise_to(found, {f"{one.get('deviceClassName') or ''}{_OF_CLASS}": amounts.units(_devices(one))})
    return found


def _devices(one: JSON) -> int:
    mode = one.get("allocationMode")
    if mode == "ExactCount":
        return int(one.get("count") or 0)
    return _MOST_DEVICES if mode == "All" else 0
