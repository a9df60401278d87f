"""Discovery in many small documents: APIVersions, APIGroupList, APIGroup, APIResourceList."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Any

from kubecore.api.scheme import APIGroup, Resource, Scheme, Subresource, group_version
from kubecore.apiserver.discovery.verbs import told_verbs

JSON = dict[str, Any]


def api_versions(server_address: str) -> JSON:
    """/api"""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    }


def group_list(every: Iterable[APIGroup]) -> JSON:
    """/apis"""
    groups = [_group(group) for group in every if group.name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(found: APIGroup) -> JSON:
    """/apis/GROUP"""
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(found)}


def _group(found: APIGroup) -> JSON:
    versions = [{"groupVersion": group_version(found.name, version), "version": version} for version in found.versions]
    return {"name": found.name, "versions": versions, "preferredVersion": versions[0]}


def resource_list(scheme: Scheme, name: str, version: str) -> JSON:
    """/api/v1 or /apis/GROUP/VERSION"""
    resources: list[JSON] = []
    for resource in scheme.of_version(name, version):
        resources.append(_resource(scheme, resource))
        resources += [_subresource(resource, sub) for sub in resource.subresources.values()]
    resources.sort(key=lambda entry: entry["name"])
    # As upstream, the core group's list does not say its own version.
    head: JSON = {"kind": "APIResourceList", "apiVersion": "v1"} if name else {"kind": "APIResourceList"}
    return {**head, "groupVersion": group_version(name, version), "resources": resources}


def _resource(scheme: Scheme, resource: Resource) -> JSON:
    entry: JSON = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": told_verbs(resource),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if {"get", "create"} <= resource.verbs or resource.storage_version:
        entry["storageVersionHash"] = _storage_version_hash(scheme.storage(resource.key))
    return entry


def _subresource(resource: Resource, subresource: Subresource) -> JSON:
    entry: JSON = {
        "name": f"{resource.plural}/{subresource.name}",
        "singularName": "",
        "namespaced": resource.namespaced,
    }
    if (subresource.group, subresource.version) != (resource.group, resource.version):
        entry |= {"group": subresource.group, "version": subresource.version}
    return entry | {"kind": subresource.kind, "verbs": sorted(subresource.verbs)}


# Kinds that upstream stores in another version than the one it prefers.
_STORED_UPSTREAM = {
    "customresourcedefinitions.apiextensions.k8s.io": "v1beta1",
    "volumeattributesclasses.storage.k8s.io": "v1beta1",
}


def _storage_version_hash(stored: Resource) -> str:
    """Changes when objects move to another storage version. After apiserver ``discovery.StorageVersionHash``."""
    version = stored.storage_version or _STORED_UPSTREAM.get(stored.key, stored.version)
    digest = hashlib.sha256(f"{stored.group}/{version}/{stored.kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()
