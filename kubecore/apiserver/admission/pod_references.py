"""What of the API a pod refers to: upstream `pkg/api/pod/util.go`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

JSON = dict[str, Any]

CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
# Secrets that volumes of these kinds name in a field `secretRef`, CSI in `nodePublishSecretRef`.
_WITH_SECRETS = ("cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos")
_BY_VOLUME = {
    "configMap": "configmaps (via configmap volumes)",
    "secret": "secrets (via secret volumes)",
    "csi": "csidrivers (via CSI volumes)",
    "glusterfs": "endpoints (via glusterFS volumes)",
    "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims (via ephemeral volumes)",
    "azureFile": "secrets (via azureFile volumes)",
}
_BY_PROJECTION = {
    "configMap": "configmaps (via projected volumes)",
    "secret": "secrets (via projected volumes)",
    "serviceAccountToken": "serviceaccounts (via projected volumes)",
    "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificates",
}


def api_object_of(pod: JSON) -> str:
    """The first kind of API object that the pod refers to, "" where it needs none."""
    spec = pod.get("spec") or {}
    if spec.get("serviceAccountName"):
        return "serviceaccounts"
    if any(secret_names(pod)):
        return "secrets"
    if any(_config_map_names(spec)):
        return "configmaps"
    if spec.get("resourceClaims"):
        return "resourceclaims"
    return next(_of_volumes(spec), "")


def _of_volumes(spec: JSON) -> Iterator[str]:
    for volume in spec.get("volumes") or ():
        for kind, told in _BY_VOLUME.items():
            if volume.get(kind) is not None:
                yield told
        for source in (volume.get("projected") or {}).get("sources") or ():
            for kind, told in _BY_PROJECTION.items():
                if source.get(kind) is not None:
                    yield told


def secret_names(pod: JSON) -> Iterator[str]:
    """Of all secrets that the pod names."""
    spec = pod.get("spec") or {}
    for one in spec.get("imagePullSecrets") or ():
        yield one.get("name") or ""
    yield from _of_containers(spec, "secret")
    for volume in spec.get("volumes") or ():
        for kind in _WITH_SECRETS:
            yield ((volume.get(kind) or {}).get("secretRef") or {}).get("name") or ""
        yield ((volume.get("csi") or {}).get("nodePublishSecretRef") or {}).get("name") or ""
        yield (volume.get("azureFile") or {}).get("secretName") or ""
        yield (volume.get("secret") or {}).get("secretName") or ""
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield (source.get("secret") or {}).get("name") or ""


def _config_map_names(spec: JSON) -> Iterator[str]:
    yield from _of_containers(spec, "configMap")
    for volume in spec.get("volumes") or ():
        yield (volume.get("configMap") or {}).get("name") or ""
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield (source.get("configMap") or {}).get("name") or ""


def _of_containers(spec: JSON, kind: str) -> Iterator[str]:
    for part in CONTAINERS:
        for container in spec.get(part) or ():
            for origin in container.get("envFrom") or ():
                yield (origin.get(f"{kind}Ref") or {}).get("name") or ""
            for variable in container.get("env") or ():
                yield ((variable.get("valueFrom") or {}).get(f"{kind}KeyRef") or {}).get("name") or ""
