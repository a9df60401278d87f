"""PersistentVolumes' specs, by themselves, within a VolumeAttachment, and what may change of them.

After kubernetes `pkg/apis/core/validation/validation.go`, ValidatePersistentVolumeSpec and its relatives, and
`pkg/volume/validation`.
"""

from __future__ import annotations

import posixpath
from typing import Any

from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.claims import VOLUME_MODES, validate_access_modes
from kubecore.apiserver.registry.validation.labels import validate_node_selector
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.resources import validate_basic_amount, validate_positive_amount
from kubecore.apiserver.registry.validation.volume_sources import PERSISTENT, validate_source

JSON = dict[str, Any]

_RECLAIM = ("Delete", "Recycle", "Retain")
_INLINE = "may not be specified in the context of inline volumes"
_ISCSI_LENGTH = 64
_MOUNT_OPTIONS = "volume.beta.kubernetes.io/mount-options"
_MOUNTABLE = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
]


def volume_source(spec: JSON) -> JSON:
    """What of a PersistentVolume's spec says where its data is: one source under its name."""
    return {key: value for key, value in spec.items() if key in PERSISTENT}


def validate_volume_spec(problems: Problems, spec: JSON, path: str = "spec", *, name: str = "") -> None:
    """`name` is the PersistentVolume's."""
    _modes(problems, spec, path)
    _capacity(problems, spec.get("capacity") or {}, f"{path}.capacity")
    policy = spec.get("persistentVolumeReclaimPolicy")
    problems.one_of(f"{path}.persistentVolumeReclaimPolicy", policy, _RECLAIM)
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        if affinity.get("required") is None:
            problems.required(f"{path}.nodeAffinity.required", "must specify required node constraints")
        else:
            validate_node_selector(problems, affinity["required"], f"{path}.nodeAffinity.required")
    validate_source(problems, spec, path, PERSISTENT)
    _odd_sources(problems, spec, path, name)
    if spec.get("storageClassName"):
        problems.check(f"{path}.storageClassName", spec["storageClassName"], names.dns_subdomain)
    if spec.get("volumeMode") is not None and spec["volumeMode"] not in VOLUME_MODES:
        problems.unsupported(f"{path}.volumeMode", spec["volumeMode"], VOLUME_MODES)
    _attributes_class(problems, spec, path)


def _modes(problems: Problems, spec: JSON, path: str) -> None:
    modes = spec.get("accessModes") or []
    if not modes:
        problems.required(f"{path}.accessModes")
    validate_access_modes(problems, modes, f"{path}.accessModes")


def _capacity(problems: Problems, capacity: JSON, path: str) -> None:
    if not capacity:
        problems.required(path)
    if list(capacity) != ["storage"]:
        problems.unsupported(path, capacity or None, ("storage",))
    for name, amount in capacity.items():
        validate_basic_amount(problems, amount, f"{path}[{name}]")
        validate_positive_amount(problems, amount, f"{path}[{name}]")


def _odd_sources(problems: Problems, spec: JSON, path: str, name: str) -> None:
    """What a source asks of the rest of the spec."""
    first = next((kind for kind in PERSISTENT if spec.get(kind) is not None), "")
    if first == "local" and spec.get("nodeAffinity") is None:
        problems.required(f"{path}.nodeAffinity", "Local volume requires node affinity")
    root = posixpath.normpath((spec.get("hostPath") or {}).get("path") or ".") == "/"
    if root and spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        detail = "may not be 'recycle' for a hostPath mount of '/'"
        problems.forbidden(f"{path}.persistentVolumeReclaimPolicy", detail)
    iscsi = spec.get("iscsi")
    if iscsi is not None and iscsi.get("initiatorName") is not None:
        portal = iscsi.get("targetPortal") or ""
        if len(f"{name}:{portal}") > _ISCSI_LENGTH:
            total = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters"
            problems.invalid(f"{path}.iscsi.targetportal", portal, f"{total} if iscsi.initiatorName is specified.")


