"""Discovery in one document: APIGroupDiscoveryList (KEP-3352)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubecore.api.scheme import APIGroup, Resource, Scheme, Subresource

JSON = dict[str, Any]


def group_discovery_list(scheme: Scheme, groups: Iterable[APIGroup], version: str) -> JSON:
    """`version` is v2 or v2beta1, which have the same content."""
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": [_group(scheme, group) for group in groups],
    }


def _group(scheme: Scheme, group: APIGroup) -> JSON:
    versions = [
        {"version": version, "resources": _resources(scheme, group.name, version), "freshness": "Current"}
        for version in group.versions
    ]
    return {"metadata": {"name": group.name, "creationTimestamp": None}, "versions": versions}


def _resources(scheme: Scheme, group: str, version: str) -> list[JSON]:
    found = scheme.of_version(group, version)
    return [_resource(resource) for resource in sorted(found, key=lambda resource: resource.plural)]


def _resource(resource: Resource) -> JSON:
    entry: JSON = {
        "resource": resource.plural,
        "responseKind": _kind(resource.group, resource.version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": sorted(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if resource.subresources:
        entry["subresources"] = [_subresource(sub) for sub in resource.subresources.values()]
    return entry


def _subresource(subresource: Subresource) -> JSON:
    return {
        "subresource": subresource.name,
        "responseKind": _kind(subresource.group, subresource.version, subresource.kind),
        "verbs": sorted(subresource.verbs),
    }


def _kind(group: str, version: str, kind: str) -> JSON:
    return {"group": group, "version": version, "kind": kind}
