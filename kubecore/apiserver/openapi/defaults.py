"""Defaults that OpenAPI v3 tells.

Those that follow from how Go writes fields are baked into the definitions; here are those of `+default` markers and of
types that are not baked (k8s.io/api, apiextensions-apiserver and kube-aggregator v0.35).
"""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

# Where a definition has them, by field.
KEY = "x-defaults"

_CORE = "io.k8s.api.core.v1."
_MARKED: dict[str, JSON] = {
    "io.k8s.api.autoscaling.v1.ScaleSpec": {"replicas": 0},
    "io.k8s.api.certificates.v1beta1.PodCertificateRequestSpec": {"maxExpirationSeconds": 86400},
    **{
        f"io.k8s.api.resource.{version}.DeviceToleration": {"operator": "Equal"}
        for version in ("v1", "v1beta1", "v1beta2")
    },
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionList": {"metadata": {}},
    "io.k8s.apimachinery.pkg.version.Info": dict.fromkeys(
        (
            "buildDate",
            "compiler",
            "gitCommit",
            "gitTreeState",
            "gitVersion",
            "goVersion",
            "major",
            "minor",
            "platform",
        ),
        "",
    ),
    "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIServiceList": {"metadata": {}},
    f"{_CORE}AzureDiskVolumeSource": {
        "cachingMode": "ReadWrite",
        "fsType": "ext4",
        "kind": "Shared",
        "readOnly": False,
    },
    f"{_CORE}ContainerPort": {"protocol": "TCP"},
    f"{_CORE}FileKeySelector": {"optional": False},
    f"{_CORE}GRPCAction": {"service": ""},
    f"{_CORE}ReplicationControllerSpec": {"minReadySeconds": 0, "replicas": 1},
    f"{_CORE}ServicePort": {"protocol": "TCP"},
}
# The same for the source of a volume and of a persistent one.
_VOLUMES: dict[str, JSON] = {
    "ISCSI": {"iscsiInterface": "default"},
    "RBD": {"keyring": "/etc/ceph/keyring", "pool": "rbd", "user": "admin"},
    "ScaleIO": {"fsType": "xfs", "storageMode": "ThinProvisioned"},
}
# Whose name may be left out for compatibility's sake.
_NAMED = (
    "ConfigMapEnvSource",
    "ConfigMapKeySelector",
    "ConfigMapProjection",
    "ConfigMapVolumeSource",
    "LocalObjectReference",
    "SecretEnvSource",
    "SecretKeySelector",
    "SecretProjection",
)
# Types that are written by functions of their own.
_OPAQUE = (
    ".JSON",
    ".JSONSchemaPropsOrStringArray",
    ".meta.v1.Time",
    ".meta.v1.MicroTime",
    ".resource.Quantity",
    ".intstr.IntOrString",
)
_ZEROS = {"string": "", "integer": 0, "number": 0, "boolean": False}


def add_to(definitions: dict[str, JSON]) -> None:
    """Puts the defaults into the definitions of built-in kinds, in place."""
    sources = {
        f"{_CORE}{kind}{volume}VolumeSource": told for kind, told in _VOLUMES.items() for volume in ("", "Persistent")
    }
    named = {f"{_CORE}{kind}": {"name": ""} for kind in _NAMED}
    for name, told in (_MARKED | sources | named).items():
        if name in definitions:
            definitions[name][KEY] = {**definitions[name].get(KEY, {}), **told}


def zero_of(element: JSON) -> object:
    """The default of elements of a list or map; None where they have none."""
    if "$ref" in element:
        return None if element["$ref"].endswith(_OPAQUE) else {}
    return None if element.get("format") == "byte" else _ZEROS.get(element.get("type", ""))
