"""An extension API server that is registered with the API server under test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson

from kubecore.apiserver.server import APIServer
from tests.support.extension_server import GROUP, VERSION, Extension, serving

from .conftest import Api

JSON = dict[str, Any]
SERVICES = "apiregistration.k8s.io/v1/apiservices"
NAME = f"{VERSION}.{GROUP}"
WARDLE = "wardle"


def admin(server: APIServer, namespace: str = "") -> Api:
    return Api(server.transport(username="admin", groups=["system:masters"]), namespace)


async def made(api: Api, resource: str, obj: JSON) -> JSON:
    status, answer = await api.create(resource, obj)
    assert status == 201, answer
    return answer


async def lead_to(server: APIServer, port: int, *, ready: bool = True, port_name: str = "") -> None:
    """The Service wardle/api, with one endpoint."""
    await admin(server).create("v1/namespaces", {"metadata": {"name": WARDLE}})
    within = admin(server, WARDLE)
    ports = [{"name": port_name, "port": 443, "targetPort": port}]
    await made(within, "v1/services", {"metadata": {"name": "api"}, "spec": {"ports": ports}})
    await made(within, "discovery.k8s.io/v1/endpointslices", endpoints(port, ready=ready, port_name=port_name))


def endpoints(port: int, *, ready: bool = True, port_name: str = "") -> JSON:
    return {
        "metadata": {"name": "api-1", "labels": {"kubernetes.io/service-name": "api"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": ready}}],
        "ports": [{"name": port_name, "port": port}],
    }


def api_service(**spec: Any) -> JSON:
    given = {
        "group": GROUP,
        "version": VERSION,
        "groupPriorityMinimum": 1000,
        "versionPriority": 15,
        "service": {"namespace": WARDLE, "name": "api"},
        **spec,
    }
    return {"metadata": {"name": NAME}, "spec": given}


async def until_told(server: APIServer, *reasons: str) -> JSON:
    """The condition Available, once it has one of these reasons."""
    path = f"/apis/{SERVICES}"
    last: JSON = {}
    async with asyncio.timeout(60):
        async for batch in admin(server).transport.watch(path, query={"fieldSelector": f"metadata.name={NAME}"}):
            for event in batch:
                for one in (orjson.loads(event.object).get("status") or {}).get("conditions") or []:
                    last = one
                    if one["reason"] in reasons:
                        return last
    raise AssertionError(last)


@asynccontextmanager
async def aggregated(server: APIServer, extension: Extension | None = None, **spec: Any) -> AsyncIterator[Extension]:
    """Available; it is left in the registry."""
    given = extension or Extension()
    given.trusted = (server.config.data_dir / "pki/front-proxy-ca.crt").read_text()
    async with serving(given):
        await lead_to(server, given.port)
        trust = {} if "insecureSkipTLSVerify" in spec else {"caBundle": given.ca_bundle}
        await made(admin(server), SERVICES, api_service(**{**trust, **spec}))
        await until_told(server, "Passed")
        yield given


async def until(wanted: Callable[[], Awaitable[Any]], expected: object) -> None:
    """What is asked for again and again becomes that."""
    async with asyncio.timeout(60):
        found = await wanted()
        while found != expected:
            # What is waited for happens on this very loop.
            await asyncio.sleep(0)
            found = await wanted()
