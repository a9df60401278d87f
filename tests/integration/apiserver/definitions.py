"""CustomResourceDefinitions for tests, and waiting for what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import orjson

from tests.integration.apiserver.conftest import Api

JSON = dict[str, Any]
DEFINITIONS = "apiextensions.k8s.io/v1/customresourcedefinitions"

WIDGET_SCHEMA: JSON = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1},
                "color": {"type": "string", "default": "blue"},
                "replicas": {"type": "integer"},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
        },
        "status": {
            "type": "object",
            "properties": {
                "phase": {"type": "string"},
                "replicas": {"type": "integer"},
                "selector": {"type": "string"},
                "conditions": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"type": {"type": "string"}, "status": {"type": "string"}},
                    },
                },
            },
        },
    },
}


def version(name: str = "v1", schema: JSON = WIDGET_SCHEMA, **more: Any) -> JSON:
    return {"name": name, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **more}


def crd(plural: str, kind: str, *versions: JSON, group: str = "example.com", **more: Any) -> JSON:
    names = {"plural": plural, "kind": kind, **more.pop("names", {})}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": list(versions or (version(),)), **more}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": spec,
    }


def widget(name: str, api_version: str = "example.com/v1", **spec: Any) -> JSON:
    return {"apiVersion": api_version, "kind": "Widget", "metadata": {"name": name}, "spec": {"size": 3, **spec}}


def condition(obj: JSON, kind: str) -> JSON:
    found: JSON = next(
        (one for one in (obj.get("status") or {}).get("conditions") or [] if one["type"] == kind), {"status": None}
    )
    return found


async def watched(api: Api, name: str, *, since: str = "") -> AsyncIterator[JSON | None]:
    """The definition after every change (of a revision, or as it is now), None once it is gone."""
    query = {"fieldSelector": f"metadata.name={name}", **({"resourceVersion": since} if since else {})}
    async for batch in api.transport.watch(f"/apis/{DEFINITIONS}", query=query):
        for event in batch:
            if event.type in ("ADDED", "MODIFIED"):
                yield orjson.loads(event.object)
            elif event.type == "DELETED":
                yield None


async def until(api: Api, name: str, kind: str, status: str) -> JSON:
    async with asyncio.timeout(60):
        async for found in watched(api, name):
            if found is not None and condition(found, kind)["status"] == status:
                return found
    raise AssertionError


async def gone(api: Api, name: str) -> None:
    # It may be gone by now, which a watch that begins now does not tell.
    status, known = await Api(api.transport, "").get(DEFINITIONS, name)
    if status == 404:
        return
    async with asyncio.timeout(60):
        async for found in watched(api, name, since=known["metadata"]["resourceVersion"]):
            if found is None:
                return


async def events(api: Api, resource: str, **query: str) -> AsyncIterator[tuple[str, JSON]]:
    """(type, object) of a watch, of all objects by default; ends when the server ends it."""
    async for batch in api.transport.watch(api.path(resource), query=query):
        for event in batch:
            yield event.type, orjson.loads(event.object)


async def seen(api: Api, resource: str, kind: str, name: str = "") -> None:
    """Waits for an event of that type; ERROR is how a watch ends when the resource is served anew, or no more."""
    async with asyncio.timeout(60):
        async for found, obj in events(api, resource):
            if found == kind and obj.get("metadata", {}).get("name", "") == name:
                return


def begin(awaitable: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(awaitable)


async def define(api: Api, definition: JSON) -> JSON:
    """Creates a definition and waits until it is established."""
    status, made = await Api(api.transport, "").create(DEFINITIONS, definition)
    assert status == 201, made
    return await until(api, definition["metadata"]["name"], "Established", "True")
