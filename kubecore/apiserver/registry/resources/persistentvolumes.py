"""PersistentVolumes."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.volumes import default_volume_spec
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation.persistent_volumes import validate_volume_spec, volume_source
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]


class PersistentVolumeStrategy(Unversioned):
    resource_key = "persistentvolumes"
    returns_deleted = True

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            spec = obj["spec"] = {}
        default_volume_spec(spec)

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": ctx.now}

    def prepare_for_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        status, before = obj.get("status") or {}, old.get("status") or {}
        moment = "lastPhaseTransitionTime"
        if status.get("phase") != before.get("phase") and status.get(moment) == before.get(moment):
            status[moment] = ctx.now

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        validate_volume_spec(problems, obj.get("spec") or {})
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, spec, before = Problems(), obj["spec"], old["spec"]
        if volume_source(spec) != volume_source(before):
            problems.forbidden("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation")
        problems.immutable("spec.volumeMode", spec.get("volumeMode"), before.get("volumeMode"))
        if before.get("nodeAffinity"):
            problems.immutable("spec.nodeAffinity", spec.get("nodeAffinity"), before["nodeAffinity"])
        return problems
