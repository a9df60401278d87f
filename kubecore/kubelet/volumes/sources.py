"""The files that ConfigMaps, Secrets, the downward API and service account tokens give a volume."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from kubecore.api import meta
from kubecore.kubelet.pods.environment import Lookup
from kubecore.kubelet.pods.fields import FieldError, NodeFacts, field_value, resource_value
from kubecore.kubelet.volumes.atomic import File

Object = dict[str, Any]
Files = dict[str, File]

DEFAULT_MODE = 0o644
TokenSource = Callable[[Object, str, int], Awaitable[str]]
"""(pod, audience, expiration seconds) -> a token that is fresh enough."""


class VolumeError(Exception):
    """A volume cannot be set up (yet); the text follows `MountVolume.SetUp failed for volume "x" : `."""


@dataclass(frozen=True, slots=True)
class VolumeSurroundings:
    """What volumes are filled from."""

    node: NodeFacts
    pod_ips: tuple[str, ...]
    lookup: Lookup
    token: TokenSource


def config_map_files(pod: Object, source: Object, mode: int, lookup: Lookup) -> Files:
    return _keyed_files(pod, source, source.get("name", ""), "configmaps", mode, lookup)


def secret_files(pod: Object, source: Object, mode: int, lookup: Lookup) -> Files:
    name = source.get("secretName") or source.get("name", "")
    return _keyed_files(pod, source, name, "secrets", mode, lookup)


def _keyed_files(pod: Object, source: Object, name: str, resource: str, mode: int, lookup: Lookup) -> Files:
    kind = "configmap" if resource == "configmaps" else "secret"
    optional = source.get("optional", False)
    namespace = meta.namespace(pod)
    found = lookup(resource, namespace, name)
    if found is None:
        if optional:
            return {}
        raise VolumeError(f'{kind} "{name}" not found')
    content = _binary_values(found)
    items = source.get("items") or []
    if not items:
        return {key: File(value, mode) for key, value in content.items()}
    files: Files = {}
    for item in items:
        value = content.get(item["key"])
        if value is None:
            if optional:
                continue
            raise VolumeError(f"{kind} references non-existent {kind.replace('map', '')} key: {item['key']}")
        files[_safe(item["path"])] = File(value, item.get("mode", mode))
    return files


def _binary_values(source: Object) -> dict[str, bytes]:
    data = source.get("data") or {}
    if source.get("kind") == "Secret":
        return {key: base64.b64decode(value or "") for key, value in data.items()}
    values = {key: value.encode("utf-8", "surrogateescape") for key, value in data.items()}
    values.update({key: base64.b64decode(value) for key, value in (source.get("binaryData") or {}).items()})
    return values


def downward_files(pod: Object, source: Object, mode: int, around: VolumeSurroundings) -> Files:
    files: Files = {}
    for item in source.get("items") or []:
        try:
            if "fieldRef" in item:
                path = item["fieldRef"]["fieldPath"]
                text = field_value(pod, path, node=around.node, pod_ips=around.pod_ips)
            else:
                text = resource_value(pod, item["resourceFieldRef"], default_container="", node=around.node)
        except FieldError as error:
            raise VolumeError(str(error)) from error
        files[_safe(item["path"])] = File(text.encode(), item.get("mode", mode))
    return files


async def projected_files(pod: Object, volume: Object, around: VolumeSurroundings) -> Files:
    """What is wrong with any of the sources is told."""
    mode = volume.get("defaultMode", DEFAULT_MODE)
    files: Files = {}
    wrong: list[str] = []
    for source in volume.get("sources") or []:
        try:
            files.update(await _source_files(pod, source, mode, around))
        except VolumeError as error:
            wrong.append(str(error))
    if wrong := list(dict.fromkeys(wrong)):
        raise VolumeError(wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]")
    return files


async def _source_files(pod: Object, source: Object, mode: int, around: VolumeSurroundings) -> Files:
    files: Files = {}
    if "configMap" in source:
        files.update(config_map_files(pod, source["configMap"], mode, around.lookup))
    if "secret" in source:
        files.update(secret_files(pod, source["secret"], mode, around.lookup))
    if "downwardAPI" in source:
        files.update(downward_files(pod, source["downwardAPI"], mode, around))
    if "serviceAccountToken" in source:
        wanted = source["serviceAccountToken"]
        seconds = wanted.get("expirationSeconds", 3600)
        token = await around.token(pod, wanted.get("audience", ""), seconds)
        files[_safe(wanted["path"])] = _token_file(pod, token, mode)
    if "clusterTrustBundle" in source or "podCertificate" in source:
        raise VolumeError("projected volumes from clusterTrustBundle and podCertificate are not supported")
    return files


def _token_file(pod: Object, token: str, mode: int) -> File:
    """With one user for all containers, or a group, only those may read it (upstream projected.go)."""
    context = pod["spec"].get("securityContext") or {}
    user = _only_user(pod)
    if context.get("fsGroup") is not None:
        mode = 0o640
    elif user is not None:
        mode = 0o600
    return File(token.encode(), mode, user)


def _only_user(pod: Object) -> int | None:
    """Whom all containers run as, None if they differ or do not say."""
    spec = pod["spec"]
    whole = (spec.get("securityContext") or {}).get("runAsUser")
    containers = [*spec["containers"], *(spec.get("initContainers") or []), *(spec.get("ephemeralContainers") or [])]
    users = {(one.get("securityContext") or {}).get("runAsUser", whole) for one in containers}
    return users.pop() if len(users) == 1 else None


def _safe(path: str) -> str:
    """The API server has validated it; a kubelet must not trust that with its file system."""
    if path.startswith("/") or ".." in path.split("/") or path.startswith(".."):
        raise VolumeError(f"invalid path: must not be absolute or contain '..': {path}")
    return path
