"""Volumes of pod specs: one source each, with what that source needs.

After kubernetes `pkg/apis/core/validation/validation.go`, ValidateVolumes. Sources of storage systems that only a
driver can judge have just their required fields checked.
"""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.environment import (
    VOLUME_FIELDS,
    validate_field_reference,
    validate_resource_reference,
)
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_MODE = "must be a number between 0 and 0777 (octal), both inclusive"
_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_TOKEN_MINIMUM, _TOKEN_MAXIMUM = 600, 2**32
# Required fields of the sources that need no closer look.
_REQUIRED: dict[str, tuple[str, ...]] = {
    "nfs": ("server", "path"),
    "csi": ("driver",),
    "gcePersistentDisk": ("pdName",),
    "awsElasticBlockStore": ("volumeID",),
    "gitRepo": ("repository",),
    "iscsi": ("targetPortal", "iqn"),
    "glusterfs": ("endpoints", "path"),
    "rbd": ("monitors", "image"),
    "cephfs": ("monitors",),
    "cinder": ("volumeID",),
    "flexVolume": ("driver",),
    "azureFile": ("secretName", "shareName"),
    "azureDisk": ("diskName", "diskURI"),
    "portworxVolume": ("volumeID",),
    "quobyte": ("registry", "volume"),
    "scaleIO": ("gateway", "system", "secretRef"),
    "storageos": (),
    "vsphereVolume": ("volumePath",),
    "photonPersistentDisk": ("pdID",),
    "flocker": (),
    "fc": (),
    "local": ("path",),
}


def validate_volumes(problems: Problems, volumes: list[JSON], path: str) -> dict[str, JSON]:
    """Checks all volumes; returns them by name, for the mounts to be found in."""
    by_name: dict[str, JSON] = {}
    for index, volume in enumerate(volumes):
        where, name = f"{path}[{index}]", volume.get("name")
        if not name:
            problems.required(f"{where}.name")
        else:
            problems.check(f"{where}.name", name, names.dns_label)
            if name in by_name:
                problems.duplicate(f"{where}.name", name)
        validate_source(problems, {key: value for key, value in volume.items() if key != "name"}, where)
        by_name[name or ""] = volume
    return by_name


def validate_source(problems: Problems, sources: JSON, path: str) -> None:
    """Exactly one volume source."""
    given = [kind for kind, source in sources.items() if source is not None]
    for extra in given[1:]:
        problems.forbidden(f"{path}.{extra}", "may not specify more than 1 volume type")
    if not given:
        problems.required(path, "must specify a volume type")
        return
    kind, source = given[0], sources[given[0]]
    where = f"{path}.{kind}"
    for field in _REQUIRED.get(kind, ()):
        if not source.get(field):
            problems.required(f"{where}.{field}")
    match kind:
        case "hostPath":
            _host_path(problems, source, where)
        case "emptyDir":
            _empty_dir(problems, source, where)
        case "secret":
            _keyed(problems, source, where, "secretName")
        case "configMap":
            _keyed(problems, source, where, "name")
        case "downwardAPI":
            _downward(problems, source, where)
            _mode(problems, source.get("defaultMode"), f"{where}.defaultMode")
        case "projected":
            _projected(problems, source, where)
        case "persistentVolumeClaim":
            if not source.get("claimName"):
                problems.required(f"{where}.claimName")
        case "nfs":
            if source.get("path") and not source["path"].startswith("/"):
                problems.invalid(f"{where}.path", source["path"], "must be an absolute path")
        case "ephemeral":
            _ephemeral(problems, source, where)
        case "image":
            if source.get("pullPolicy"):
                problems.one_of(f"{where}.pullPolicy", source["pullPolicy"], ("Always", "IfNotPresent", "Never"))


def _mode(problems: Problems, mode: int | None, path: str) -> None:
    if mode is not None and not 0 <= mode <= 0o777:
        problems.invalid(path, mode, _MODE)


def _host_path(problems: Problems, source: JSON, path: str) -> None:
    host_path = source.get("path")
    if not host_path:
        problems.required(f"{path}.path")
    elif ".." in host_path.split("/"):
        problems.invalid(f"{path}.path", host_path, "must not contain '..'")
    problems.one_of(f"{path}.type", source.get("type"), _HOST_PATH_TYPES)


def _empty_dir(problems: Problems, source: JSON, path: str) -> None:
    limit = source.get("sizeLimit")
    if isinstance(limit, str) and limit.startswith("-"):
        problems.forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")


def _keyed(problems: Problems, source: JSON, path: str, name_field: str) -> None:
    """A ConfigMap or Secret, whole or by key."""
    if not source.get(name_field):
        problems.required(f"{path}.{name_field}")
    _mode(problems, source.get("defaultMode"), f"{path}.defaultMode")
    _items(problems, source.get("items") or [], f"{path}.items")


def _items(problems: Problems, items: list[JSON], path: str) -> None:
    for index, item in enumerate(items):
        where = f"{path}[{index}]"
        if not item.get("key"):
            problems.required(f"{where}.key")
        if not item.get("path"):
            problems.required(f"{where}.path")
        else:
            relative_path(problems, item["path"], f"{where}.path", reserved=True)
        _mode(problems, item.get("mode"), f"{where}.mode")


