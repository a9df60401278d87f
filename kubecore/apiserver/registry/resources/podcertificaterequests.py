"""PodCertificateRequests. Who may sign one is the admission's to ask (`authorization/certificate_signers.py`)."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation.pod_certificates import validate_pod_answer, validate_pod_request
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_SECONDS = 86_400


class PodCertificateRequestStrategy(Unversioned):
    resource_key = "podcertificaterequests.certificates.k8s.io"
    allow_unconditional_update = False
    unowned = ()

    def default(self, obj: JSON) -> None:
        spec = obj.setdefault("spec", {})
        if spec.get("maxExpirationSeconds") is None:
            spec["maxExpirationSeconds"] = _SECONDS

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        if ctx.operation == "CREATE":
            validate_pod_request(problems, obj.get("spec") or {})
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        problems.unchanged("spec", obj.get("spec") or {}, old.get("spec") or {})
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        status, before = obj.get("status") or {}, old.get("status") or {}
        validate_pod_answer(problems, old.get("spec") or {}, status, before, ctx.clock.now())
        return problems
