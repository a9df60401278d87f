"""StorageClasses: all but their metadata and what is added later stays as it was made."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_MOST_PARAMETERS, _PARAMETERS_SIZE = 512, 256 * 1024


class StorageClassStrategy(Unversioned):
    resource_key = "storageclasses.storage.k8s.io"

    def default(self, obj: JSON) -> None:
        obj["reclaimPolicy"] = obj.get("reclaimPolicy") or "Delete"
        obj["volumeBindingMode"] = obj.get("volumeBindingMode") or "Immediate"

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, provisioner = Problems(), obj.get("provisioner")
        if not provisioner:
            problems.required("provisioner")
        else:
            for error in names.qualified_name(provisioner.lower()):
                problems.invalid("provisioner", provisioner, error)
        parameters: dict[str, str] = obj.get("parameters") or {}
        if len(parameters) > _MOST_PARAMETERS:
            problems.too_long("parameters", _MOST_PARAMETERS)
        if "" in parameters:
            problems.invalid("parameters", "", "field can not be empty.")
        if sum(len(key) + len(value) for key, value in parameters.items()) > _PARAMETERS_SIZE:
            problems.too_long("parameters", _PARAMETERS_SIZE)
        problems.one_of("reclaimPolicy", obj.get("reclaimPolicy"), ("Delete", "Retain"), required=True)
        modes = ("Immediate", "WaitForFirstConsumer")
        problems.one_of("volumeBindingMode", obj.get("volumeBindingMode"), modes, required=True)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        if (obj.get("parameters") or {}) != (old.get("parameters") or {}):
            problems.forbidden("parameters", "updates to parameters are forbidden.")
        if obj.get("provisioner") != old.get("provisioner"):
            problems.forbidden("provisioner", "updates to provisioner are forbidden.")
        if obj.get("reclaimPolicy") != old.get("reclaimPolicy"):
            problems.forbidden("reclaimPolicy", "updates to reclaimPolicy are forbidden.")
        problems.immutable("volumeBindingMode", obj.get("volumeBindingMode"), old.get("volumeBindingMode"))
        return problems
