"""Requests for what an extension API server serves, over the real listener: who is told of whom, what is passed on, and
what is refused."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from kubecore.apiserver.local import LocalTransport
from kubecore.apiserver.server import APIServer
from tests.support.extension_server import GROUP, NAMES, ROOT, Extension, serving

from .extensions import NAME, SERVICES, admin, aggregated, api_service, endpoints, lead_to, made, until_told
from .http import Http
from .serving import served

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
FLUNDERS = f"{ROOT}/namespaces/default/flunders"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[APIServer]:
    async with served(tmp_path_factory.mktemp("aggregating")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def extension(server: APIServer) -> AsyncIterator[Extension]:
    async with aggregated(server) as running:
        yield running


@asynccontextmanager
async def asking(server: APIServer, folder: Path, name: str = "root", *groups: str) -> AsyncIterator[Http]:
    pair = server.issue_client_certificate(name, groups or ["system:masters"])
    async with Http(server, folder, pair=pair) as http:
        yield http


async def test_a_request_is_passed_on_with_who_asks_and_our_certificate(
    server: APIServer, extension: Extension, tmp_path: Path
) -> None:
    async with asking(server, tmp_path) as http:
        answer = await http.call("GET", f"{FLUNDERS}/one?pretty=true")
    assert (answer.status, answer.json["metadata"]["name"]) == (200, "one")
    asked = extension.requests(f"{FLUNDERS}/one")[-1]
    assert asked.path == f"{FLUNDERS}/one?pretty=true"
    assert asked.client == "front-proxy-client"
    assert asked.headers["X-Remote-User"] == "root"
    groups = [value for name, value in asked.every if name.lower() == "x-remote-group"]
    assert groups == ["system:masters", "system:authenticated"]
    assert asked.headers["Host"] == f"127.0.0.1:{extension.port}"
    assert asked.headers["Audit-Id"] == answer.headers["Audit-Id"]


async def test_the_uid_and_extras_of_a_service_account_are_told(
    server: APIServer, extension: Extension, tmp_path: Path
) -> None:
    api = admin(server, "default")
    await made(api, "v1/serviceaccounts", {"metadata": {"name": "asker"}})
    wanted: JSON = {"spec": {"audiences": []}}
    _, token = await api.call("POST", api.path("v1/serviceaccounts", "asker", "token"), wanted)
    await made(
        admin(server),
        "rbac.authorization.k8s.io/v1/clusterrolebindings",
        {
            "metadata": {"name": "asker"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "asker"}],
        },
    )
    async with Http(server, tmp_path, token=token["status"]["token"]) as http:
        assert (await http.call("GET", f"{FLUNDERS}/mine")).status == 200
    told = extension.requests(f"{FLUNDERS}/mine")[-1].headers
    assert told["X-Remote-User"] == "system:serviceaccount:default:asker"
    assert told["X-Remote-Uid"]
    extras = {name.lower() for name in told if name.lower().startswith("x-remote-extra-")}
    assert "x-remote-extra-authentication.kubernetes.io%2fcredential-id" in extras
    assert "Authorization" not in told


async def test_what_a_client_says_of_itself_in_headers_is_not_passed_on(
    server: APIServer, extension: Extension, tmp_path: Path
) -> None:
    claims = {"X-Remote-User": "evil", "X-Remote-Group": "evil", "X-Remote-Uid": "0", "X-Remote-Extra-Scopes": "all"}
    async with asking(server, tmp_path) as http:
        assert (await http.call("GET", f"{FLUNDERS}/claims", headers=claims)).status == 200
    told = str(extension.requests(f"{FLUNDERS}/claims")[-1].every)
    assert "evil" not in told
    assert "scopes" not in told.lower()


async def test_who_acts_as_somebody_else_is_told_as_that_one(
    server: APIServer, extension: Extension, tmp_path: Path
) -> None:
    other = {"Impersonate-User": "jane", "Impersonate-Group": "system:masters"}
    async with asking(server, tmp_path) as http:
        assert (await http.call("GET", f"{FLUNDERS}/as", headers=other)).status == 200
    told = extension.requests(f"{FLUNDERS}/as")[-1].headers
    assert told["X-Remote-User"] == "jane"
    assert not any(name.startswith("Impersonate") for name in told)


async def test_who_may_not_is_refused_here(server: APIServer, extension: Extension, tmp_path: Path) -> None:
    async with asking(server, tmp_path, "jane", "nobodies") as http:
        answer = await http.call("GET", f"{FLUNDERS}/secret")
    assert answer.status == 403
    assert answer.json["message"] == (
        f'flunders.{GROUP} "secret" is forbidden: User "jane" cannot get resource "flunders" in API group "{GROUP}" '
        'in the namespace "default"'
    )
    assert not extension.requests(f"{FLUNDERS}/secret")


async def test_a_body_of_many_megabytes_goes_through(server: APIServer, extension: Extension, tmp_path: Path) -> None:
    body = b"x" * (20 << 20)
    async with asking(server, tmp_path) as http:
        answer = await http.call("POST", FLUNDERS, body)
    assert (answer.status, len(answer.body)) == (201, len(body))


async def test_both_bodies_flow_while_the_other_does(server: APIServer, extension: Extension, tmp_path: Path) -> None:
    sent: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def pieces() -> AsyncIterator[bytes]:
        while (piece := await sent.get()) is not None:
            yield piece

    async with asking(server, tmp_path) as http:
        sent.put_nowait(b"one ")
        async with http._session.post(server.url + f"{FLUNDERS}/slow", data=pieces()) as answer:
            assert await asyncio.wait_for(answer.content.readany(), 60) == b"ONE "
            sent.put_nowait(b"two")
            assert await asyncio.wait_for(answer.content.readany(), 60) == b"TWO"
            sent.put_nowait(None)
            assert await answer.content.read() == b""


async def test_a_watch_tells_each_event_as_it_comes_and_ends_with_its_client(
    server: APIServer, extension: Extension, tmp_path: Path
) -> None:
    extension.closed.clear()
    async with asking(server, tmp_path) as http, http.stream(f"{FLUNDERS}?watch=true") as answer:
        first = await asyncio.wait_for(answer.content.readline(), 60)
        assert orjson.loads(first)["object"]["metadata"]["name"] == "one"
        extension.waiting.set()
        second = await asyncio.wait_for(answer.content.readline(), 60)
        assert orjson.loads(second)["object"]["metadata"]["name"] == "two"
    extension.waiting.set()
    await asyncio.wait_for(extension.closed.wait(), 60)


async def test_a_redirect_is_refused_and_not_followed(server: APIServer, extension: Extension, tmp_path: Path) -> None:
    async with asking(server, tmp_path) as http:
        answer = await http.call("GET", f"{FLUNDERS}/redirecting")
    told = b"the backend attempted to redirect this request, which is not permitted"
    assert (answer.status, answer.body) == (502, told)
    assert "Location" not in answer.headers


async def test_a_websocket_is_joined_with_the_extension(
    server: APIServer, extension: Extension, tmp_path: Path
) -> None:
    extension.closed.clear()
    async with asking(server, tmp_path) as http:
        url = f"{server.url}{FLUNDERS}/one/echo"
        async with http._session.ws_connect(url, protocols=["echo.example.com"]) as connection:
            assert connection.protocol == "echo.example.com"
            await connection.send_str("hello")
            assert (await asyncio.wait_for(connection.receive(), 60)).data == "heard hello"
    await asyncio.wait_for(extension.closed.wait(), 60)
    told = extension.requests(f"{FLUNDERS}/one/echo")[-1].headers
    assert told["X-Remote-User"] == "root"


async def test_a_failed_upgrade_leaves_no_tunnel(server: APIServer, extension: Extension, tmp_path: Path) -> None:
    """What follows on the connection is a request to us, as who has shown the certificate: CVE-2018-1002105."""
    from .connections import client

    async with client(server) as ours:
        lines = [f"GET {FLUNDERS}/refusing HTTP/1.1", "Host: api", "Connection: Upgrade", "Upgrade: SPDY/3.1", "", ""]
        ours.writer.write("\r\n".join(lines).encode())
        assert (await ours.head()).startswith("HTTP/1.1 403 ")
        smuggled = [
            f"GET {FLUNDERS}/smuggled HTTP/1.1",
            "Host: api",
            "X-Remote-User: evil",
            "Connection: close",
            "",
            "",
        ]
        ours.writer.write("\r\n".join(smuggled).encode())
        await ours.ended()
    assert all("evil" not in str(one.every) for one in extension.requests(f"{FLUNDERS}/smuggled"))


async def test_a_switch_that_is_answered_as_a_plain_request_is_told_so(
    server: APIServer, extension: Extension, tmp_path: Path
) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
    async with asking(server, tmp_path) as http:
        answer = await http.call("GET", f"{FLUNDERS}/one", headers=upgrade)
    assert (answer.status, answer.body) == (503, b"invalid upgrade response: status code 200\n")


async def test_components_of_the_process_reach_it_as_themselves(server: APIServer, extension: Extension) -> None:
    transport: LocalTransport = server.transport(username="gc", groups=["system:masters"])
    status, body = await transport.request("GET", FLUNDERS)
    assert (status, orjson.loads(body)["kind"]) == (200, "FlunderList")
    (created,) = await transport.create_all(FLUNDERS, [orjson.dumps({"kind": "Flunder"})])
    assert created == (201, b'{"kind":"Flunder"}')
    told = extension.requests(FLUNDERS)[-1]
    assert (told.headers["X-Remote-User"], told.client) == ("gc", "front-proxy-client")
    watch = transport.watch(FLUNDERS)
    async for batch in watch:
        assert [(event.type, orjson.loads(event.object)["metadata"]["name"]) for event in batch] == [("ADDED", "one")]
        break
    await watch.aclose()  # type: ignore[attr-defined]


async def test_what_extensions_trust_us_by_can_be_read(server: APIServer, extension: Extension) -> None:
    _, found = await admin(server, "kube-system").get("v1/configmaps", "extension-apiserver-authentication")
    data = found["data"]
    assert data["requestheader-allowed-names"] == '["front-proxy-client"]'
    assert data["requestheader-username-headers"] == '["X-Remote-User"]'
    assert data["requestheader-uid-headers"] == '["X-Remote-Uid"]'
    assert data["requestheader-group-headers"] == '["X-Remote-Group"]'
    assert data["requestheader-extra-headers-prefix"] == '["X-Remote-Extra-"]'
    pki = server.config.data_dir / "pki"
    assert data["requestheader-client-ca-file"] == (pki / "front-proxy-ca.crt").read_text()
    assert data["client-ca-file"] == (pki / "ca.crt").read_text()
    assert (pki / "front-proxy-ca.key").stat().st_mode & 0o077 == 0


async def test_an_extension_that_goes_away_is_unavailable(tmp_path: Path) -> None:
    async with served(tmp_path) as server, asking(server, tmp_path) as http:
        async with aggregated(server):
            assert (await http.call("GET", FLUNDERS)).status == 200
        answer = await http.call("GET", FLUNDERS)
        assert answer.status == 503
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        port = admin(server)
        _, slices = await admin(server, "wardle").list("discovery.k8s.io/v1/endpointslices")
        number = slices["items"][0]["ports"][0]["port"]
        told = f"error trying to reach service: dial tcp 127.0.0.1:{number}: connect: connection refused\n"
        assert answer.body.decode() == told
        # Somebody touches what leads there, and it is looked at again.
        slices["items"][0]["metadata"]["labels"]["touched"] = "yes"
        await admin(server, "wardle").update("discovery.k8s.io/v1/endpointslices", slices["items"][0])
        condition = await until_told(server, "FailedDiscoveryCheck")
        url = f"https://127.0.0.1:{number}{ROOT}"
        assert condition["message"] == (
            f'failing or missing response from {url}: Get "{url}": dial tcp 127.0.0.1:{number}: connect: '
            "connection refused"
        )
        assert condition["status"] == "False"
        answer = await http.call("GET", FLUNDERS)
        assert (answer.status, answer.body) == (503, b"service unavailable\n")
        status, table = await port.get(SERVICES, NAME)
        assert status == 200, table


async def test_conditions_say_what_is_missing(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        extension = Extension()
        async with serving(extension):
            await made(admin(server), SERVICES, api_service(insecureSkipTLSVerify=True))
            told = await until_told(server, "ServiceNotFound")
            assert (told["status"], told["message"]) == ("False", 'service/api in "wardle" is not present')
            await lead_to(server, extension.port, ready=False, port_name="https")
            told = await until_told(server, "MissingEndpoints")
            assert told["message"] == (
                'endpointslices for service/api in "wardle" have no addresses with port name "https"'
            )
            within = admin(server, "wardle")
            await within.delete("discovery.k8s.io/v1/endpointslices", "api-1")
            told = await until_told(server, "EndpointsNotFound")
            assert told["message"] == 'cannot find endpointslices for service/api in "wardle"'
            await admin(server).patch(SERVICES, NAME, {"spec": {"service": {"port": 8443}}})
            told = await until_told(server, "ServicePortError")
            assert told["message"] == 'service/api in "wardle" is not listening on port 8443'
            await admin(server).patch(SERVICES, NAME, {"spec": {"service": {"port": 443}}})
            extension.healthy = False
            slices = endpoints(extension.port, port_name="https")
            await made(within, "discovery.k8s.io/v1/endpointslices", slices)
            told = await until_told(server, "FailedDiscoveryCheck")
            url = f"https://127.0.0.1:{extension.port}{ROOT}"
            assert told["message"] == f"failing or missing response from {url}: bad status from {url}: 500"
            extension.healthy = True
            told = await until_told(server, "Passed")
            assert (told["status"], told["message"]) == ("True", "all checks passed")


async def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    other = Extension(names=("other.example.com",))
    async with served(tmp_path) as server, asking(server, tmp_path) as http:  # noqa: SIM117 - needs the server
        async with aggregated(server, other) as extension:
            answer = await http.call("GET", FLUNDERS)
            assert (answer.status, answer.body.decode()) == (
                503,
                "error trying to reach service: tls: failed to verify certificate: x509: certificate is valid for "
                f"other.example.com, not {NAMES[0]}\n",
            )
            await admin(server).patch(SERVICES, NAME, {"spec": {"caBundle": None, "insecureSkipTLSVerify": True}})
            while answer.status == 503:
                answer = await http.call("GET", FLUNDERS)
            assert answer.status == 200
            assert extension.requests(FLUNDERS)


async def test_a_certificate_of_another_authority_is_not_trusted(tmp_path: Path) -> None:
    async with served(tmp_path) as server, asking(server, tmp_path) as http, aggregated(server):
        assert (await http.call("GET", FLUNDERS)).status == 200
        strange = base64.b64encode(server.authority.certificate).decode()
        await admin(server).patch(SERVICES, NAME, {"spec": {"caBundle": strange}})
        answer = await http.call("GET", FLUNDERS)
        while answer.status == 200:
            answer = await http.call("GET", FLUNDERS)
        assert answer.body.endswith(b"x509: certificate signed by unknown authority\n")


async def test_the_certificate_of_an_extension_itself_may_be_trusted(tmp_path: Path) -> None:
    async with served(tmp_path) as server, asking(server, tmp_path) as http, aggregated(server) as extension:
        assert (await http.call("GET", FLUNDERS)).status == 200
        await admin(server).patch(SERVICES, NAME, {"spec": {"caBundle": base64.b64encode(b"none").decode()}})
        answer = await http.call("GET", FLUNDERS)
        while answer.status == 200:
            answer = await http.call("GET", FLUNDERS)
        await admin(server).patch(SERVICES, NAME, {"spec": {"caBundle": extension.own_bundle}})
        while answer.status != 200:
            answer = await http.call("GET", FLUNDERS)
        assert (await until_told(server, "Passed"))["status"] == "True"


async def test_a_version_that_is_taken_back_is_ours_again(tmp_path: Path) -> None:
    async with served(tmp_path) as server, asking(server, tmp_path) as http, aggregated(server):
        assert (await http.call("GET", FLUNDERS)).status == 200
        await admin(server).delete(SERVICES, NAME)
        answer = await http.call("GET", FLUNDERS)
        while answer.status == 200:
            answer = await http.call("GET", FLUNDERS)
        assert (answer.status, answer.body) == (404, b"404 page not found\n")


async def test_metrics_of_a_users_own_server_take_the_place_of_ours(tmp_path: Path) -> None:
    path = "/apis/metrics.k8s.io/v1beta1/nodes"
    async with served(tmp_path) as server, asking(server, tmp_path) as http:
        assert (await http.call("GET", path)).json["kind"] == "NodeMetricsList"
        extension = Extension()
        async with serving(extension):
            await lead_to(server, extension.port)
            spec = api_service(group="metrics.k8s.io", version="v1beta1", insecureSkipTLSVerify=True)
            await made(admin(server), SERVICES, {**spec, "metadata": {"name": "v1beta1.metrics.k8s.io"}})
            answer = await http.call("GET", path)
            while b"NodeMetricsList" in answer.body or answer.status == 503:
                answer = await http.call("GET", path)
            assert extension.requests(path)
