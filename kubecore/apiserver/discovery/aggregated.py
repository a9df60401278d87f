"""Discovery in one document: APIGroupDiscoveryList (KEP-3352)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubecore.api.scheme import APIGroup, Resource, Scheme, Subresource
from kubecore.apiserver.discovery.foreign import ForeignVersion
from kubecore.apiserver.discovery.verbs import told_verbs

JSON = dict[str, Any]


def group_discovery_list(scheme: Scheme, groups: Iterable[APIGroup], foreign: Sequence[ForeignVersion] = ()) -> JSON:
    """What the groups serve, as apidiscovery.k8s.io/v2 tells it; `foreign` versions of them others serve."""
    told = {(one.group, one.version): one.told() for one in foreign}
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [_group(scheme, group, told) for group in groups],
    }


def _group(scheme: Scheme, group: APIGroup, foreign: Mapping[tuple[str, str], JSON]) -> JSON:
    versions = [
        foreign.get((group.name, version))
        or {"version": version, "resources": _resources(scheme, group.name, version), "freshness": "Current"}
        for version in group.versions
    ]
    return {"metadata": {"name": group.name} if group.name else {}, "versions": versions}


def _resources(scheme: Scheme, group: str, version: str) -> list[JSON]:
    found = scheme.of_version(group, version)
    return [_resource(resource) for resource in sorted(found, key=lambda resource: resource.plural)]


def _resource(resource: Resource) -> JSON:
    entry: JSON = {
        "resource": resource.plural,
        "responseKind": _kind(resource, resource.group, resource.version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": told_verbs(resource),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if resource.subresources:
        entry["subresources"] = [_subresource(resource, sub) for sub in resource.subresources.values()]
    return entry


def _subresource(resource: Resource, subresource: Subresource) -> JSON:
    return {
        "subresource": subresource.name,
        "responseKind": _kind(resource, subresource.group, subresource.version, subresource.kind),
        "verbs": sorted(subresource.verbs),
    }


def _kind(resource: Resource, group: str, version: str, kind: str) -> JSON:
    """Built-in kinds are of their resource's version where nothing else is said; custom ones always say theirs."""
    if not resource.storage_version and (group, version) == (resource.group, resource.version):
        group = version = ""
    return {"group": group, "version": version, "kind": kind}
