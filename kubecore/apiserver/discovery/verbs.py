"""In which order discovery tells what can be done with a resource."""

from __future__ import annotations

from kubecore.api.scheme import Resource

# Of custom resources, after k8s.io/apiextensions-apiserver pkg/apiserver/customresource_discovery_controller.go.
_OF_CUSTOM = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")


def told_verbs(resource: Resource) -> list[str]:
    if resource.storage_version:
        return [verb for verb in _OF_CUSTOM if verb in resource.verbs]
    return sorted(resource.verbs)
