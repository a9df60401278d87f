"""CertificateSigningRequests: who asks is written down by the server."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.api.meta import deepcopy
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.certificates import validate_request, validate_request_update
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]


class CertificateSigningRequestStrategy(Unversioned):
    resource_key = "certificatesigningrequests.certificates.k8s.io"
    unowned = ("spec", "status")
    name_errors = staticmethod(names.path_segment)

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}
        spec = obj.get("spec")
        if spec is None:
            spec = obj["spec"] = {}
        for field in ("username", "uid", "groups", "extra"):
            spec.pop(field, None)
        spec["username"] = ctx.user.username
        if ctx.user.uid:
            spec["uid"] = ctx.user.uid
        if ctx.user.groups:
            spec["groups"] = list(ctx.user.groups)
        if ctx.user.extra:
            spec["extra"] = {key: list(values) for key, values in ctx.user.extra.items()}

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        # A request stays as it was made.
        obj["spec"] = old["spec"]
        if ctx.subresource == "approval":
            _stamp(ctx, obj, old)

    def prepare_for_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        conditions, before = _conditions(obj), _conditions(old)
        for kind in ("Approved", "Denied"):
            places = [index for index, one in enumerate(conditions) if one.get("type") == kind]
            kept = [one for one in before if one.get("type") == kind]
            if len(places) == len(kept):
                for index, one in zip(places, kept, strict=True):
                    conditions[index] = deepcopy(one)
        _stamp(ctx, obj, old)

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        if ctx.operation == "CREATE":
            validate_request(problems, obj["spec"])
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        status, before = obj.get("status") or {}, old.get("status") or {}
        validate_request_update(problems, status, before, subresource=ctx.subresource)
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return self.validate_update(ctx, obj, old)


def _conditions(obj: JSON) -> list[JSON]:
    return (obj.get("status") or {}).get("conditions") or []


def _stamp(ctx: RequestContext, obj: JSON, old: JSON) -> None:
    """Conditions say when they came; one that was there with the same status came when it did then."""
    for condition in _conditions(obj):
        if not condition.get("lastUpdateTime"):
            condition["lastUpdateTime"] = ctx.now
        if condition.get("lastTransitionTime"):
            continue
        alike = [
            one for one in _conditions(old) if all(one.get(key) == condition.get(key) for key in ("type", "status"))
        ]
        times = [one["lastTransitionTime"] for one in alike if one.get("lastTransitionTime")]
        condition["lastTransitionTime"] = times[0] if times else ctx.now
