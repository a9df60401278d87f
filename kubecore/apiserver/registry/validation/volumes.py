"""Volumes of pod specs and their mounts.

After kubernetes `pkg/apis/core/validation/validation.go`, ValidateVolumes, ValidateVolumeMounts, ValidateVolumeDevices.
"""

from __future__ import annotations

from typing import Any

from kubecore.api import quantity
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.claims import validate_claim_template
from kubecore.apiserver.registry.validation.paths import validate_relative_path
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.projections import (
    validate_downward,
    validate_items,
    validate_mode,
    validate_projected,
)
from kubecore.apiserver.registry.validation.volume_sources import (
    EXCESS,
    SHARED,
    WHERE,
    Rule,
    needs,
    table,
    validate_driver_name,
    validate_source,
)

JSON = dict[str, Any]

_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
_ISCSI_LENGTH = 64


def validate_volumes(problems: Problems, volumes: list[JSON], path: str, *, pod: JSON | None) -> dict[str, JSON]:
    """Checks all volumes; returns the right ones by name, for the mounts to be found in.

    `pod` is the metadata of a pod, whose name begins those of claims made for it; templates have none."""
    by_name: dict[str, JSON] = {}
    owner = (pod or {}).get("name") or ""
    made = {
        f"{owner}-{volume.get('name') or ''}" for volume in volumes if owner and volume.get("ephemeral") is not None
    }
    for index, volume in enumerate(volumes):
        where, name, before = f"{path}[{index}]", volume.get("name") or "", len(problems)
        validate_source(problems, volume, where, _SOURCES if pod is None else _POD_SOURCES)
        _in_its_pod(problems, volume, where, owner)
        problems.check_needed(f"{where}.name", name, names.dns_label)
        if name in by_name:
            problems.duplicate(f"{where}.name", name)
        if len(problems) == before:
            by_name[name] = volume
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim in made:
            detail = "must not reference a PVC that gets created for an ephemeral volume"
            problems.invalid(f"{where}.persistentVolumeClaim.claimName", claim, detail)
    return by_name


def _in_its_pod(problems: Problems, volume: JSON, path: str, pod: str) -> None:
    """What a source asks of its volume's name."""
    name, iscsi = volume.get("name") or "", volume.get("iscsi") or {}
    initiating = iscsi.get("initiatorName") is not None
    if initiating and len(f"{name}:{iscsi.get('targetPortal') or ''}") > _ISCSI_LENGTH:
        total = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters"
        problems.invalid(f"{path}.name", name, f"{total} if iscsi.initiatorName is specified.")
    if volume.get("ephemeral") is not None and pod and name:
        for error in names.dns_subdomain(f"{pod}-{name}"):
            problems.invalid(f"{path}.name", name, f'PVC name "{pod}-{name}": {error}')


def _empty_dir(problems: Problems, source: JSON, path: str) -> None:
    limit = source.get("sizeLimit")
    if limit is not None and quantity.is_valid(limit) and quantity.nano(limit) < 0:
        problems.forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")


def _keyed(name: str) -> Rule:
    """A ConfigMap or Secret, whole or by key."""

    def rule(problems: Problems, source: JSON, path: str) -> None:
        problems.need(path, source, name)
        validate_mode(problems, source.get("defaultMode"), f"{path}.defaultMode")
        validate_items(problems, source.get("items") or [], f"{path}.items")

    return rule


def _downward(problems: Problems, source: JSON, path: str) -> None:
    validate_mode(problems, source.get("defaultMode"), f"{path}.defaultMode")
    validate_downward(problems, source.get("items") or [], path)


def _csi(problems: Problems, source: JSON, path: str) -> None:
    validate_driver_name(problems, source.get("driver"), f"{path}.driver")
    secret = source.get("nodePublishSecretRef")
    if secret is not None:
        if not secret.get("name"):
            problems.required(f"{path}.nodePublishSecretRef.name")
        else:
            problems.check(f"{path}.name", secret["name"], names.dns_subdomain)


def _ephemeral(problems: Problems, source: JSON, path: str) -> None:
    template, where = source.get("volumeClaimTemplate"), f"{path}.volumeClaimTemplate"
    if template is None:
        problems.required(where)
    else:
        validate_claim_template(problems, template, where)


def _image(problems: Problems, source: JSON, path: str) -> None:
    policy = source.get("pullPolicy")
    problems.one_of(f"{path}.pullPolicy", policy, ("Always", "IfNotPresent", "Never"), required=True)


_OWN: dict[str, Rule] = {
    "emptyDir": _empty_dir,
    "secret": _keyed("secretName"),
    "persistentVolumeClaim": needs("claimName"),
    "downwardAPI": _downward,
    "configMap": _keyed("name"),
    "projected": validate_projected,
    "csi": _csi,
    "ephemeral": _ephemeral,
    "image": _image,
}
_ORDER = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
]
_SOURCES = table(
    {kind: _OWN.get(kind) or SHARED[kind] for kind in _ORDER},
    where=WHERE,
    excess={**EXCESS, "downwardAPI": "downwarAPI"},
)


