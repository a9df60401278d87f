"""Defaults of volumes, and of claims and volumes that stand for themselves."""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.defaulting.images import default_pull_policy
from kubecore.apiserver.registry.defaulting.quantities import canonical, canonical_list, canonical_requirements

JSON = dict[str, Any]

# 0644 in decimal.
DEFAULT_MODE = 420
_TOKEN_SECONDS = 3600


def default_volume(volume: JSON) -> None:
    """One volume of a pod spec, in place."""
    if len(volume) == 1 or all(source is None for key, source in volume.items() if key != "name"):
        volume["emptyDir"] = {}
        return
    for kind in ("configMap", "secret", "downwardAPI", "projected"):
        source = volume.get(kind)
        if source is not None:
            source.setdefault("defaultMode", DEFAULT_MODE)
    if volume.get("downwardAPI"):
        _downward_items(volume["downwardAPI"])
    for source in (volume.get("projected") or {}).get("sources") or []:
        _projection(source)
    empty_dir = volume.get("emptyDir")
    if empty_dir and "sizeLimit" in empty_dir:
        empty_dir["sizeLimit"] = canonical(empty_dir["sizeLimit"])
    image = volume.get("image")
    if image is not None and not image.get("pullPolicy"):
        image["pullPolicy"] = default_pull_policy(image.get("reference") or "")
    template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
    if template is not None:
        default_claim_spec(template.get("spec"))
    default_source(volume)


def default_source(source: JSON) -> None:
    """Sources that volumes of pods and persistent volumes share."""
    host_path = source.get("hostPath")
    if host_path is not None:
        host_path.setdefault("type", "")
    for kind, defaults in _SOURCE_DEFAULTS.items():
        found = source.get(kind)
        if found is not None:
            for field, value in defaults.items():
                found.setdefault(field, value)


_SOURCE_DEFAULTS: dict[str, JSON] = {
    "iscsi": {"iscsiInterface": "default"},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "azureDisk": {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": False},
    "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
}


def _projection(source: JSON) -> None:
    token = source.get("serviceAccountToken")
    if token is not None:
        token.setdefault("expirationSeconds", _TOKEN_SECONDS)
    if source.get("downwardAPI"):
        _downward_items(source["downwardAPI"])


def _downward_items(source: JSON) -> None:
    for item in source.get("items") or []:
        default_field_reference(item)


def default_field_reference(holder: JSON) -> None:
    """fieldRef and resourceFieldRef, of an environment variable or a downward API item."""
    field = holder.get("fieldRef")
    if field is not None:
        field["apiVersion"] = field.get("apiVersion") or "v1"
    resource = holder.get("resourceFieldRef")
    if resource is not None:
        resource["divisor"] = canonical(str(resource.get("divisor") or "0"))


def default_claim_spec(spec: JSON | None) -> None:
    """The spec of a PersistentVolumeClaim or of a template for one."""
    if spec is None:
        return
    spec.setdefault("volumeMode", "Filesystem")
    if spec.get("resources") is None:
        spec["resources"] = {}
    canonical_requirements(spec["resources"])


def default_volume_spec(spec: JSON) -> None:
    """The spec of a PersistentVolume."""
    spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
    spec.setdefault("volumeMode", "Filesystem")
    canonical_list(spec.get("capacity"))
    default_source(spec)
