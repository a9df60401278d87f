"""ReplicationControllers: selector and labels are the template's when they are not given."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.podspec import default_pod_template
from kubecore.apiserver.registry.resources.replicasets import validate_replica_status
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import names, pod_advice
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.workloads import validate_counts, validate_selected_template

JSON = dict[str, Any]


class ReplicationControllerStrategy(Strategy):
    resource_key = "replicationcontrollers"
    defaults_status = False
    name_errors = staticmethod(names.long_name)
    checks_generate_name = False

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            return
        spec.setdefault("replicas", 1)
        template = spec.get("template")
        default_pod_template(template)
        labels = ((template or {}).get("metadata") or {}).get("labels")
        if labels:
            if not spec.get("selector"):
                spec["selector"] = dict(labels)
            if not obj["metadata"].get("labels"):
                obj["metadata"]["labels"] = dict(labels)

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {"replicas": 0}

    def default_propagation(self, ctx: RequestContext, obj: JSON) -> str:
        # Its pods have always outlived it unless a client says otherwise.
        return "Orphan"

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        spec, problems = obj.get("spec") or {}, Problems()
        validate_counts(problems, spec, "spec", ("replicas", "minReadySeconds"))
        selector, template = spec.get("selector") or {}, spec.get("template")
        if not selector:
            problems.required("spec.selector")
        if template is None:
            problems.required("spec.template")
        else:
            selected = {"matchLabels": selector}
            validate_selected_template(problems, selected, template, kind="ReplicationController")
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        if ctx.subresource == "status" or (old is not None and not pod_advice.is_new_generation(obj, old)):
            return []
        if old is None:
            return pod_advice.of_workload(obj, None)
        # Upstream takes the one for the other here, so that the template that was is told of.
        return pod_advice.of_template(old["spec"].get("template"), "spec.template")

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return validate_replica_status(obj.get("status") or {})
