"""PersistentVolumeClaims: bound once, they can only grow."""

from __future__ import annotations

from typing import Any

from kubecore.api import quantity
from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.volumes import default_claim_spec
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation.claims import validate_claim_spec
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_IMMUTABLE = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
_SHRUNK = "field can not be less than status.capacity"


class PersistentVolumeClaimStrategy(Unversioned):
    resource_key = "persistentvolumeclaims"
    returns_deleted = True

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            spec = obj["spec"] = {}
        default_claim_spec(spec)

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {"phase": "Pending"}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        validate_claim_spec(problems, obj.get("spec") or {})
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, spec, before = Problems(), obj["spec"], old["spec"]
        bound = (old.get("status") or {}).get("phase") == "Bound"
        changed = _unchangeable(spec)
        if not before.get("volumeName"):
            # The binder may set it.
            changed.pop("volumeName", None)
        if before.get("storageClassName") is None and spec.get("storageClassName"):
            # A default class may be given to a claim that had none.
            changed.pop("storageClassName", None)
        if changed != _unchangeable(before):
            problems.forbidden("spec", _IMMUTABLE)
        new_size, old_size = _storage(spec), _storage(before)
        if new_size == old_size or new_size is None or old_size is None:
            return problems
        if not bound:
            problems.forbidden("spec", _IMMUTABLE)
        elif quantity.is_valid(new_size) and quantity.nano(new_size) < _floor(old, old_size):
            problems.forbidden("spec.resources.requests.storage", _SHRUNK)
        return problems


def _storage(spec: JSON) -> str | None:
    return ((spec.get("resources") or {}).get("requests") or {}).get("storage")


def _floor(claim: JSON, requested: str) -> int:
    """What a claim cannot shrink below: what it has got, or else what was requested."""
    capacity = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
    return quantity.nano(capacity or requested)


def _unchangeable(spec: JSON) -> JSON:
    return {key: value for key, value in spec.items() if key not in ("resources", "volumeAttributesClassName")}
