"""PersistentVolumeClaims against quotas, altogether and by storage class
(upstream kubernetes pkg/quota/v1/evaluator/core/persistent_volume_claims.go)."""

from __future__ import annotations

from collections.abc import Iterable

from kubecore.api import amounts, meta
from kubecore.api.amounts import Amount, Amounts
from kubecore.api.quota.evaluator import CREATE, JSON, UPDATE, Evaluator, Requirement, selects

CLAIMS, STORAGE = "persistentvolumeclaims", "requests.storage"
_OF_CLASS = ".storageclass.storage.k8s.io/"
_OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
_UNIT = 10**9


class ClaimEvaluator(Evaluator):
    def __init__(self) -> None:
        super().__init__("persistentvolumeclaims", CLAIMS)
        self.names |= {STORAGE}

    def handles(self, operation: str, subresource: str) -> bool:
        return operation in (CREATE, UPDATE) and subresource in ("", "status")

    def changes(self, obj: JSON, old: JSON | None, subresource: str) -> bool:
        return old is None or subresource != "status" or status_counts(obj, old)

    def matching(self, names: Iterable[str]) -> list[str]:
        by_class = (f"{_OF_CLASS}{CLAIMS}", f"{_OF_CLASS}{STORAGE}")
        return [name for name in names if name in self.names or name.endswith(by_class)]

    def in_scope(self, requirement: Requirement, obj: JSON) -> bool:
        return requirement["scopeName"] == "VolumeAttributesClass" and selects(requirement, _attributes_classes(obj))

    def usage(self, obj: JSON) -> Amounts:
        found = {self.count: amounts.ONE, CLAIMS: amounts.ONE}
        storage = _storage(obj)
        if storage is not None:
            found[STORAGE] = storage
        if storage_class := _storage_class(obj):
            found[f"{storage_class}{_OF_CLASS}{CLAIMS}"] = amounts.ONE
            if storage is not None:
                found[f"{storage_class}{_OF_CLASS}{STORAGE}"] = storage
        return found


def status_counts(claim: JSON, old: JSON) -> bool:
    """Whether a change of status changes what the claim takes, or which quotas it counts against."""
    return _allocated(claim) != _allocated(old) or _attributes_classes(claim) != _attributes_classes(old)


def _storage(claim: JSON) -> Amount | None:
    """Whole bytes, of what is asked for or of what is allocated, where that is more."""
    asked = amounts.parse(((claim.get("spec") or {}).get("resources") or {}).get("requests")).get("storage")
    if asked is None:
        return None
    allocated = _allocated(claim)
    largest = allocated if allocated is not None and allocated.nano > asked.nano else asked
    return Amount(-(-largest.nano // _UNIT) * _UNIT, largest.family)


def _allocated(claim: JSON) -> Amount | None:
    return amounts.parse((claim.get("status") or {}).get("allocatedResources")).get("storage")


def _storage_class(claim: JSON) -> str:
    old = meta.annotations(claim).get(_OLD_CLASS)
    return old if old is not None else (claim.get("spec") or {}).get("storageClassName") or ""


def _attributes_classes(claim: JSON) -> set[str]:
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    target = (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
    found = {spec.get("volumeAttributesClassName"), status.get("currentVolumeAttributesClassName"), target}
    return {name for name in found if name}
