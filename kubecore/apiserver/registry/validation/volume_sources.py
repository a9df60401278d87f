"""Sources of volumes, one rule a kind: of pods' volumes and of persistent ones.

After kubernetes `pkg/apis/core/validation/validation.go`, validateVolumeSource and ValidatePersistentVolumeSpec. The
order of the tables is upstream's, for where there are several sources the first one counts; so are the few odd paths.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.paths import validate_no_backsteps, validate_relative_path
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]
Rule = Callable[[Problems, JSON, str], None]

HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_INITIATORS = {
    "iqn": re.compile(r"iqn\.\d{4}-\d{2}\.([a-zA-Z0-9\-.]+)(:[^,;*&$|\s]+)$"),
    "eui": re.compile(r"^eui.[a-zA-Z0-9]{16}$"),
    "naa": re.compile(r"^naa.[a-zA-Z0-9]{32}$"),
}
_RESERVED_OPTIONS = (".kubernetes.io", ".k8s.io")
_REGISTRY = "must be a host:port pair or multiple pairs separated by commas"


class Source(NamedTuple):
    """One kind of source. `where` and `excess` are what its path is called, by itself and beside another source; no
    `excess` lets it be beside another one."""

    rule: Rule
    where: str
    excess: str


def needs(*fields: str) -> Rule:
    """A source that only must have some fields."""

    def rule(problems: Problems, source: JSON, path: str) -> None:
        problems.need(path, source, *fields)

    return rule


def table(rules: dict[str, Rule], *, where: dict[str, str], excess: dict[str, str]) -> dict[str, Source]:
    return {kind: Source(rule, where.get(kind, kind), excess.get(kind, kind)) for kind, rule in rules.items()}


def validate_source(problems: Problems, holder: JSON, path: str, sources: dict[str, Source]) -> None:
    """Exactly one of the sources, and what it needs."""
    given = [kind for kind, source in holder.items() if source is not None and kind in sources]
    if not given:
        problems.required(path, "must specify a volume type")
        return
    if len(given) > 1:
        order = list(sources)
        given.sort(key=order.index)
        for kind in given[1:]:
            source = sources[kind]
            if source.excess:
                problems.forbidden(f"{path}.{source.excess}", "may not specify more than 1 volume type")
            else:
                source.rule(problems, holder[kind], f"{path}.{source.where}")
    kind = given[0]
    sources[kind].rule(problems, holder[kind], f"{path}.{sources[kind].where}")


def _host_path(problems: Problems, source: JSON, path: str) -> None:
    if not source.get("path"):
        problems.required(f"{path}.path")
        return
    validate_no_backsteps(problems, source["path"], f"{path}.path")
    problems.one_of(f"{path}.type", source.get("type"), HOST_PATH_TYPES)


def _partitioned(name: str) -> Rule:
    def rule(problems: Problems, source: JSON, path: str) -> None:
        problems.need(path, source, name)
        partition = source.get("partition") or 0
        if not 0 <= partition <= 255:
            problems.invalid(f"{path}.partition", partition, names.between(1, 255))

    return rule


def _nfs(problems: Problems, source: JSON, path: str) -> None:
    problems.need(path, source, "server", "path")
    if not (source.get("path") or "").startswith("/"):
        problems.invalid(f"{path}.path", source.get("path") or "", "must be an absolute path")


def _initiator(problems: Problems, name: str, path: str, detail: str) -> None:
    pattern = _INITIATORS.get(name[:3])
    if pattern is None:
        problems.invalid(path, name, detail)
    elif pattern.search(name) is None:
        problems.invalid(path, name, "must be valid format")


def _iscsi(problems: Problems, source: JSON, path: str, *, unknown: str) -> None:
    problems.need(path, source, "targetPortal", "iqn")
    if source.get("iqn"):
        _initiator(problems, source["iqn"], f"{path}.iqn", unknown)
    problems.between(f"{path}.lun", source.get("lun") or 0, 0, 255)
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and source.get("secretRef") is None:
        problems.required(f"{path}.secretRef")


def _pod_iscsi(problems: Problems, source: JSON, path: str) -> None:
    unknown = "must be valid format starting with iqn, eui, or naa"
    _iscsi(problems, source, path, unknown=unknown)
    if source.get("initiatorName") is not None:
        _initiator(problems, source["initiatorName"], f"{path}.initiatorname", unknown)


def _volume_iscsi(problems: Problems, source: JSON, path: str) -> None:
    _iscsi(problems, source, path, unknown="must be valid format")
    if source.get("secretRef") is not None:
        problems.need(f"{path}.secretRef", source["secretRef"], "name")
    if source.get("initiatorName") is not None:
        _initiator(problems, source["initiatorName"], f"{path}.initiatorname", "must be valid format")


def _fc(problems: Problems, source: JSON, path: str) -> None:
    targets, wide = source.get("targetWWNs") or [], source.get("wwids") or []
    if not targets and not wide:
        problems.required(f"{path}.targetWWNs", "must specify either targetWWNs or wwids, but not both")
    if targets and wide:
        detail = "targetWWNs and wwids can not be specified simultaneously"
        problems.invalid(f"{path}.targetWWNs", targets, detail)
    if targets:
        if source.get("lun") is None:
            problems.required(f"{path}.lun", "lun is required if targetWWNs is specified")
        else:
            problems.between(f"{path}.lun", source["lun"], 0, 255)


def _git_repo(problems: Problems, source: JSON, path: str) -> None:
    problems.need(path, source, "repository")
    validate_relative_path(problems, source.get("directory") or "", f"{path}.directory")


def _quobyte(problems: Problems, source: JSON, path: str) -> None:
    registry = source.get("registry") or ""
    if not registry:
        problems.required(f"{path}.registry", _REGISTRY)
    elif len(source.get("tenant") or "") > 64:
        problems.required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters")
    else:
        for pair in registry.split(","):
            if not _is_host_and_port(pair):
                problems.invalid(f"{path}.registry", registry, _REGISTRY)
    problems.need(path, source, "volume")


def _is_host_and_port(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    if not colon or any(char in port for char in "[]"):
        return False
    if host.startswith("["):
        return host.endswith("]") and "[" not in host[1:] and "]" not in host[:-1]
    return not any(char in host for char in "[]:")


def _flocker(problems: Problems, source: JSON, path: str) -> None:
    name, uid = source.get("datasetName"), source.get("datasetUUID")
    if not name and not uid:
        problems.required(path, "one of datasetName and datasetUUID is required")
    if name and uid:
        problems.invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously")
    if "/" in (name or ""):
        problems.invalid(f"{path}.datasetName", name, "must not contain '/'")


def _with_secret(rule: Rule, *fields: str) -> Rule:
    """A source that may name a Secret."""

    def checked(problems: Problems, source: JSON, path: str) -> None:
        rule(problems, source, path)
        if source.get("secretRef") is not None:
            problems.need(f"{path}.secretRef", source["secretRef"], *fields)

    return checked


def _flex(problems: Problems, source: JSON, path: str) -> None:
    problems.need(path, source, "driver")
    for key in source.get("options") or {}:
        if f".{key.partition('/')[0].lower()}".endswith(_RESERVED_OPTIONS):
            detail = "kubernetes.io and k8s.io namespaces are reserved"
            problems.invalid(f"{path}.options[{key}]", key, detail)


def _azure_disk(problems: Problems, source: JSON, path: str) -> None:
    problems.need(path, source, "diskName", "diskURI")
    kind, uri = source.get("kind"), source.get("diskURI") or ""
    caching = source.get("cachingMode")
    if caching is not None and caching not in ("None", "ReadOnly", "ReadWrite"):
        problems.unsupported(f"{path}.cachingMode", caching, ("None", "ReadOnly", "ReadWrite"))
    if kind is None:
        return
    if kind not in ("Dedicated", "Managed", "Shared"):
        problems.unsupported(f"{path}.kind", kind, ("Dedicated", "Managed", "Shared"))
    if kind == "Managed":
        start, form = (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        )
    else:
        start, form = "https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
    if not uri.startswith(start):
        problems.unsupported(f"{path}.diskURI", uri, (form,))


def _azure_file_volume(problems: Problems, source: JSON, path: str) -> None:
    problems.need(path, source, "secretName", "shareName")
    if source.get("secretNamespace") == "":
        problems.required(f"{path}.secretNamespace")


def _glusterfs_volume(problems: Problems, source: JSON, path: str) -> None:
    problems.need(path, source, "endpoints", "path")
    namespace = source.get("endpointsNamespace")
    if namespace == "":
        detail = "if the endpointnamespace is set, it must be a valid namespace name"
        problems.invalid(f"{path}.endpointsNamespace", namespace, detail)
    elif namespace is not None:
        problems.check(f"{path}.endpointsNamespace", namespace, names.dns_label)


def _storageos(problems: Problems, source: JSON, path: str) -> None:
    problems.check_needed(f"{path}.volumeName", source.get("volumeName"), names.dns_label)
    if source.get("volumeNamespace"):
        problems.check(f"{path}.volumeNamespace", source["volumeNamespace"], names.dns_label)


def _local(problems: Problems, source: JSON, path: str) -> None:
    problems.need(path, source, "path")
    validate_no_backsteps(problems, source.get("path") or "", f"{path}.path")


def validate_driver_name(problems: Problems, name: str | None, path: str) -> None:
    """A CSI driver's: a subdomain in any case, not too long for a label."""
    if not name:
        problems.required(path)
        return
    if len(name) > 63:
        problems.too_long(path, 63)
    for error in names.dns_subdomain(name.lower()):
        problems.invalid(path, name, error)


