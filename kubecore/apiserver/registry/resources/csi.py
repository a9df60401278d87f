"""CSIDrivers, CSINodes, CSIStorageCapacities and VolumeAttachments."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.quantities import canonical_list
from kubecore.apiserver.registry.defaulting.volumes import default_source
from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import advice, csi
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.volume_attachments import validate_attachment, validate_new_attachment

JSON = dict[str, Any]

_DRIVER_DEFAULTS: dict[str, Any] = {
    "attachRequired": True,
    "podInfoOnMount": False,
    "storageCapacity": False,
    "fsGroupPolicy": "ReadWriteOnceWithFSType",
    "requiresRepublish": False,
    "seLinuxMount": False,
}
_TOKENS_IN_ATTRIBUTES = (
    "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible "
    "logging of tokens in volume attributes"
)


class CSIDriverStrategy(Unversioned):
    """Generations are counted from the first change on."""

    resource_key = "csidrivers.storage.k8s.io"
    returns_deleted = True
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

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        if not same(obj["spec"], old["spec"]):
            obj["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + 1

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        csi.validate_driver(problems, obj["spec"])
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        csi.validate_driver_update(problems, obj["spec"], old["spec"])
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        requests = obj["spec"].get("tokenRequests")
        changed = old is None or not same(requests, old["spec"].get("tokenRequests"))
        if changed and requests and obj["spec"].get("serviceAccountTokenInSecrets") is None:
            return [_TOKENS_IN_ATTRIBUTES]
        return []


class CSINodeStrategy(Unversioned):
    resource_key = "csinodes.storage.k8s.io"
    returns_deleted = True
    allow_unconditional_update = False

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        csi.validate_node(problems, obj.get("spec") or {})
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        csi.validate_node_update(problems, obj.get("spec") or {}, old.get("spec") or {})
        return problems


class CSIStorageCapacityStrategy(Unversioned):
    resource_key = "csistoragecapacities.storage.k8s.io"
    allow_unconditional_update = False

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        csi.validate_capacity(problems, obj)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        csi.validate_capacity_update(problems, obj, old)
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        return advice.of_storage_capacity(obj)


class VolumeAttachmentStrategy(Unversioned):
    resource_key = "volumeattachments.storage.k8s.io"
    returns_deleted = True
    allow_unconditional_update = False

    def default(self, obj: JSON) -> None:
        inline = ((obj.get("spec") or {}).get("source") or {}).get("inlineVolumeSpec")
        if inline is not None:
            canonical_list(inline.get("capacity"))
            default_source(inline)

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {"attached": False}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        validate_attachment(problems, obj)
        if ctx.operation == "CREATE":
            validate_new_attachment(problems, obj.get("spec") or {})
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        problems.unchanged("spec", obj.get("spec"), old.get("spec"))
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return self.validate(ctx, obj)
