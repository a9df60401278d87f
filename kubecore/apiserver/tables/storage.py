"""Tables of volumes, claims, classes and CSI."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from kubecore.apiserver.tables.column import AGE, NAME, Cell, Column, KindTable, Object, at, count, part, wide

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


_ATTRIBUTES_CLASS = Column(
    "VolumeAttributesClass",
    at("spec", "volumeAttributesClassName", default="<unset>"),
    "The class of the volume's changeable attributes.",
)
_VOLUME_MODE = wide(
    "VolumeMode", at("spec", "volumeMode", default="<unset>"), "Whether a file system or a block device is given."
)

PERSISTENT_VOLUMES = KindTable(
    (
        NAME,
        Column("Capacity", lambda obj, _: part(obj, "spec", "capacity", "storage") or "0", "The volume's size."),
        Column(
            "Access Modes", lambda obj, _: _access_modes(part(obj, "spec", "accessModes")), "How it may be mounted."
        ),
        Column("Reclaim Policy", at("spec", "persistentVolumeReclaimPolicy"), "What becomes of it after its claim."),
        Column("Status", _phase, "Available, Bound, Released or Failed."),
        Column("Claim", _claim, "The claim it is bound to."),
        Column("StorageClass", _class_name, "The volume's storage class."),
        _ATTRIBUTES_CLASS,
        Column("Reason", at("status", "reason"), "Why it is in its state."),
        AGE,
        _VOLUME_MODE,
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
        Column("Status", _phase, "Pending, Bound or Lost."),
        Column("Volume", at("spec", "volumeName"), "The volume it is bound to."),
        Column("Capacity", _claim_capacity, "The size it has got."),
        Column("Access Modes", _claim_modes, "How it may be mounted."),
        Column("StorageClass", _class_name, "The class asked for."),
        _ATTRIBUTES_CLASS,
        AGE,
        _VOLUME_MODE,
    )
)


def _storage_class_name(obj: Object, _now: datetime) -> Cell:
    name, annotations = obj["metadata"].get("name", ""), obj["metadata"].get("annotations") or {}
    is_default = any(annotations.get(key) == "true" for key in _DEFAULT_CLASS)
    return f"{name} (default)" if is_default else str(name)


STORAGE_CLASSES = KindTable(
    (
        Column("Name", _storage_class_name, NAME.description, format="name"),
        Column("Provisioner", at("provisioner"), "What makes the volumes."),
        Column("ReclaimPolicy", at("reclaimPolicy", default="Delete"), "What becomes of a volume after its claim."),
        Column("VolumeBindingMode", at("volumeBindingMode", default="Immediate"), "When a claim is bound."),
        Column("AllowVolumeExpansion", at("allowVolumeExpansion", default=False), "Whether claims may grow."),
        AGE,
    )
)

VOLUME_ATTRIBUTES_CLASSES = KindTable((NAME, Column("DriverName", at("driverName"), "The CSI driver."), AGE))

VOLUME_ATTACHMENTS = KindTable(
    (
        NAME,
        Column("Attacher", at("spec", "attacher"), "The driver that attaches.", format="name"),
        Column("PV", at("spec", "source", "persistentVolumeName"), "The volume."),
        Column("Node", at("spec", "nodeName"), "The node."),
        Column("Attached", at("status", "attached", default=False), "Whether it is attached.", type="boolean"),
        AGE,
    )
)

CSI_NODES = KindTable(
    (NAME, Column("Drivers", count("spec", "drivers"), "Drivers registered on the node.", type="integer"), AGE)
)


def _token_requests(obj: Object, _now: datetime) -> Cell:
    requests = part(obj, "spec", "tokenRequests")
    return "<unset>" if requests is None else ",".join(request.get("audience", "") for request in requests)


def _flag(name: str, field: str, description: str, *, default: bool) -> Column:
    return Column(name, at("spec", field, default=default), description, type="boolean")


CSI_DRIVERS = KindTable(
    (
        NAME,
        _flag("AttachRequired", "attachRequired", "Whether volumes are attached before use.", default=True),
        _flag("PodInfoOnMount", "podInfoOnMount", "Whether the driver is told of the pod.", default=False),
        _flag("StorageCapacity", "storageCapacity", "Whether the scheduler minds its free capacity.", default=False),
        Column("TokenRequests", _token_requests, "Audiences of the tokens it is given."),
        _flag("RequiresRepublish", "requiresRepublish", "Whether it is called again and again.", default=False),
        Column(
            "Modes",
            lambda obj, _: ",".join(part(obj, "spec", "volumeLifecycleModes") or []) or "<none>",
            "Kinds of volumes it makes.",
        ),
        AGE,
    )
)
