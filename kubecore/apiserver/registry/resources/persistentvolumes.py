"""PersistentVolumes."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.volumes import default_volume_spec
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import advice
from kubecore.apiserver.registry.validation.persistent_volumes import (
    validate_mount_options,
    validate_volume_spec,
    validate_volume_update,
)
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]


class PersistentVolumeStrategy(Unversioned):
    resource_key = "persistentvolumes"
    returns_deleted = True

    def default(self, obj: JSON) -> None:
        default_volume_spec(obj.setdefault("spec", {}))
        status = obj.setdefault("status", {})
        status["phase"] = status.get("phase") or "Pending"

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": ctx.now}

    def prepare_for_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        status, before = obj["status"], old.get("status") or {}
        moment = "lastPhaseTransitionTime"
        changed = status.get("phase") != before.get("phase")
        if changed and status.get(moment) in (None, before.get(moment)):
            status[moment] = ctx.now
        elif status.get(moment) is None and before.get(moment) is not None:
            status[moment] = before[moment]

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        validate_volume_spec(problems, obj["spec"], name=obj["metadata"].get("name") or "")
        validate_mount_options(problems, obj)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_volume_update(problems, obj, old)
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        return [] if ctx.subresource == "status" else advice.of_volume(obj)
