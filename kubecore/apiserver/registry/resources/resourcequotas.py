"""ResourceQuotas."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.quantities import canonical_list
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import advice, names
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.quotas import validate_quota_amounts, validate_quota_spec

JSON = dict[str, Any]


class ResourceQuotaStrategy(Unversioned):
    resource_key = "resourcequotas"
    returns_deleted = True

    def default(self, obj: JSON) -> None:
        canonical_list((obj.get("spec") or {}).get("hard"))
        status = obj.get("status") or {}
        canonical_list(status.get("hard"))
        canonical_list(status.get("used"))

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}
        _drop_empty(obj, {})

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        _drop_empty(obj, old)

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        validate_quota_spec(problems, obj.get("spec") or {})
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        new, before = ((one.get("spec") or {}).get("scopes") for one in (obj, old))
        if set(new or ()) != set(before or ()):
            problems.invalid("spec.scopes", new, names.IMMUTABLE)
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        return advice.of_quota(obj) if old is None else []

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, status = Problems(), obj.get("status") or {}
        for field in ("hard", "used"):
            validate_quota_amounts(problems, status.get(field) or {}, f"status.{field}")
        return problems


def _drop_empty(obj: JSON, old: JSON) -> None:
    """An empty list of scopes is none, but is shown to a client who empties it."""
    spec = obj.get("spec") or {}
    if spec.get("scopes") == [] and not (old.get("spec") or {}).get("scopes"):
        del spec["scopes"]