def _attributes_class(problems: Problems, spec: JSON, path: str) -> None:
    wanted = spec.get("volumeAttributesClassName")
    if wanted is None:
        return
    if not wanted:
        problems.required(f"{path}.volumeAttributesClassName", "an empty string is disallowed")
    else:
        problems.check(f"{path}.volumeAttributesClassName", wanted, names.dns_subdomain)
    if spec.get("csi") is None:
        problems.required(f"{path}.csi", "has to be specified when using volumeAttributesClassName")


def validate_inline_volume_spec(problems: Problems, spec: JSON, path: str) -> None:
    """The spec of a volume that no PersistentVolume stands for, in a VolumeAttachment."""
    if spec.get("claimRef") is not None:
        problems.forbidden(f"{path}.claimRef", _INLINE)
    if spec.get("capacity"):
        problems.forbidden(f"{path}.capacity", _INLINE)
    if spec.get("csi") is None:
        problems.required(f"{path}.csi", "has to be specified in the context of inline volumes")
    _modes(problems, spec, path)
    if spec.get("persistentVolumeReclaimPolicy") not in (None, "", "Retain"):
        detail = "may only be Retain in the context of inline volumes"
        problems.forbidden(f"{path}.persistentVolumeReclaimPolicy", detail)
    if spec.get("nodeAffinity") is not None:
        problems.forbidden(f"{path}.nodeAffinity", _INLINE)
    validate_source(problems, spec, path, PERSISTENT)
    _odd_sources(problems, {**spec, "nodeAffinity": None}, path, "")
    if spec.get("storageClassName"):
        problems.forbidden(f"{path}.storageClassName", _INLINE)
    if spec.get("volumeMode") not in (None, "Filesystem"):
        detail = "may not specify volumeMode other than Filesystem in the context of inline volumes"
        problems.forbidden(f"{path}.volumeMode", detail)


def validate_mount_options(problems: Problems, volume: JSON) -> None:
    """Only some sources take the options of the old annotation."""
    spec, notes = volume.get("spec") or {}, volume["metadata"].get("annotations") or {}
    if _MOUNT_OPTIONS in notes and not any(spec.get(kind) is not None for kind in _MOUNTABLE):
        detail = "may not specify mount options for this volume type"
        problems.forbidden(f"metadata.annotations.{_MOUNT_OPTIONS}", detail)


def validate_volume_update(problems: Problems, volume: JSON, old: JSON) -> None:
    spec, before = volume["spec"], old["spec"]
    source, source_before = volume_source(spec), volume_source(before)
    csi, csi_before = source.get("csi"), source_before.get("csi")
    if csi and csi_before and csi_before.get("controllerExpandSecretRef") is None:
        # It may be added, so that a volume made before it was needed can be expanded.
        source["csi"] = {key: value for key, value in csi.items() if key != "controllerExpandSecretRef"}
    if not same(source, source_before):
        problems.forbidden("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation")
    problems.immutable("volumeMode", spec.get("volumeMode"), before.get("volumeMode"))
    affinity, affinity_before = spec.get("nodeAffinity"), before.get("nodeAffinity")
    if affinity_before is not None and not _same_affinity(affinity, affinity_before):
        detail = "field is immutable, except for updating from beta label to GA"
        problems.invalid("nodeAffinity", affinity, detail)
    wanted, had = spec.get("volumeAttributesClassName"), before.get("volumeAttributesClassName")
    if had is not None and wanted is None:
        problems.forbidden("spec.volumeAttributesClassName", "update from non-nil value to nil is forbidden")


_GA_LABELS = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
}


def _same_affinity(new: Any, old: Any) -> bool:
    """Equal, but for keys that got their final name since. As upstream has it, no key at all passes for that, too."""
    if isinstance(new, dict) and isinstance(old, dict):
        if "operator" in old and (new.get("key") or "") == _GA_LABELS.get(old.get("key") or "", ""):
            new, old = {**new, "key": ""}, {**old, "key": ""}
        return all(_same_affinity(new.get(name), old.get(name)) for name in new.keys() | old.keys())
    if isinstance(new, list) and isinstance(old, list):
        return len(new) == len(old) and all(_same_affinity(*pair) for pair in zip(new, old, strict=True))
    return same(new, old)
