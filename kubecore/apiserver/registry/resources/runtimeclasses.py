"""RuntimeClasses."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.quantities import canonical_list
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import advice, names
from kubecore.apiserver.registry.validation.metadata import validate_labels
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.resources import validate_requirements
from kubecore.apiserver.registry.validation.scheduling import validate_tolerations

JSON = dict[str, Any]


class RuntimeClassStrategy(Strategy):
    resource_key = "runtimeclasses.node.k8s.io"
    allow_create_on_update = True
    allow_unconditional_update = False
    tracks_generation = False
    any_finalizer = True

    def default(self, obj: JSON) -> None:
        canonical_list((obj.get("overhead") or {}).get("podFixed"))

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        problems.check("handler", obj.get("handler") or "", names.dns_label)
        overhead = (obj.get("overhead") or {}).get("podFixed")
        validate_requirements(problems, {"limits": overhead}, "overhead")
        scheduling = obj.get("scheduling") or {}
        if scheduling.get("nodeSelector"):
            validate_labels(problems, scheduling["nodeSelector"], "scheduling.nodeSelector")
        tolerations = scheduling.get("tolerations") or []
        validate_tolerations(problems, tolerations, "scheduling.tolerations")
        for index, toleration in enumerate(tolerations):
            if toleration in tolerations[:index]:
                problems.duplicate(f"scheduling.tolerations[{index}]", toleration)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        problems.immutable("handler", obj.get("handler"), old.get("handler"))
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        return advice.of_runtime_class(obj)
