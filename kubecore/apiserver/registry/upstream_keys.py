"""Where upstream keeps objects in etcd: some of its refusals say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource

# Those that are not kept under the name of their resource (pkg/kubeapiserver/default_storage_factory_builder.go).
_ELSEWHERE = {
    "endpoints": "services/endpoints",
    "ingresses.networking.k8s.io": "ingress",
    "nodes": "minions",
    "replicationcontrollers": "controllers",
    "services": "services/specs",
}
# Whose servers, within upstream's, keep groups apart, as that of custom resources does.
_APART = ("apiextensions.k8s.io", "apiregistration.k8s.io")


def upstream_key(resource: Resource, namespace: str, name: str = "") -> str:
    """The key below `/registry` of an object, or of what is in a namespace."""
    place = _ELSEWHERE.get(resource.key, resource.plural)
    if resource.group in _APART or resource.storage_version:
        place = f"{resource.group}/{place}"
    return "/".join(["", place, *(part for part in (namespace if resource.namespaced else "", name) if part)])
