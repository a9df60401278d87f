"""What `/proxy` never connects to: addresses that no pod or node has, but the API server's own machine does, and
endpoints that are no pods."""

from __future__ import annotations

import orjson
import pytest

from kubecore.apiserver.server import APIServer

from .conftest import Api, pod
from .connections import client

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAPPED = ("::ffff:127.0.0.1", "::ffff:169.254.169.254")
OWN = ("127.0.0.1", "::1", "169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", *MAPPED)


async def answer(server: APIServer, path: str) -> tuple[str, str]:
    """Status line and message of a GET."""
    async with client(server) as ours:
        ours.writer.write(f"GET {path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n".encode())
        head = await ours.head()
        return head.partition("\r\n")[0], orjson.loads(await ours.ended())["message"]


@pytest.mark.parametrize("address", OWN)
async def test_a_pod_that_claims_an_address_of_the_api_servers_machine_is_not_reached(
    server: APIServer, api: Api, address: str
) -> None:
    await api.create("v1/pods", pod("liar", nodeName="anywhere"))
    status = {"status": {"podIP": address, "podIPs": [{"ip": address}]}}
    code, patched = await api.patch("v1/pods", "liar", status, subresource="status")
    assert code == 200, patched
    told = await answer(server, api.path("v1/pods", "liar:6443", "proxy"))
    assert told == ("HTTP/1.1 400 Bad Request", "address not allowed")
    await api.delete("v1/pods", "liar", gracePeriodSeconds="0")


@pytest.mark.parametrize("address", OWN)
async def test_a_node_that_claims_one_is_reached_at_its_kubelets_port_alone(
    server: APIServer, cluster: Api, address: str
) -> None:
    endpoint = {"kubeletEndpoint": {"Port": 1}}
    status = {"addresses": [{"type": "InternalIP", "address": address}], "daemonEndpoints": endpoint}
    await cluster.create("v1/nodes", {"metadata": {"name": "liar"}, "status": status})
    told = await answer(server, cluster.path("v1/nodes", "liar:6443", "proxy"))
    assert told == ("HTTP/1.1 400 Bad Request", "address not allowed")
    await cluster.delete("v1/nodes", "liar")


@pytest.mark.parametrize("port", ["https", "443"])
async def test_the_endpoint_of_service_kubernetes_is_no_pod_and_not_reached(server: APIServer, port: str) -> None:
    """As in Kubernetes, whose `isValidAddress` skips whatever has no `targetRef`."""
    name = f"https:kubernetes:{port}"
    told = await answer(server, f"/api/v1/namespaces/default/services/{name}/proxy/version")
    assert told == ("HTTP/1.1 503 Service Unavailable", f'no endpoints available for service "{name}"')
