"""CSIDrivers, CSINodes and VolumeAttachments."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_DRIVER_DEFAULTS: dict[str, Any] = {
    "attachRequired": True,
    "podInfoOnMount": False,
    "storageCapacity": False,
    "fsGroupPolicy": "ReadWriteOnceWithFSType",
    "requiresRepublish": False,
    "seLinuxMount": False,
}


class CSIDriverStrategy(Strategy):
    resource_key = "csidrivers.storage.k8s.io"
    allow_unconditional_update = False

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            spec = obj["spec"] = {}
        for field, value in _DRIVER_DEFAULTS.items():
            if spec.get(field) is None:
                spec[field] = value
        if not spec.get("volumeLifecycleModes"):
            spec["volumeLifecycleModes"] = ["Persistent"]

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        policies = ("File", "None", "ReadWriteOnceWithFSType")
        problems.one_of("spec.fsGroupPolicy", spec.get("fsGroupPolicy"), policies)
        for mode in spec.get("volumeLifecycleModes") or []:
            problems.one_of("spec.volumeLifecycleModes", mode, ("Ephemeral", "Persistent"))
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        for field in ("attachRequired", "volumeLifecycleModes"):
            if obj["spec"].get(field) != old["spec"].get(field):
                problems.invalid(f"spec.{field}", obj["spec"].get(field), "field is immutable")
        return problems


class VolumeAttachmentStrategy(Unversioned):
    resource_key = "volumeattachments.storage.k8s.io"
    allow_unconditional_update = False

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {"attached": False}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        for field in ("attacher", "nodeName"):
            if not spec.get(field):
                problems.required(f"spec.{field}")
        source = spec.get("source") or {}
        if (source.get("persistentVolumeName") is None) == (source.get("inlineVolumeSpec") is None):
            detail = "exactly one of inlineVolumeSpec or persistentVolumeName is required"
            problems.required("spec.source", detail)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        if obj["spec"] != old["spec"]:
            problems.invalid("spec", obj["spec"], "field is immutable")
        return problems
