"""PersistentVolumeClaims: bound once, they can only grow."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.data_sources import settle_data_sources
from kubecore.apiserver.registry.defaulting.quantities import canonical_list
from kubecore.apiserver.registry.defaulting.volumes import default_claim_spec
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import advice
from kubecore.apiserver.registry.validation.claims import (
    validate_claim_spec,
    validate_claim_status,
    validate_claim_update,
)
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]


class PersistentVolumeClaimStrategy(Unversioned):
    resource_key = "persistentvolumeclaims"
    returns_deleted = True

    def default(self, obj: JSON) -> None:
        default_claim_spec(obj.setdefault("spec", {}))
        status = obj.setdefault("status", {})
        status["phase"] = status.get("phase") or "Pending"
        for amounts in ("capacity", "allocatedResources"):
            canonical_list(status.get(amounts))

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {"phase": "Pending"}
        settle_data_sources(obj["spec"])

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        settle_data_sources(obj["spec"], old["spec"])

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        if ctx.operation == "CREATE":
            validate_claim_spec(problems, obj["spec"])
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_claim_spec(problems, obj["spec"], old=old["spec"])
        validate_claim_update(problems, obj, old)
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        return [] if ctx.subresource else advice.of_claim(obj)

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_claim_status(problems, obj)
        return problems
