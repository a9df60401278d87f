"""What an update through a subresource may change; the rest of the object stays as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kubecore.api.meta import deepcopy

JSON = dict[str, Any]

# Metadata that a write through a subresource leaves as it is (apimachinery ResetObjectMetaForStatus).
_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")
# Of which kinds a write of the status leaves what of the metadata; of others it may change all a client may change.
# Upstream each status strategy says so for itself.
_STATUS_KEEPS: Mapping[str, tuple[str, ...]] = {
    "deployments.apps": ("labels",),
    # Old kubelets broke garbage collection this way.
    "pods": ("ownerReferences", "deletionTimestamp"),
    **dict.fromkeys(
        (
            "devicetaintrules.resource.k8s.io",
            "flowschemas.flowcontrol.apiserver.k8s.io",
            "podcertificaterequests.certificates.k8s.io",
            "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
            "resourceclaims.resource.k8s.io",
            "servicecidrs.networking.k8s.io",
            "storageversionmigrations.storagemigration.k8s.io",
            "storageversions.internal.apiserver.k8s.io",
            "validatingadmissionpolicies.admissionregistration.k8s.io",
            "volumeattachments.storage.k8s.io",
        ),
        _METADATA,
    ),
}


def kept_by_status(resource_key: str) -> tuple[str, ...]:
    """The metadata that a write of this kind's status cannot change."""
    return _STATUS_KEEPS.get(resource_key, ())


def keep(obj: JSON, old: JSON, name: str) -> None:
    """Puts the old object's member of this name into the new one, or takes it out."""
    if name in old:
        obj[name] = deepcopy(old[name])
    else:
        obj.pop(name, None)


def keep_metadata(obj: JSON, old: JSON, names: tuple[str, ...] = _METADATA) -> None:
    """Puts the old object's metadata of these names into the new one."""
    metadata, before = obj["metadata"], old["metadata"]
    for name in names:
        if name not in before:
            metadata.pop(name, None)
        elif metadata.get(name) != before[name]:
            metadata[name] = deepcopy(before[name])


def _status(obj: JSON, old: JSON) -> None:
    status, metadata = obj.get("status"), obj["metadata"]
    obj.clear()
    obj.update(old)
    obj["metadata"] = metadata
    if status is None:
        obj.pop("status", None)
    else:
        obj["status"] = status


def _approval(obj: JSON, old: JSON) -> None:
    """CertificateSigningRequest: the conditions of status."""
    conditions = (obj.get("status") or {}).get("conditions")
    _status(obj, old)
    obj["status"] = dict(old.get("status") or {})
    if conditions:
        obj["status"]["conditions"] = conditions
    else:
        obj["status"].pop("conditions", None)


def _finalize(obj: JSON, old: JSON) -> None:
    """Namespace: spec.finalizers."""
    finalizers = (obj.get("spec") or {}).get("finalizers")
    metadata = obj["metadata"]
    obj.clear()
    obj.update(old)
    obj["metadata"] = metadata
    spec = dict(old.get("spec") or {})
    if finalizers:
        spec["finalizers"] = finalizers
    else:
        spec.pop("finalizers", None)
    obj["spec"] = spec


SUBRESOURCE_MERGE: Mapping[str, Callable[[JSON, JSON], None]] = {
    "status": _status,
    "approval": _approval,
    "finalize": _finalize,
}
