"""Static pods: pods of a node that are written in files of a folder, not in the API.

After upstream `pkg/kubelet/config/common.go`, `file.go`.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from kubecore.api import meta
from kubecore.api.configuration_file import InvalidConfiguration, parsed

log = logging.getLogger(__name__)

Object = dict[str, Any]

HASH, MIRROR, SEEN, SOURCE = (f"kubernetes.io/config.{name}" for name in ("hash", "mirror", "seen", "source"))
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class BadManifest(Exception):
    """The text says what is wrong."""


def read_folder(folder: Path, node_name: str) -> list[Object]:
    """The pods of all files that hold one, by file name; what cannot be used is logged. Hidden files are left alone."""
    pods: dict[str, Object] = {}
    for file in _files(folder):
        try:
            pod = static_pod(file.read_bytes(), file, node_name)
        except (BadManifest, OSError) as error:
            log.warning("static pod %s: %s", file, error)
            continue
        if meta.key(pod) in pods:
            log.warning("static pod %s: there is another pod %s", file, meta.key(pod))
            continue
        pods[meta.key(pod)] = pod
    return list(pods.values())


def _files(folder: Path) -> Iterator[Path]:
    """Of a path that is a file itself, that one."""
    if folder.is_file():
        yield folder
    elif folder.is_dir():
        yield from (one for one in sorted(folder.iterdir()) if one.is_file() and not one.name.startswith("."))


def static_pod(text: bytes, file: Path, node_name: str) -> Object:
    """The pod of a file, as the node runs it. Its uid is a hash of all that makes it what it is: another content is
    another pod. Raises BadManifest."""
    try:
        read = parsed(text)
    except InvalidConfiguration as error:
        raise BadManifest(f"couldn't parse as pod: {error}") from error
    if not isinstance(read, dict) or (read.get("apiVersion"), read.get("kind")) != ("v1", "Pod"):
        raise BadManifest("invalid pod: it is no Pod of v1")
    pod = copy.deepcopy(read)
    metadata: Object = pod.setdefault("metadata", {})
    spec: Object = pod.get("spec") or {}
    _check(metadata, spec)
    digest = hashlib.md5(orjson.dumps(pod, option=orjson.OPT_SORT_KEYS), usedforsecurity=False)
    digest.update(f"host:{node_name}file:{file}".encode())
    metadata.setdefault("uid", digest.hexdigest())
    metadata["name"] = f"{metadata['name']}-{node_name.lower()}"
    metadata.setdefault("namespace", "default")
    metadata["annotations"] = {**(metadata.get("annotations") or {}), HASH: metadata["uid"], SOURCE: "file"}
    spec["nodeName"] = node_name
    spec["tolerations"] = [*(spec.get("tolerations") or []), {"operator": "Exists", "effect": "NoExecute"}]
    for container in [*spec["containers"], *(spec.get("initContainers") or [])]:
        _fill_in(container)
    pod["status"] = {"phase": "Pending"}
    return pod


def _check(metadata: Any, spec: Any) -> None:
    """What a node must know to run it at all; the rest is the API's to judge, when it gets the mirror pod."""
    if not isinstance(metadata, dict) or not _NAME.fullmatch(str(metadata.get("name", ""))):
        raise BadManifest("invalid pod: name is needed for the pod")
    containers = spec.get("containers") if isinstance(spec, dict) else None
    if not isinstance(containers, list) or not containers:
        raise BadManifest("invalid pod: spec.containers: Required value")
    everything = [*containers, *(spec.get("initContainers") or [])]
    if not all(isinstance(one, dict) and one.get("name") for one in everything):
        raise BadManifest("invalid pod: spec.containers[*].name: Required value")
    if reference := _reference(spec, everything):
        raise BadManifest(f"static pods may not reference {reference}")


def _reference(spec: Object, containers: list[Object]) -> str:
    """What it would need of the API, which a static pod has to do without."""
    if spec.get("serviceAccountName"):
        return "serviceaccounts"
    if spec.get("imagePullSecrets"):
        return "secrets"
    if spec.get("resourceClaims"):
        return "resourceclaims"
    sources = [source for one in containers for source in one.get("envFrom") or []]
    sources += [variable.get("valueFrom") or {} for one in containers for variable in one.get("env") or []]
    for volume in spec.get("volumes") or []:
        sources += [volume, *((volume.get("projected") or {}).get("sources") or [])]
    kinds = {
        "configMap": "configmaps",
        "configMapRef": "configmaps",
        "configMapKeyRef": "configmaps",
        "secret": "secrets",
        "secretRef": "secrets",
        "secretKeyRef": "secrets",
        "persistentVolumeClaim": "persistentvolumeclaims",
        "ephemeral": "persistentvolumeclaims",
        "serviceAccountToken": "serviceaccounts",
        "clusterTrustBundle": "clustertrustbundles",
    }
    return next((kind for source in sources for name, kind in kinds.items() if name in source), "")


def _fill_in(container: Object) -> None:
    """A request that is not given is the limit, as the API has it."""
    resources = container.get("resources") or {}
    limits = resources.get("limits")
    if limits:
        container["resources"] = {**resources, "requests": {**limits, **(resources.get("requests") or {})}}
