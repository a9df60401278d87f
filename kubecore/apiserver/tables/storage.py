"""Tables of volumes, claims, classes and CSI."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from kubecore.apiserver.tables.column import AGE, NAME, Cell, Column, Field, KindTable, Object, at, count, part, wide

_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


def _access_modes(modes: Iterable[str] | None) -> str:
    present = set(modes or ())
    return ",".join(short for mode, short in _MODES.items() if mode in present)


def _class_name(obj: Object, _now: datetime) -> Cell:
    annotated: str | None = (obj["metadata"].get("annotations") or {}).get(_BETA_CLASS)
    return annotated if annotated is not None else part(obj, "spec", "storageClassName") or ""


def _phase(obj: Object, _now: datetime) -> Cell:
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return part(obj, "status", "phase") or ""


def _claim(obj: Object, _now: datetime) -> Cell:
    claim = part(obj, "spec", "claimRef")
    return "" if claim is None else f"{claim.get('namespace', '')}/{claim.get('name', '')}"


def _attributes_class(of: str) -> Column:
    cell = at("spec", "volumeAttributesClassName", default="<unset>")
    return Column("VolumeAttributesClass", cell, f"VolumeAttributesClass of the {of}")


def _volume_mode(spec: str) -> Column:
    return wide("VolumeMode", at("spec", "volumeMode", default="<unset>"), Field(spec, "volumeMode"))


PERSISTENT_VOLUMES = KindTable(
    (
        NAME,
        Column(
            "Capacity",
            lambda obj, _: part(obj, "spec", "capacity", "storage") or "0",
            Field("core.v1.PersistentVolumeSpec", "capacity"),
        ),
        Column(
            "Access Modes",
            lambda obj, _: _access_modes(part(obj, "spec", "accessModes")),
            Field("core.v1.PersistentVolumeSpec", "accessModes"),
        ),
        Column(
            "Reclaim Policy",
            at("spec", "persistentVolumeReclaimPolicy"),
            Field("core.v1.PersistentVolumeSpec", "persistentVolumeReclaimPolicy"),
        ),
        Column("Status", _phase, Field("core.v1.PersistentVolumeStatus", "phase")),
        Column("Claim", _claim, Field("core.v1.PersistentVolumeSpec", "claimRef")),
        Column("StorageClass", _class_name, "StorageClass of the pv"),
        _attributes_class("pv"),
        Column("Reason", at("status", "reason"), Field("core.v1.PersistentVolumeStatus", "reason")),
        AGE,
        _volume_mode("core.v1.PersistentVolumeSpec"),
    )
)


def _claim_capacity(obj: Object, _now: datetime) -> Cell:
    if not part(obj, "spec", "volumeName"):
        return ""
    return part(obj, "status", "capacity", "storage") or "0"


def _claim_modes(obj: Object, _now: datetime) -> Cell:
    return _access_modes(part(obj, "status", "accessModes")) if part(obj, "spec", "volumeName") else ""


PERSISTENT_VOLUME_CLAIMS = KindTable(
    (
        NAME,
        Column("Status", _phase, Field("core.v1.PersistentVolumeClaimStatus", "phase")),
        Column("Volume", at("spec", "volumeName"), Field("core.v1.PersistentVolumeClaimSpec", "volumeName")),
        Column("Capacity", _claim_capacity, Field("core.v1.PersistentVolumeClaimStatus", "capacity")),
        Column("Access Modes", _claim_modes, Field("core.v1.PersistentVolumeClaimStatus", "accessModes")),
        Column("StorageClass", _class_name, "StorageClass of the pvc"),
        _attributes_class("pvc"),
        AGE,
        _volume_mode("core.v1.PersistentVolumeClaimSpec"),
    )
)


def _storage_class_name(obj: Object, _now: datetime) -> Cell:
    name, annotations = obj["metadata"].get("name", ""), obj["metadata"].get("annotations") or {}
    is_default = any(annotations.get(key) == "true" for key in _DEFAULT_CLASS)
    return f"{name} (default)" if is_default else str(name)


STORAGE_CLASSES = KindTable(
    (
        Column("Name", _storage_class_name, NAME.description, format="name"),
        Column("Provisioner", at("provisioner"), Field("storage.v1.StorageClass", "provisioner")),
        Column(
            "ReclaimPolicy", at("reclaimPolicy", default="Delete"), Field("storage.v1.StorageClass", "reclaimPolicy")
        ),
        Column(
            "VolumeBindingMode",
            at("volumeBindingMode", default="Immediate"),
            Field("storage.v1.StorageClass", "volumeBindingMode"),
        ),
        Column(
            "AllowVolumeExpansion",
            at("allowVolumeExpansion", default=False),
            Field("storage.v1.StorageClass", "allowVolumeExpansion"),
        ),
        AGE,
    )
)

VOLUME_ATTRIBUTES_CLASSES = KindTable(
    (NAME, Column("DriverName", at("driverName"), Field("storage.v1.VolumeAttributesClass", "driverName")), AGE)
)

VOLUME_ATTACHMENTS = KindTable(
    (
        NAME,
        Column("Attacher", at("spec", "attacher"), Field("storage.v1.VolumeAttachmentSpec", "attacher"), format="name"),
        Column(
            "PV",
            at("spec", "source", "persistentVolumeName"),
            Field("storage.v1.VolumeAttachmentSource", "persistentVolumeName"),
        ),
        Column("Node", at("spec", "nodeName"), Field("storage.v1.VolumeAttachmentSpec", "nodeName")),
        Column(
            "Attached",
            at("status", "attached", default=False),
            Field("storage.v1.VolumeAttachmentStatus", "attached"),
            type="boolean",
        ),
        AGE,
    )
)

CSI_NODES = KindTable(
    (
        NAME,
        Column(
            "Drivers",
            count("spec", "drivers"),
            "Drivers indicates the number of CSI drivers registered on the node",
            type="integer",
        ),
        AGE,
    )
)


def _token_requests(obj: Object, _now: datetime) -> Cell:
    requests = part(obj, "spec", "tokenRequests")
    return "<unset>" if requests is None else ",".join(request.get("audience", "") for request in requests)


def _flag(name: str, field: str, description: Field, *, default: bool) -> Column:
    return Column(name, at("spec", field, default=default), description, type="boolean")


CSI_DRIVERS = KindTable(
    (
        NAME,
        _flag("AttachRequired", "attachRequired", Field("storage.v1.CSIDriverSpec", "attachRequired"), default=True),
        _flag("PodInfoOnMount", "podInfoOnMount", Field("storage.v1.CSIDriverSpec", "podInfoOnMount"), default=False),
        _flag(
            "StorageCapacity", "storageCapacity", Field("storage.v1.CSIDriverSpec", "storageCapacity"), default=False
        ),
        Column("TokenRequests", _token_requests, Field("storage.v1.CSIDriverSpec", "tokenRequests")),
        _flag(
            "RequiresRepublish",
            "requiresRepublish",
            Field("storage.v1.CSIDriverSpec", "requiresRepublish"),
            default=False,
        ),
        Column(
            "Modes",
            lambda obj, _: ",".join(part(obj, "spec", "volumeLifecycleModes") or []) or "<none>",
            Field("storage.v1.CSIDriverSpec", "volumeLifecycleModes"),
        ),
        AGE,
    )
)