def relative_path(problems: Problems, text: str, path: str, *, reserved: bool = False) -> None:
    """A path that stays below where it starts. `reserved`: names that start with `..` are ours."""
    if text.startswith("/"):
        problems.invalid(path, text, "must be a relative path")
    if ".." in text.split("/"):
        problems.invalid(path, text, "must not contain '..'")
    elif reserved and text.startswith(".."):
        problems.invalid(path, text, "must not start with '..'")


def _downward(problems: Problems, source: JSON, path: str) -> None:
    for index, item in enumerate(source.get("items") or []):
        where = f"{path}.items[{index}]"
        if not item.get("path"):
            problems.required(f"{where}.path")
        else:
            relative_path(problems, item["path"], f"{where}.path", reserved=True)
        field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
        if field is not None:
            validate_field_reference(problems, field, f"{where}.fieldRef", VOLUME_FIELDS)
            if resource is not None:
                problems.invalid(where, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
        elif resource is not None:
            validate_resource_reference(problems, resource, f"{where}.resourceFieldRef", in_volume=True)
        else:
            problems.required(where, "one of fieldRef and resourceFieldRef is required")
        _mode(problems, item.get("mode"), f"{where}.mode")


def _projected(problems: Problems, source: JSON, path: str) -> None:
    _mode(problems, source.get("defaultMode"), f"{path}.defaultMode")
    for index, projection in enumerate(source.get("sources") or []):
        where = f"{path}.sources[{index}]"
        given = [kind for kind, one in projection.items() if one is not None]
        for extra in given[1:]:
            problems.forbidden(f"{where}.{extra}", "may not specify more than 1 volume type")
        if not given:
            problems.required(where, "must specify a volume type")
            continue
        kind, one = given[0], projection[given[0]]
        at = f"{where}.{kind}"
        match kind:
            case "secret" | "configMap":
                if not one.get("name"):
                    problems.required(f"{at}.name")
                _items(problems, one.get("items") or [], f"{at}.items")
            case "downwardAPI":
                _downward(problems, one, at)
            case "serviceAccountToken":
                _token(problems, one, at)


def _token(problems: Problems, source: JSON, path: str) -> None:
    seconds = source.get("expirationSeconds", 3600)
    if seconds < _TOKEN_MINIMUM:
        problems.invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
    elif seconds > _TOKEN_MAXIMUM:
        problems.invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
    if not source.get("path"):
        problems.required(f"{path}.path")
    else:
        relative_path(problems, source["path"], f"{path}.path", reserved=True)


def _ephemeral(problems: Problems, source: JSON, path: str) -> None:
    template = source.get("volumeClaimTemplate")
    if template is None:
        problems.required(f"{path}.volumeClaimTemplate")
    elif not (template.get("spec") or {}).get("accessModes"):
        problems.required(f"{path}.volumeClaimTemplate.spec.accessModes", "at least 1 access mode is required")


def validate_mounts(problems: Problems, container: JSON, volumes: dict[str, JSON], path: str) -> None:
    """A container's mounts and devices: known volumes, each path once."""
    seen: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or []):
        where, name, at = f"{path}.volumeMounts[{index}]", mount.get("name"), mount.get("mountPath")
        if not name:
            problems.required(f"{where}.name")
        elif name not in volumes:
            problems.not_found(f"{where}.name", name)
        if not at:
            problems.required(f"{where}.mountPath")
        elif at in seen:
            problems.invalid(f"{where}.mountPath", at, "must be unique")
        seen.add(at or "")
        _mount_options(problems, mount, container, where)
    for index, device in enumerate(container.get("volumeDevices") or []):
        where = f"{path}.volumeDevices[{index}]"
        if not device.get("name"):
            problems.required(f"{where}.name")
        elif device["name"] not in volumes:
            problems.not_found(f"{where}.name", device["name"])
        if not device.get("devicePath"):
            problems.required(f"{where}.devicePath")
        elif device["devicePath"] in seen:
            problems.invalid(
                f"{where}.devicePath", device["devicePath"], "must not already exist as a path in volumeMounts"
            )
        seen.add(device.get("devicePath") or "")


def _mount_options(problems: Problems, mount: JSON, container: JSON, path: str) -> None:
    sub_path, expression = mount.get("subPath"), mount.get("subPathExpr")
    if sub_path:
        relative_path(problems, sub_path, f"{path}.subPath")
    if expression:
        if sub_path:
            problems.invalid(f"{path}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive")
        relative_path(problems, expression, f"{path}.subPathExpr")
    propagation = mount.get("mountPropagation")
    if propagation is None:
        return
    where = f"{path}.mountPropagation"
    problems.one_of(where, propagation, ("Bidirectional", "HostToContainer", "None"))
    privileged = (container.get("securityContext") or {}).get("privileged")
    if propagation == "Bidirectional" and not privileged:
        problems.forbidden(where, "Bidirectional mount propagation is available only to privileged containers")
