"""StorageClasses and VolumeAttributesClasses: all but metadata and what is added later stays as it was made."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import advice
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.storage_classes import (
    forbid_changes,
    validate_storage_class,
    validate_volume_attributes_class,
)

JSON = dict[str, Any]

_DEFAULTS = {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}


class StorageClassStrategy(Unversioned):
    resource_key = "storageclasses.storage.k8s.io"
    returns_deleted = True

    def default(self, obj: JSON) -> None:
        for field, value in _DEFAULTS.items():
            if obj.get(field) is None:
                obj[field] = value

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        validate_storage_class(problems, obj)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        forbid_changes(problems, obj, old, "parameters", "provisioner", "reclaimPolicy")
        problems.immutable("volumeBindingMode", obj.get("volumeBindingMode"), old.get("volumeBindingMode"))
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        return advice.of_storage_class(obj)


class VolumeAttributesClassStrategy(Unversioned):
    resource_key = "volumeattributesclasses.storage.k8s.io"
    returns_deleted = True

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        validate_volume_attributes_class(problems, obj)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        forbid_changes(problems, obj, old, "driverName", "parameters")
        return problems
