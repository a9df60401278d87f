"""StatefulSets."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.podspec import default_pod_template
from kubecore.apiserver.registry.defaulting.volumes import default_claim_spec
from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import advice, names, pod_advice
from kubecore.apiserver.registry.validation.claims import validate_claim_spec
from kubecore.apiserver.registry.validation.podspec import validate_running
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.workloads import (
    is_nothing,
    validate_at_most_all,
    validate_collisions,
    validate_counts,
    validate_int_or_percent,
    validate_selected_template,
    validate_selector,
)

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
_KEEPS_ALL = "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
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
    defaults_status = False
    # It begins the host names of its pods.
    name_errors = staticmethod(names.dns_label)

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
            if strategy.get("rollingUpdate") is None:
                strategy["rollingUpdate"] = {}
        rolling = strategy.get("rollingUpdate")
        if strategy["type"] == "RollingUpdate" and rolling is not None:
            rolling.setdefault("partition", 0)
            rolling.setdefault("maxUnavailable", 1)
        spec.setdefault("revisionHistoryLimit", _REVISIONS)
        policy = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
        for moment in ("whenDeleted", "whenScaled"):
            policy[moment] = policy.get(moment) or "Retain"
        default_pod_template(spec.get("template"))
        for claim in spec.get("volumeClaimTemplates") or []:
            claim["apiVersion"], claim["kind"] = "v1", "PersistentVolumeClaim"
            default_claim_spec(claim.get("spec"))
            claim["status"] = {
                **(claim.get("status") or {}),
                "phase": (claim.get("status") or {}).get("phase") or "Pending",
            }

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {"replicas": 0, "availableReplicas": 0}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        spec, problems = obj.get("spec") or {}, Problems()
        management = spec.get("podManagementPolicy") or ""
        if management not in ("OrderedReady", "Parallel"):
            problems.invalid("spec.podManagementPolicy", management, "must be 'OrderedReady' or 'Parallel'")
        _update_strategy(problems, spec.get("updateStrategy") or {})
        retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
        for moment in ("whenDeleted", "whenScaled"):
            path = f"spec.persistentVolumeClaimRetentionPolicy.{moment}"
            problems.one_of(path, retention.get(moment), ("Retain", "Delete"))
        if ctx.operation == "CREATE":
            # What cannot change need not be asked again.
            for index, claim in enumerate(spec.get("volumeClaimTemplates") or []):
                validate_claim_spec(problems, claim.get("spec") or {}, f"spec.volumeClaimTemplates[{index}].spec")
            if spec.get("serviceName"):
                problems.check("spec.serviceName", spec["serviceName"], names.dns_label)
        validate_counts(problems, spec, "spec", ("replicas", "minReadySeconds"))
        problems.not_negative("spec.ordinals.start", (spec.get("ordinals") or {}).get("start"))
        selector = spec.get("selector")
        if validate_selector(problems, selector, kind="statefulset"):
            validate_selected_template(problems, selector, _template_of_pods(spec), kind="StatefulSet")
        else:
            problems.invalid("spec.selector", selector, "")
            pod_spec = (spec.get("template") or {}).get("spec") or {}
            validate_running(problems, pod_spec, "spec.template.spec", kind="StatefulSet")
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        spec, before = obj["spec"], old["spec"]
        fixed = [key for key in spec.keys() | before.keys() if key not in _CHANGEABLE]
        if any(not same(spec.get(key), before.get(key)) for key in fixed):
            problems.forbidden("spec", _ONLY)
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        if ctx.subresource == "status":
            return []
        spec, told = obj["spec"], []
        if old is None or pod_advice.is_new_generation(obj, old):
            told = pod_advice.of_template(spec.get("template"), "spec.template")
        # Upstream's words differ.
        below = "" if old is None else ".Spec"
        for index, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
            told += advice.of_claim_spec(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{index}]{below}")
        if (spec.get("revisionHistoryLimit") or 0) < 0:
            told.append(_KEEPS_ALL)
        return told

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, status = Problems(), obj.get("status") or {}
        validate_counts(problems, status, "status", _STATUS_COUNTS)
        counted = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
        validate_at_most_all(problems, status, counted, ready="status.readyReplicas")
        validate_collisions(problems, status, old.get("status") or {})
        return problems


def _template_of_pods(spec: JSON) -> JSON:
    """The template as its pods will be: named by their set, the claims among the volumes that containers may mount."""
    template = spec.get("template") or {}
    pod_spec = {
        key: value for key, value in (template.get("spec") or {}).items() if key not in ("hostname", "subdomain")
    }
    claims = {(claim.get("metadata") or {}).get("name") or "": None for claim in spec.get("volumeClaimTemplates") or []}
    if claims:
        added = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
        own = [volume for volume in pod_spec.get("volumes") or [] if (volume.get("name") or "") not in claims]
        pod_spec["volumes"] = [*added, *own]
    return {**template, "spec": pod_spec}


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
                    if is_nothing(unavailable):
                        problems.invalid(where, unavailable, "cannot be 0")
        case _:
            problems.invalid(path, strategy, "must be 'RollingUpdate' or 'OnDelete'")
