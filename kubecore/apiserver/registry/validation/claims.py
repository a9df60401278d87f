"""PersistentVolumeClaims' and PersistentVolumes' specs."""

from __future__ import annotations

from typing import Any

from kubecore.api import quantity
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.labels import validate_label_selector, validate_node_selector
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.resources import validate_quantity
from kubecore.apiserver.registry.validation.volumes import validate_source

JSON = dict[str, Any]

_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES = ("Block", "Filesystem")
_RECLAIM = ("Delete", "Recycle", "Retain")
# Fields of a PersistentVolume's spec that are no volume source.
_NOT_A_SOURCE = frozenset(
    {
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    }
)


def _access_modes(problems: Problems, modes: list[str], path: str) -> None:
    for mode in modes:
        if mode not in _ACCESS_MODES:
            problems.unsupported(path, mode, _ACCESS_MODES)
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        problems.forbidden(path, "may not use ReadWriteOncePod with other access modes")


def _positive(problems: Problems, amount: object, path: str) -> None:
    if validate_quantity(problems, amount, path) and quantity.nano(str(amount)) == 0:
        problems.invalid(path, str(amount), names.POSITIVE)


def validate_claim_spec(problems: Problems, spec: JSON, path: str = "spec") -> None:
    modes = spec.get("accessModes") or []
    if not modes:
        problems.required(f"{path}.accessModes", "at least 1 access mode is required")
    _access_modes(problems, modes, f"{path}.accessModes")
    validate_label_selector(problems, spec.get("selector"), f"{path}.selector")
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is None:
        problems.required(f"{path}.resources[storage]")
    else:
        _positive(problems, storage, f"{path}.resources[storage]")
    if spec.get("storageClassName"):
        problems.check(f"{path}.storageClassName", spec["storageClassName"], names.dns_subdomain)
    problems.one_of(f"{path}.volumeMode", spec.get("volumeMode"), _VOLUME_MODES)
    for field in ("dataSource", "dataSourceRef"):
        source = spec.get(field)
        if source:
            for part in ("name", "kind"):
                if not source.get(part):
                    problems.required(f"{path}.{field}.{part}")


def volume_source(spec: JSON) -> JSON:
    """What of a PersistentVolume's spec says where its data is: one source under its name."""
    return {key: value for key, value in spec.items() if key not in _NOT_A_SOURCE}


def validate_volume_spec(problems: Problems, spec: JSON, path: str = "spec") -> None:
    if not spec.get("accessModes"):
        problems.required(f"{path}.accessModes")
    _access_modes(problems, spec.get("accessModes") or [], f"{path}.accessModes")
    capacity = spec.get("capacity") or {}
    if not capacity:
        problems.required(f"{path}.capacity")
    if capacity and list(capacity) != ["storage"]:
        problems.unsupported(f"{path}.capacity", "map", ("storage",))
    for name, amount in capacity.items():
        _positive(problems, amount, f"{path}.capacity[{name}]")
    problems.one_of(f"{path}.persistentVolumeReclaimPolicy", spec.get("persistentVolumeReclaimPolicy"), _RECLAIM)
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        if affinity.get("required") is None:
            problems.required(f"{path}.nodeAffinity.required", "must specify required node constraints")
        else:
            validate_node_selector(problems, affinity["required"], f"{path}.nodeAffinity.required")
    validate_source(problems, volume_source(spec), path)
    if spec.get("local") is not None and affinity is None:
        problems.required(f"{path}.nodeAffinity", "Local volume requires node affinity")
    if (spec.get("hostPath") or {}).get("path") == "/" and spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        detail = "may not be 'recycle' for a hostPath mount of '/'"
        problems.forbidden(f"{path}.persistentVolumeReclaimPolicy", detail)
    if spec.get("storageClassName"):
        problems.check(f"{path}.storageClassName", spec["storageClassName"], names.dns_subdomain)
    problems.one_of(f"{path}.volumeMode", spec.get("volumeMode"), _VOLUME_MODES)
