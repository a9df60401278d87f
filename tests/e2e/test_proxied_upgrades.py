"""WebSockets and other protocols through the API server's proxy to pods and services."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.support.kubectl import Kubectl, make_namespace
from tests.support.process import RunningCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAMESPACE = "proxied-upgrades"
PROGRAM = """
import os
from aiohttp import web

async def talk(request):
    if request.path == "/refused":
        return web.Response(status=403, text="not you")
    socket = web.WebSocketResponse(protocols=("chat",))
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"{request.path_qs} {message.data.upper()}")
    return socket

app = web.Application()
app.router.add_get("/{path:.*}", talk)
web.run_app(app, host=os.environ["KUBECORE_POD_IP"], port=18080, print=None)
"""


@pytest.fixture(scope="module", autouse=True)
def _pod(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    program = tmp_path_factory.mktemp("talker") / "talker.py"
    program.write_text(PROGRAM)
    container = {
        "name": "main",
        "image": "none",
        "command": [sys.executable, str(program)],
        "ports": [{"name": "talk", "containerPort": 18080}],
        "readinessProbe": {"tcpSocket": {"port": 18080}, "periodSeconds": 1},
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "talker", "labels": {"app": "talker"}}, "spec": spec}
    make_namespace(kubectl, NAMESPACE)
    kubectl("-n", NAMESPACE, "create", "-f", "-", stdin=json.dumps(pod))
    kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod/talker", "--timeout=180s")
    kubectl("-n", NAMESPACE, "expose", "pod", "talker", "--port=18080", "--target-port=talk")
    address = "--for=jsonpath={.endpoints[0].conditions.ready}=true"
    of_service = ("-l", "kubernetes.io/service-name=talker")
    kubectl("-n", NAMESPACE, "wait", "--for=create", "endpointslices", *of_service, "--timeout=180s")
    kubectl("-n", NAMESPACE, "wait", address, "endpointslices", *of_service, "--timeout=180s")
    yield
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def trust(cluster: RunningCluster) -> ssl.SSLContext:
    """The administrator's."""
    import kubernetes as k8s

    loaded: Any = k8s.client.Configuration()
    k8s.config.load_kube_config(str(cluster.kubeconfig), client_configuration=loaded)
    context = ssl.create_default_context(cafile=loaded.ssl_ca_cert)
    context.load_cert_chain(loaded.cert_file, loaded.key_file)
    return context


@pytest.mark.parametrize("place", ["pods/talker:18080", "services/talker:18080", "services/http:talker:18080"])
async def test_a_web_socket_is_joined_with_the_pods(cluster: RunningCluster, trust: ssl.SSLContext, place: str) -> None:
    url = f"{cluster.url}/api/v1/namespaces/{NAMESPACE}/{place}/proxy/some/path?a=b%20c"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, ssl=trust, protocols=["chat"]) as socket:
        assert socket.protocol == "chat"
        for word in ("hello", "x" * 200_000):
            await socket.send_str(word)
            assert (await socket.receive(60)).data == f"/some/path?a=b%20c {word.upper()}"
        await socket.close()
        assert socket.close_code == 1000


async def test_a_refusal_is_the_answer_and_what_is_sent_after_it_goes_nowhere(
    cluster: RunningCluster, trust: ssl.SSLContext
) -> None:
    parts = urlsplit(cluster.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=trust)
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/talker:18080/proxy/refused"
    ask = f"GET {path} HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    writer.write(f"{ask}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).decode()
    assert head.startswith("HTTP/1.1 403 ")
    writer.write(b"GET /version HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n")
    rest = await asyncio.wait_for(reader.read(), 60)
    assert rest.startswith(b"not you")
    assert b"talker" not in rest
    writer.close()
