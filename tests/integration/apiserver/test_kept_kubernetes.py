"""How pods reach the API is there again after somebody has taken it away, or led it elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.apiserver.local import LocalTransport
from kubecore.apiserver.server import APIServer

from .serving import served

JSON = dict[str, Any]
SERVICE = "/api/v1/namespaces/default/services"
ENDPOINTS = "/api/v1/namespaces/default/endpoints"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


def administrator(server: APIServer) -> LocalTransport:
    return server.transport(username="admin", groups=["system:masters"])


async def read(server: APIServer, path: str) -> JSON:
    status, body = await administrator(server).request("GET", f"{path}/kubernetes")
    assert status == 200
    found: JSON = orjson.loads(body)
    return found


async def seen(server: APIServer, path: str, before: JSON) -> JSON:
    """It, as soon as it says what it said before."""
    async with asyncio.timeout(60):
        async for batch in administrator(server).watch(path, query={"fieldSelector": "metadata.name=kubernetes"}):
            for event in batch:
                found: JSON = orjson.loads(event.object)
                if event.type in ("ADDED", "MODIFIED") and said(found) == said(before):
                    return found
    raise AssertionError("the watch has ended")


def said(obj: JSON) -> JSON:
    return {name: value for name, value in obj.items() if name not in ("metadata", "status")}


@pytest.mark.parametrize("path", [SERVICE, ENDPOINTS, SLICES])
async def test_what_is_deleted_is_there_again_and_nothing_is_said_of_it(
    tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    async with served(tmp_path) as server:
        before = await read(server, path)
        assert (await administrator(server).request("DELETE", f"{path}/kubernetes"))[0] == 200
        after = await seen(server, path, before)
        assert after["metadata"]["uid"] != before["metadata"]["uid"]
        assert [record.getMessage() for record in caplog.records] == []


async def test_the_service_waits_for_the_address_of_the_one_before_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    async with served(tmp_path) as server:
        before, transport = await read(server, SERVICE), administrator(server)
        own = f"/apis/networking.k8s.io/v1/ipaddresses/{before['spec']['clusterIP']}"

        async def hold(*finalizers: str) -> None:
            change = orjson.dumps({"metadata": {"finalizers": list(finalizers)}})
            kind = "application/merge-patch+json"
            assert (await transport.request("PATCH", own, body=change, content_type=kind))[0] == 200

        await hold("example.com/held")
        assert (await transport.request("DELETE", f"{SERVICE}/kubernetes"))[0] == 200
        # Whoever keeps it looks at endpoints in the same turn, just before.
        leads = await read(server, ENDPOINTS)
        assert (await transport.request("DELETE", f"{ENDPOINTS}/kubernetes"))[0] == 200
        await seen(server, ENDPOINTS, leads)
        assert (await transport.request("GET", f"{SERVICE}/kubernetes"))[0] == 404
        await hold()
        after = await seen(server, SERVICE, before)
        assert after["metadata"]["uid"] != before["metadata"]["uid"]
        assert [record.getMessage() for record in caplog.records] == []


async def test_endpoints_that_lead_elsewhere_lead_here_again_and_the_service_is_its_owners(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        before, service = await read(server, SLICES), await read(server, SERVICE)
        elsewhere = {**before, "endpoints": [{"addresses": ["192.0.2.1"]}]}
        service["metadata"]["labels"]["mine"] = "yes"
        service["spec"]["sessionAffinity"] = "ClientIP"
        for path, changed in ((SERVICE, service), (SLICES, elsewhere)):
            answer = await administrator(server).request("PUT", f"{path}/kubernetes", body=orjson.dumps(changed))
            assert answer[0] == 200
        await seen(server, SLICES, before)
        assert (await read(server, SERVICE))["spec"]["sessionAffinity"] == "ClientIP"


async def test_a_namespace_of_the_cluster_that_was_deleted_is_there_again(tmp_path: Path) -> None:
    """`kubectl delete namespaces --all` takes the one that nodes' leases are in: no node would be ready again."""
    path = "/api/v1/namespaces"
    async with served(tmp_path) as server:
        transport = administrator(server)
        _, body = await transport.request("GET", f"{path}/kube-node-lease")
        before = orjson.loads(body)
        assert (await transport.request("DELETE", f"{path}/kube-node-lease"))[0] == 200
        # What a controller does when nothing is left in it.
        emptied = orjson.dumps({**before, "metadata": {"name": "kube-node-lease"}, "spec": {"finalizers": []}})
        status, _ = await transport.request("PUT", f"{path}/kube-node-lease/finalize", body=emptied)
        assert status == 200
        async with asyncio.timeout(60):
            async for batch in transport.watch(path, query={"fieldSelector": "metadata.name=kube-node-lease"}):
                found = [orjson.loads(event.object) for event in batch if event.type == "ADDED"]
                if any(one["metadata"]["uid"] != before["metadata"]["uid"] for one in found):
                    break


async def test_whom_extension_servers_trust_is_told_again(tmp_path: Path) -> None:
    path = "/api/v1/namespaces/kube-system/configmaps"
    name = "extension-apiserver-authentication"
    async with served(tmp_path) as server:
        transport = administrator(server)
        _, body = await transport.request("GET", f"{path}/{name}")
        before = orjson.loads(body)
        assert (await transport.request("DELETE", f"{path}/{name}"))[0] == 200
        async with asyncio.timeout(60):
            async for batch in transport.watch(path, query={"fieldSelector": f"metadata.name={name}"}):
                found = [orjson.loads(event.object) for event in batch if event.type == "ADDED"]
                if any(one["metadata"]["uid"] != before["metadata"]["uid"] for one in found):
                    assert found[-1]["data"] == before["data"]
                    break
