"""exec, attach, port-forward and logs as the API server passes them on: by a kubelet that the test plays, in bytes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from kubecore.apiserver.authentication.options import AuthenticationOptions, RequestHeaderOptions
from kubecore.apiserver.authentication.pki import CertificateAuthority
from kubecore.apiserver.server import APIServer
from kubecore.clock import RealClock
from tests.integration.apiserver.hooks import bound, hooking, within
from tests.support.admission_webhook import patch

from .conftest import Api, pod
from .connections import Connection, client
from .serving import served

pytestmark = pytest.mark.asyncio(loop_scope="module")

UPGRADE = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


@dataclass
class PlayedKubelet:
    """`answer` is what it says to the next request."""

    answer: bytes = SWITCHED
    connections: asyncio.Queue[Connection] = field(default_factory=asyncio.Queue)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.put_nowait(Connection(reader, writer))

    async def asked(self) -> tuple[str, Connection]:
        """The next request's head, answered."""
        connection = await asyncio.wait_for(self.connections.get(), 60)
        head = await connection.head()
        connection.writer.write(self.answer)
        return head, connection


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[APIServer]:
    """Behind proxies that have headers of their own."""
    folder = tmp_path_factory.mktemp("streams")
    file = folder / "front-proxy-ca.crt"
    file.write_bytes(CertificateAuthority(folder / "proxies", RealClock()).certificate)
    headers = RequestHeaderOptions(
        client_ca_file=file, username_headers=("X-Told-User",), extra_headers_prefix=("X-Told-Extra-",)
    )
    async with served(folder, authentication=AuthenticationOptions(request_header=headers)) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def kubelet(server: APIServer, cluster: Api) -> AsyncIterator[PlayedKubelet]:
    played = PlayedKubelet()
    server.issue_serving_certificate("streamer", ["streamer"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder = server.config.data_dir / "pki"
    context.load_cert_chain(folder / "streamer.crt", folder / "streamer.key")
    listener = await asyncio.start_server(played.connected, "127.0.0.1", 0, ssl=context)
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": listener.sockets[0].getsockname()[1]}},
    }
    code, made = await cluster.create("v1/nodes", {"metadata": {"name": "streamer"}, "status": status})
    assert code == 201, made
    yield played
    await cluster.delete("v1/nodes", "streamer")
    listener.close()


Ask = Callable[[str], Awaitable[None]]


def request(api: Api, rest: str, *, method: str = "POST", headers: str = UPGRADE) -> bytes:
    path = api.path("v1/pods", "shell")
    return f"{method} {path}/{rest} HTTP/1.1\r\nHost: api\r\n{headers}Content-Length: 0\r\n\r\n".encode()


@pytest_asyncio.fixture(loop_scope="module")
async def shell(api: Api) -> Api:
    made = pod("shell", nodeName="streamer")
    code, made = await api.create("v1/pods", made)
    assert code == 201, made
    return api


async def test_both_sides_are_joined_once_the_kubelet_has_switched(
    server: APIServer, shell: Api, kubelet: PlayedKubelet
) -> None:
    async with client(server) as ours:
        ours.writer.write(request(shell, "exec?command=a&command=b%20c&stdin=true&stdout=1&tty=false"))
        asked, theirs = await kubelet.asked()
        first = asked.splitlines()[0]
        assert first == f"POST /exec/{shell.namespace}/shell/main?input=1&output=1&command=a&command=b+c HTTP/1.1"
        assert "x-stream-protocol-version: v4.channel.k8s.io" in asked.lower()
        assert (await ours.head()).startswith("HTTP/1.1 101 ")
        ours.writer.write(b"to the kubelet")
        assert await theirs.reader.readexactly(14) == b"to the kubelet"
        theirs.writer.write(b"to the client")
        theirs.writer.close()
        assert await ours.ended() == b"to the client"


CLAIMS = {
    "X-Remote-User": "evil",
    "X-Remote-Uid": "evil",
    "x-remote-group": "evil",
    "X-Remote-Extra-Scopes": "evil",
    "X-Told-User": "evil",
    "X-Told-Extra-Scopes": "evil",
    "X-Mine": "mine",
}


@pytest.mark.parametrize("path", ["namespaces/{}/pods/shell/attach?stdout=true", "nodes/streamer/proxy/a"])
async def test_who_somebody_claims_to_be_no_backend_hears(
    server: APIServer, shell: Api, kubelet: PlayedKubelet, path: str
) -> None:
    """Neither in Kubernetes' headers nor in those by which proxies tell users here."""
    claims = "".join(f"{name}: {value}\r\n" for name, value in CLAIMS.items())
    async with client(server) as ours:
        asked = f"GET /api/v1/{path.format(shell.namespace)} HTTP/1.1\r\nHost: api\r\n{UPGRADE}{claims}\r\n"
        ours.writer.write(asked.encode())
        head, _ = await kubelet.asked()
    assert "x-mine: mine" in head.lower()
    assert "evil" not in head


async def test_the_kubelet_hears_that_the_client_has_gone(
    server: APIServer, shell: Api, kubelet: PlayedKubelet
) -> None:
    async with client(server) as ours:
        ours.writer.write(request(shell, "attach?stdout=true"))
        _, theirs = await kubelet.asked()
        await ours.head()
    assert await theirs.ended() == b""


async def test_a_refusal_is_passed_on_and_leaves_no_connection(
    server: APIServer, shell: Api, kubelet: PlayedKubelet
) -> None:
    kubelet.answer = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nno!"
    async with client(server) as ours:
        ours.writer.write(request(shell, "portforward?ports=80&ports=443"))
        asked, theirs = await kubelet.asked()
        assert asked.startswith(f"POST /portForward/{shell.namespace}/shell?port=80%2C443 HTTP/1.1")
        assert (await ours.head()).startswith("HTTP/1.1 403 ")
        assert await ours.reader.readexactly(3) == b"no!"
        assert await theirs.ended() == b""
        # The client's connection speaks HTTP still: nothing was switched.
        ours.writer.write(b"GET /healthz HTTP/1.1\r\nHost: api\r\n\r\n")
        assert (await ours.head()).startswith("HTTP/1.1 200 ")


async def test_an_answer_that_switches_nothing_is_an_error(
    server: APIServer, shell: Api, kubelet: PlayedKubelet
) -> None:
    kubelet.answer = b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"
    async with client(server) as ours:
        ours.writer.write(request(shell, "exec?command=a&stdout=1"))
        _, theirs = await kubelet.asked()
        head = await ours.head()
        assert head.startswith("HTTP/1.1 500 ")
        assert "elsewhere" not in head
        assert await theirs.ended() == b""


async def test_who_may_get_but_not_create_switches_nothing(server: APIServer, shell: Api) -> None:
    role = {"metadata": {"name": "looks"}, "rules": [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get"]}]}
    await shell.create("rbac.authorization.k8s.io/v1/roles", role)
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "looks"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve"}
    binding = {"metadata": {"name": "looks"}, "roleRef": reference, "subjects": [subject]}
    await shell.create("rbac.authorization.k8s.io/v1/rolebindings", binding)
    eve = Api(server.transport(username="eve"), shell.namespace)
    code, told = await eve.call("GET", shell.path("v1/pods", "shell", "exec"), command="true", stdout="true")
    assert (code, told["reason"], told["details"]["kind"]) == (403, "Forbidden", "pods")


@pytest.mark.usefixtures("kubelet")
async def test_what_asks_for_no_other_protocol_is_a_bad_request(server: APIServer, shell: Api) -> None:
    async with client(server) as ours:
        ours.writer.write(request(shell, "exec?command=a&stdout=1", headers=""))
        assert (await ours.head()).startswith("HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("name", "query", "code", "message"),
    [
        ("shell", {"container": "other"}, 400, "container other is not valid for pod shell"),
        ("nobody", {}, 404, 'pods "nobody" not found'),
        ("unbound", {}, 400, "pod unbound does not have a host assigned"),
        ("two", {}, 400, "a container name must be specified for pod two, choose one of: [main other]"),
    ],
)
async def test_what_cannot_be_found_is_told_in_kubernetes_words(
    shell: Api, name: str, query: dict[str, str], code: int, message: str
) -> None:
    await shell.create("v1/pods", pod("unbound"))
    two = pod("two")
    two["spec"]["containers"].append({**two["spec"]["containers"][0], "name": "other"})
    await shell.create("v1/pods", two)
    path = shell.path("v1/pods", name, "exec")
    answered, told = await shell.call("POST", path, command="true", stdout="true", **query)
    assert (answered, told["message"]) == (code, message)


def connecting(*resources: str) -> dict[str, object]:
    """The rule of a webhook."""
    return {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": list(resources)}


async def test_webhooks_refuse_to_connect_by_what_is_to_be_run(
    server: APIServer, shell: Api, cluster: Api, kubelet: PlayedKubelet
) -> None:
    def decide(asked: dict[str, Any]) -> dict[str, object]:
        return {"allowed": asked["object"]["command"] != ["sh"], "status": {"message": "no shells"}}

    path = shell.path("v1/pods", "shell", "exec")
    async with hooking(shell, cluster, "Validating", decide, rule=connecting("pods/exec", "pods/attach")) as hook:
        code, told = await shell.call("POST", path, command="sh", stdin="true", container="main")
        assert (code, told["message"]) == (400, 'admission webhook "one.example.com" denied the request: no shells')
        async with client(server) as ours:
            ours.writer.write(request(shell, "exec?command=ls"))
            await kubelet.asked()
    options, *_ = [one["object"] for one in hook.requests]
    about = {"kind": "PodExecOptions", "apiVersion": "v1"}
    assert options == {**about, "stdin": True, "container": "main", "command": ["sh"]}
    asked = hook.requests[0]
    assert asked["kind"] == {"group": "", "version": "v1", "kind": "PodExecOptions"}
    assert (asked["operation"], asked["subResource"], asked["name"]) == ("CONNECT", "exec", "shell")
    assert (asked["oldObject"], asked["options"], asked["dryRun"]) == (None, None, False)


async def test_what_webhooks_make_of_the_options_is_what_is_run(
    server: APIServer, shell: Api, cluster: Api, kubelet: PlayedKubelet
) -> None:
    change = patch({"op": "replace", "path": "/command", "value": ["echo", "no"]}, {"op": "remove", "path": "/stdin"})
    async with hooking(shell, cluster, "Mutating", change, rule=connecting("pods/exec")), client(server) as ours:
        ours.writer.write(request(shell, "exec?command=sh&stdin=true&stdout=true"))
        head, _ = await kubelet.asked()
    assert head.startswith(f"POST /exec/{shell.namespace}/shell/main?output=1&command=echo&command=no HTTP/1.1")


async def test_options_that_webhooks_spoil_are_not_followed(shell: Api, cluster: Api) -> None:
    change = patch({"op": "replace", "path": "/command", "value": 7})
    async with hooking(shell, cluster, "Mutating", change, rule=connecting("pods/exec")):
        code, told = await shell.call("POST", shell.path("v1/pods", "shell", "exec"), command="sh")
    assert (code, told["reason"]) == (500, "InternalError")


@pytest.mark.usefixtures("kubelet")
async def test_policies_judge_ports_that_are_forwarded(shell: Api, cluster: Api) -> None:
    policies = "admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    spec = {
        "matchConstraints": {"resourceRules": [connecting("pods/portforward")]},
        "validations": [{"expression": "!(22 in object.ports)", "message": "not that one"}],
    }
    binding = {"validationActions": ["Deny"], "matchResources": {"namespaceSelector": within(shell)}}
    path = shell.path("v1/pods", "shell", "portforward")
    async with bound(cluster, policies, "ports", spec, binding):
        code, told = await shell.call("POST", path, ports="80,22")
        assert (code, told["message"].rpartition(": ")[2]) == (422, "not that one")
        code, told = await shell.call("POST", path, ports="80")
    assert told["message"] == "Upgrade request required", "it was let through"


async def test_connecting_has_no_dry_run(shell: Api) -> None:
    code, told = await shell.call("POST", shell.path("v1/pods", "shell", "exec"), command="sh", dryRun="All")
    assert (code, told["message"]) == (400, "dryRun is not supported")


async def test_webhooks_see_and_change_the_path_behind_a_proxy(
    server: APIServer, shell: Api, cluster: Api, kubelet: PlayedKubelet
) -> None:
    def decide(asked: dict[str, Any]) -> dict[str, Any]:
        if asked["object"]["path"] == "/secret":
            return {"allowed": False}
        changed: dict[str, Any] = patch({"op": "replace", "path": "/path", "value": "/b c"})(asked)
        return changed

    kubelet.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with hooking(shell, cluster, "Mutating", decide, rule=connecting("nodes/proxy")) as hook:
        async with client(server) as ours:
            ours.writer.write(b"GET /api/v1/nodes/streamer/proxy/secret HTTP/1.1\r\nHost: api\r\n\r\n")
            assert (await ours.head()).startswith("HTTP/1.1 400 ")
        async with client(server) as ours:
            ours.writer.write(b"GET /api/v1/nodes/streamer/proxy/a?x=y HTTP/1.1\r\nHost: api\r\n\r\n")
            head, _ = await kubelet.asked()
            assert (await ours.head()).startswith("HTTP/1.1 200 ")
    assert head.startswith("GET /b%20c?x=y HTTP/1.1")
    assert [one["object"]["kind"] for one in hook.requests] == ["NodeProxyOptions", "NodeProxyOptions"]


async def test_links_of_a_page_behind_a_proxy_lead_through_it(server: APIServer, kubelet: PlayedKubelet) -> None:
    page = b'<a href="/logs/">logs</a><a href="more">more</a><img src="//elsewhere.example/x">'
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    )
    kubelet.answer = head % len(page) + page
    async with client(server) as ours:
        ours.writer.write(b"GET /api/v1/nodes/streamer/proxy/index HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n")
        asked, _ = await kubelet.asked()
        assert "x-forwarded-uri: /api/v1/nodes/streamer/proxy/index\r\n" in asked.lower()
        assert (await ours.head()).startswith("HTTP/1.1 200 ")
        told = await ours.ended()
    assert b'<a href="/api/v1/nodes/streamer/proxy/logs/">logs</a><a href="more">' in told
    assert b'<img src="//elsewhere.example/x">' in told


LOG = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
SO_FAR = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
WEBSOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a2V5\r\n"
CLOSED = b"\x88\x02\x03\xe8"


def log_by_websocket(api: Api, protocol: str) -> bytes:
    return request(api, "log", method="GET", headers=f"{WEBSOCKET}Sec-WebSocket-Protocol: {protocol}\r\n")


@pytest.mark.parametrize(
    ("protocol", "messages"),
    [
        ("binary.k8s.io", b"\x82\x00" + b"\x82\x05hello"),
        ("base64.binary.k8s.io", b"\x81\x00" + b"\x81\x08aGVsbG8="),
    ],
)
async def test_a_log_comes_by_websocket_in_messages_the_first_of_which_is_empty(
    server: APIServer, shell: Api, kubelet: PlayedKubelet, protocol: str, messages: bytes
) -> None:
    kubelet.answer = LOG
    async with client(server) as ours:
        ours.writer.write(log_by_websocket(shell, f"other.k8s.io, {protocol}"))
        await kubelet.asked()
        head = await ours.head()
        assert head.startswith("HTTP/1.1 101 ")
        assert f"sec-websocket-protocol: {protocol}\r\n" in head.lower()
        assert await ours.ended() == messages + CLOSED


async def test_a_client_that_closes_its_websocket_ends_the_log(
    server: APIServer, shell: Api, kubelet: PlayedKubelet
) -> None:
    kubelet.answer = SO_FAR
    async with client(server) as ours:
        ours.writer.write(log_by_websocket(shell, "binary.k8s.io"))
        _, theirs = await kubelet.asked()
        await ours.head()
        assert await ours.reader.readexactly(9) == b"\x82\x00\x82\x05hello"
        ours.writer.write(b"\x89\x82\x00\x00\x00\x00hi")
        assert await ours.reader.readexactly(4) == b"\x8a\x02hi"
        ours.writer.write(b"\x88\x80\x00\x00\x00\x00")
        assert await ours.ended() == CLOSED
        assert await theirs.ended() == b""


async def test_a_log_by_a_protocol_that_there_is_not_is_forbidden(
    server: APIServer, shell: Api, kubelet: PlayedKubelet
) -> None:
    kubelet.answer = LOG
    async with client(server) as ours:
        ours.writer.write(log_by_websocket(shell, "v4.channel.k8s.io"))
        await kubelet.asked()
        assert (await ours.head()).startswith("HTTP/1.1 403 ")
        told = b"requested protocol(s) are not supported: [v4.channel.k8s.io]; "
        assert (await ours.reader.readexactly(len(told))) == told
