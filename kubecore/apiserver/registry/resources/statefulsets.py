"""StatefulSets."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.podspec import default_pod_template
from kubecore.apiserver.registry.defaulting.volumes import default_claim_spec
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation.claims import validate_claim_spec
from kubecore.apiserver.registry.validation.labels import validate_workload_selector
from kubecore.apiserver.registry.validation.podspec import validate_running_template
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.workloads import validate_counts, validate_int_or_percent

JSON = dict[str, Any]

_REVISIONS = 10
_CHANGEABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_ONLY = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
_STATUS_COUNTS = (
    "replicas",
    "readyReplicas",
    "currentReplicas",
    "updatedReplicas",
    "availableReplicas",
    "observedGeneration",
    "collisionCount",
)


class StatefulSetStrategy(Strategy):
    resource_key = "statefulsets.apps"

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            return
        spec.setdefault("replicas", 1)
        spec["podManagementPolicy"] = spec.get("podManagementPolicy") or "OrderedReady"
        strategy = spec.get("updateStrategy")
        if strategy is None:
            strategy = spec["updateStrategy"] = {}
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.get("rollingUpdate")
            if rolling is None:
                rolling = strategy["rollingUpdate"] = {}
            rolling.setdefault("partition", 0)
        spec.setdefault("revisionHistoryLimit", _REVISIONS)
        policy = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
        for moment in ("whenDeleted", "whenScaled"):
            policy[moment] = policy.get(moment) or "Retain"
        default_pod_template(spec.get("template"))
        for claim in spec.get("volumeClaimTemplates") or []:
            claim["apiVersion"] = claim.get("apiVersion") or "v1"
            claim["kind"] = claim.get("kind") or "PersistentVolumeClaim"
            default_claim_spec(claim.setdefault("spec", {}))
            claim.setdefault("status", {}).setdefault("phase", "Pending")

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {"replicas": 0, "availableReplicas": 0}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        spec, problems = obj.get("spec") or {}, Problems()
        policies = ("OrderedReady", "Parallel")
        problems.one_of("spec.podManagementPolicy", spec.get("podManagementPolicy"), policies, required=True)
        _update_strategy(problems, spec.get("updateStrategy") or {})
        retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
        for moment in ("whenDeleted", "whenScaled"):
            path = f"spec.persistentVolumeClaimRetentionPolicy.{moment}"
            problems.one_of(path, retention.get(moment), ("Delete", "Retain"))
        validate_counts(problems, spec, "spec", ("replicas", "minReadySeconds", "revisionHistoryLimit"))
        problems.not_negative("spec.ordinals.start", (spec.get("ordinals") or {}).get("start"))
        validate_workload_selector(problems, spec, kind="statefulset")
        validate_running_template(problems, self._with_claims(spec), "spec.template", kind="StatefulSet")
        for index, claim in enumerate(spec.get("volumeClaimTemplates") or []):
            validate_claim_spec(problems, claim.get("spec") or {}, f"spec.volumeClaimTemplates[{index}].spec")
        return problems

    @staticmethod
    def _with_claims(spec: JSON) -> JSON | None:
        """The template as its pods will be: the claims are among the volumes that containers may mount."""
        template = spec.get("template")
        claims = [(claim.get("metadata") or {}).get("name") for claim in spec.get("volumeClaimTemplates") or []]
        if template is None or not claims:
            return template
        pod_spec = template.get("spec") or {}
        present = {volume.get("name") for volume in pod_spec.get("volumes") or []}
        added = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims if name not in present]
        return {**template, "spec": {**pod_spec, "volumes": [*(pod_spec.get("volumes") or []), *added]}}

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        spec, before = obj["spec"], old["spec"]
        if any(spec.get(key) != before.get(key) for key in spec.keys() | before.keys() if key not in _CHANGEABLE):
            problems.forbidden("spec", _ONLY)
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, status = Problems(), obj.get("status") or {}
        validate_counts(problems, status, "status", _STATUS_COUNTS)
        total = status.get("replicas") or 0
        for field in ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"):
            if (status.get(field) or 0) > total:
                problems.invalid(f"status.{field}", status[field], "cannot be greater than status.replicas")
        return problems


def _update_strategy(problems: Problems, strategy: JSON) -> None:
    path, rolling = "spec.updateStrategy", strategy.get("rollingUpdate")
    match strategy.get("type"):
        case "OnDelete":
            if rolling is not None:
                detail = "only allowed for updateStrategy 'RollingUpdate'"
                problems.invalid(f"{path}.rollingUpdate", rolling, detail)
        case "RollingUpdate":
            if rolling is not None:
                problems.not_negative(f"{path}.rollingUpdate.partition", rolling.get("partition"))
                unavailable = rolling.get("maxUnavailable")
                if unavailable is not None:
                    where = f"{path}.rollingUpdate.maxUnavailable"
                    validate_int_or_percent(problems, unavailable, where, at_most_all=True)
                    if unavailable in (0, "0%"):
                        problems.invalid(where, unavailable, "cannot be 0")
        case kind:
            problems.invalid(path, kind or "", "must be 'RollingUpdate' or 'OnDelete'")