_CSI_SECRETS = (
    "controllerPublishSecretRef",
    "controllerExpandSecretRef",
    "nodePublishSecretRef",
    "nodeExpandSecretRef",
)


def _csi_volume(problems: Problems, source: JSON, path: str) -> None:
    validate_driver_name(problems, source.get("driver"), f"{path}.driver")
    problems.need(path, source, "volumeHandle")
    for field in _CSI_SECRETS:
        reference = source.get(field)
        if reference is not None:
            problems.check_needed(f"{path}.{field}.name", reference.get("name"), names.dns_subdomain)
            problems.check_needed(f"{path}.{field}.namespace", reference.get("namespace"), names.dns_label)


# What pods and persistent volumes have in common.
SHARED: dict[str, Rule] = {
    "hostPath": _host_path,
    "gitRepo": _git_repo,
    "gcePersistentDisk": _partitioned("pdName"),
    "awsElasticBlockStore": _partitioned("volumeID"),
    "nfs": _nfs,
    "iscsi": _pod_iscsi,
    "glusterfs": needs("endpoints", "path"),
    "flocker": _flocker,
    "rbd": needs("monitors", "image"),
    "cinder": _with_secret(needs("volumeID"), "name"),
    "cephfs": needs("monitors"),
    "quobyte": _quobyte,
    "fc": _fc,
    "flexVolume": _flex,
    "azureFile": needs("secretName", "shareName"),
    "vsphereVolume": needs("volumePath"),
    "photonPersistentDisk": needs("pdID"),
    "portworxVolume": needs("volumeID"),
    "azureDisk": _azure_disk,
    "storageos": _with_secret(_storageos, "name"),
    "scaleIO": needs("gateway", "system", "volumeName"),
}
WHERE = {"gcePersistentDisk": "persistentDisk"}
EXCESS = {"cephfs": "cephFS"}

_PERSISTENT: dict[str, Rule] = {
    "hostPath": _host_path,
    "gcePersistentDisk": _partitioned("pdName"),
    "awsElasticBlockStore": _partitioned("volumeID"),
    "glusterfs": _glusterfs_volume,
    "flocker": _flocker,
    "nfs": _nfs,
    "rbd": needs("monitors", "image"),
    "quobyte": _quobyte,
    "cephfs": needs("monitors"),
    "iscsi": _volume_iscsi,
    "cinder": _with_secret(needs("volumeID"), "name", "namespace"),
    "fc": _fc,
    "flexVolume": _flex,
    "azureFile": _azure_file_volume,
    "vsphereVolume": needs("volumePath"),
    "photonPersistentDisk": needs("pdID"),
    "portworxVolume": needs("volumeID"),
    "azureDisk": _azure_disk,
    "scaleIO": needs("gateway", "system", "volumeName"),
    "local": _local,
    "storageos": _with_secret(_storageos, "name", "namespace"),
    "csi": _csi_volume,
}
# Upstream does not count this one.
PERSISTENT = table(_PERSISTENT, where=WHERE, excess={**EXCESS, "flexVolume": ""})
