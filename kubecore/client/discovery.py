"""Which resources a server serves beyond the built-in ones that are on by default: those of custom resource definitions
and API services, and of built-in versions that were turned on."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import orjson

from kubecore.api import scheme
from kubecore.api.errors import StatusError
from kubecore.api.scheme import Resource, Subresource
from kubecore.client.client import Client

# What upstream's clients hear of a server that does not answer, or not so that one could read it.
_STALE, _UNAVAILABLE = "stale GroupVersion discovery", 503
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)


async def custom_resources(client: Client) -> tuple[list[Resource], dict[str, str]]:
    """Resources that are not there by default, each in its group's preferred version, made known to `client`.

    Also tells which group versions could not be asked, with the reason: an API service whose server is down.
    """
    builtin = scheme.default()
    groups = orjson.loads(await client.request("GET", "/apis")).get("groups") or []
    found: dict[str, Resource] = {}
    failed: dict[str, str] = {}
    for group in groups:
        own = builtin.group(group["name"])
        for version in _preferred_first(group):
            if own is not None and version in own.versions:
                continue
            whole = f"{group['name']}/{version}"
            try:
                listed = _resources(group["name"], version, orjson.loads(await client.request("GET", f"/apis/{whole}")))
            except StatusError as error:
                failed[whole] = f"{_STALE}: {whole}" if error.code == _UNAVAILABLE else error.message
                continue
            except _UNREADABLE:
                failed[whole] = f"{_STALE}: {whole}"
                continue
            for resource in listed:
                if not builtin.knows(resource.key):
                    found.setdefault(resource.key, resource)
    for resource in found.values():
        client.learn(resource)
    return list(found.values()), failed


def _preferred_first(group: dict[str, Any]) -> list[str]:
    preferred: str = group["preferredVersion"]["version"]
    return [preferred, *(one["version"] for one in group["versions"] if one["version"] != preferred)]


def _resources(group: str, version: str, answer: dict[str, Any]) -> list[Resource]:
    listed = answer.get("resources") or []
    subresources: dict[str, dict[str, Subresource]] = {}
    for entry in listed:
        plural, slash, name = entry["name"].partition("/")
        if slash:
            subresources.setdefault(plural, {})[name] = Subresource(
                name, entry.get("group") or group, entry.get("version") or version, entry["kind"], _verbs(entry)
            )
    return [
        Resource(
            group=group,
            version=version,
            kind=entry["kind"],
            plural=entry["name"],
            singular=entry.get("singularName") or "",
            namespaced=entry["namespaced"],
            verbs=_verbs(entry),
            short_names=tuple(entry.get("shortNames") or ()),
            categories=tuple(entry.get("categories") or ()),
            subresources=MappingProxyType(subresources.get(entry["name"], {})),
            api_version=scheme.group_version(group, version),
            key=f"{entry['name']}.{group}",
            storage_key=f"{entry['name']}.{group}",
        )
        for entry in listed
        if "/" not in entry["name"]
    ]


def _verbs(entry: dict[str, Any]) -> frozenset[str]:
    return frozenset(entry.get("verbs") or ())