def _image_of_pod(problems: Problems, source: JSON, path: str) -> None:
    problems.need(path, source, "reference")
    _image(problems, source, path)


# A template's image may still be filled in.
_POD_SOURCES = {**_SOURCES, "image": _SOURCES["image"]._replace(rule=_image_of_pod)}


def validate_mounts(problems: Problems, container: JSON, volumes: dict[str, JSON], path: str) -> None:
    """A container's mounts and devices: known volumes, each path once."""
    mounts, devices = container.get("volumeMounts") or [], container.get("volumeDevices") or []
    if mounts:
        taken = {device.get("name") or "": device.get("devicePath") or "" for device in devices}
        seen: set[str] = set()
        for index, mount in enumerate(mounts):
            _mount(problems, mount, volumes, seen, taken, f"{path}.volumeMounts[{index}]")
            _mount_options(problems, mount, container, f"{path}.volumeMounts", index)
    if devices:
        _devices(problems, devices, mounts, volumes, f"{path}.volumeDevices")


def _mount(
    problems: Problems, mount: JSON, volumes: dict[str, JSON], seen: set[str], devices: dict[str, str], path: str
) -> None:
    name, at = mount.get("name") or "", mount.get("mountPath") or ""
    if not name:
        problems.required(f"{path}.name")
    if name not in volumes:
        problems.not_found(f"{path}.name", name)
    if not at:
        problems.required(f"{path}.mountPath")
    if at in seen:
        problems.invalid(f"{path}.mountPath", at, "must be unique")
    seen.add(at)
    if name in devices:
        problems.invalid(f"{path}.name", name, "must not already exist in volumeDevices")
    if at in devices.values():
        problems.invalid(f"{path}.mountPath", at, "must not already exist as a path in volumeDevices")


def _mount_options(problems: Problems, mount: JSON, container: JSON, path: str, index: int) -> None:
    """Upstream names most of these by the list, not by its element."""
    sub_path, expression = mount.get("subPath"), mount.get("subPathExpr")
    if sub_path:
        validate_relative_path(problems, sub_path, f"{path}.subPath")
    if expression:
        if sub_path:
            detail = "subPathExpr and subPath are mutually exclusive"
            problems.invalid(f"{path}[{index}].subPathExpr", expression, detail)
        validate_relative_path(problems, expression, f"{path}.subPathExpr")
    propagation = mount.get("mountPropagation")
    if propagation is not None:
        where = f"{path}.mountPropagation"
        if propagation not in _PROPAGATIONS:
            problems.unsupported(where, propagation, _PROPAGATIONS)
        privileged = (container.get("securityContext") or {}).get("privileged")
        if propagation == "Bidirectional" and not privileged:
            problems.forbidden(where, "Bidirectional mount propagation is available only to privileged containers")
    recursive, where = mount.get("recursiveReadOnly"), f"{path}.recursiveReadOnly"
    if recursive in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            problems.forbidden(where, "may only be specified when readOnly is true")
        if propagation not in (None, "None"):
            problems.forbidden(where, "may only be specified when mountPropagation is None or not specified")
    elif recursive is not None and recursive != "Disabled":
        problems.unsupported(where, recursive, ("Disabled", "Enabled", "IfPossible"))


def _devices(problems: Problems, devices: list[JSON], mounts: list[JSON], volumes: dict[str, JSON], path: str) -> None:
    mounted = {mount.get("name") or "": mount.get("mountPath") or "" for mount in mounts}
    names_seen: set[str] = set()
    paths_seen: set[str] = set()
    for index, device in enumerate(devices):
        where, name, at = f"{path}[{index}]", device.get("name") or "", device.get("devicePath") or ""
        volume = volumes.get(name)
        if not name:
            problems.required(f"{where}.name")
        if name in names_seen:
            problems.invalid(f"{where}.name", name, "must be unique")
        if volume is None:
            problems.not_found(f"{where}.name", name)
        elif volume.get("persistentVolumeClaim") is None and volume.get("ephemeral") is None:
            detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            problems.invalid(f"{where}.name", name, detail)
        if not at:
            problems.required(f"{where}.devicePath")
        if at in paths_seen:
            problems.invalid(f"{where}.devicePath", at, "must be unique")
        if ".." in at.split("/"):
            problems.invalid(f"{where}.devicePath", at, "can not contain backsteps ('..')")
        else:
            paths_seen.add(at)
        if name in mounted:
            problems.invalid(f"{where}.name", name, "must not already exist in volumeMounts")
        if at in mounted.values():
            problems.invalid(f"{where}.devicePath", at, "must not already exist as a path in volumeMounts")
        if name:
            names_seen.add(name)
