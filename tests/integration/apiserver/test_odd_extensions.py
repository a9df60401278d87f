"""Extension API servers that answer oddly, or not to the end: what clients hear then, and if they are available."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from kubecore.apiserver.server import APIServer
from tests.support import http_peers
from tests.support.extension_server import GROUP, NAMES, ROOT, VERSION
from tests.support.http_peers import Head, read_body, read_head

from .connections import client
from .extensions import NAME, SERVICES, admin, api_service, lead_to, made, until_told
from .http import Http
from .serving import served

FLUNDERS = f"{ROOT}/namespaces/default/flunders"
LIST = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}", "resources": []}


def response(body: bytes = b"{}", *headers: str) -> bytes:
    head = ["HTTP/1.1 200 OK", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


BROKEN_OFF = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"


class Backend:
    """Answers by paths, as they are written. What is no whole answer is the last of its connection, which then ends,
    unless it `lingers`."""

    def __init__(self) -> None:
        self.answers = {ROOT: response(json.dumps(LIST).encode())}
        self.heads: list[Head] = []
        self.port = 0
        self.bundle = ""
        self.lingers = asyncio.Event()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            await read_body(reader, head)
            self.heads.append(head)
            answer = self.answers.get(head.line.split(" ")[1].partition("?")[0], response())
            writer.write(answer)
            await writer.drain()
            if b"Content-Length" not in answer or answer == BROKEN_OFF:
                if self.lingers.is_set():
                    await reader.read()
                return

    def asked(self) -> Head:
        """Last, by a client of ours."""
        return next(one for one in reversed(self.heads) if one.headers["x-remote-user"] in ("admin", "root"))


@asynccontextmanager
async def odd(folder: Path, backend: Backend, **spec: object) -> AsyncIterator[tuple[APIServer, Http]]:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*NAMES).configure_cert(context)
    backend.bundle = base64.b64encode(authority.cert_pem.bytes()).decode()
    async with served(folder) as server, http_peers.serving(backend.handle, tls=context) as port:
        backend.port = port
        await lead_to(server, port)
        await made(admin(server), SERVICES, api_service(**{"caBundle": backend.bundle, **spec}))
        await until_told(server, "Passed")
        async with Http(server, folder, pair=server.issue_client_certificate("root", ["system:masters"])) as http:
            yield server, http


async def test_paths_and_queries_are_passed_on_as_we_have_understood_them(tmp_path: Path) -> None:
    """Whoever is asked must not see another question than the one that was authorized."""
    backend = Backend()
    async with odd(tmp_path, backend) as (server, _):
        for sent, seen in (
            ("/one?b=2&a=1&a=0", "/one?a=1&a=0&b=2"),
            ("/one?a=1;b=2&c=%zz&d", "/one?d="),
            ("/one?labelSelector=a%3Db,c%20in%20(d)", "/one?labelSelector=a%3Db%2Cc+in+%28d%29"),
            ("/one?&", "/one"),
            ("/a%27(b)*%2Bc", "/a%27%28b%29%2A+c"),
        ):
            async with client(server) as ours:
                lines = [f"GET {FLUNDERS}{sent} HTTP/1.1", "Host: api", "Connection: close", "", ""]
                ours.writer.write("\r\n".join(lines).encode())
                assert (await ours.head()).startswith("HTTP/1.1 200 ")
            assert backend.asked().line == f"GET {FLUNDERS}{seen} HTTP/1.1"


async def test_a_path_with_two_slashes_in_front_is_nobodys(tmp_path: Path) -> None:
    backend = Backend()
    async with odd(tmp_path, backend) as (server, _), client(server) as ours:
        ours.writer.write(f"GET /{FLUNDERS} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n".encode())
        assert (await ours.head()).startswith("HTTP/1.1 404 ")
    assert not any(one.line.startswith("GET //") for one in backend.heads)


async def test_an_extension_is_told_its_own_address_and_the_length_of_nothing(tmp_path: Path) -> None:
    backend = Backend()
    async with odd(tmp_path, backend) as (_, http):
        assert (await http.call("POST", FLUNDERS, headers={"TE": "trailers, gzip"})).status == 200
        told = backend.asked().headers
    assert told["x-forwarded-host"] == f"127.0.0.1:{backend.port}"
    assert (told["x-forwarded-proto"], told["te"], told["content-length"]) == ("https", "trailers", "0")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "EOF"),
        (b"HTTP/1.1 200 OK\r\nConte", "EOF"),
        (b"nonsense\r\n\r\n", "net/http: HTTP/1.x transport connection broken: malformed HTTP response"),
    ],
)
async def test_what_is_no_answer_is_told_in_gos_words(tmp_path: Path, answer: bytes, told: str) -> None:
    backend = Backend()
    backend.answers[FLUNDERS] = answer
    async with odd(tmp_path, backend) as (_, http):
        heard = await http.call("GET", FLUNDERS)
        assert (heard.status, heard.body.decode()) == (503, f"error trying to reach service: {told}\n")
        switch = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
        heard = await http.call("GET", FLUNDERS, headers=switch)
        why = "malformed HTTP response" if "malformed" in told else "unexpected EOF"
        assert (heard.status, heard.body.decode()) == (503, f"{why}\n")


async def test_who_cannot_be_dialed_is_told_so_of_a_switch(tmp_path: Path) -> None:
    switch = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
    backend = Backend()
    async with odd(tmp_path, backend) as (server, http):
        other = base64.b64encode(trustme.CA().cert_pem.bytes()).decode()
        await admin(server).patch(SERVICES, NAME, {"spec": {"caBundle": other}})
        heard = await http.call("GET", FLUNDERS, headers=switch)
        while heard.body.startswith(b"invalid upgrade"):
            heard = await http.call("GET", FLUNDERS, headers=switch)
        why = "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        assert (heard.status, heard.body.decode()) == (503, f"error dialing backend: {why}\n")


async def test_a_certificate_for_others_is_told_with_whom_it_is_for(tmp_path: Path) -> None:
    backend = Backend()
    async with odd(tmp_path, backend) as (server, http):
        await admin(server, "wardle").create(
            "v1/services", {"metadata": {"name": "other"}, "spec": {"ports": [{"port": 443}]}}
        )
        _, found = await admin(server, "wardle").get("discovery.k8s.io/v1/endpointslices", "api-1")
        labels = {"kubernetes.io/service-name": "other"}
        moved = {**found, "metadata": {"name": "other-1", "labels": labels}}
        await made(admin(server, "wardle"), "discovery.k8s.io/v1/endpointslices", moved)
        await admin(server).patch(SERVICES, NAME, {"spec": {"service": {"name": "other"}}})
        heard = await http.call("GET", FLUNDERS)
        while b"x509" not in heard.body:
            heard = await http.call("GET", FLUNDERS)
        why = f"x509: certificate is valid for {NAMES[0]}, not other.wardle.svc"
        assert heard.body.decode() == f"error trying to reach service: tls: failed to verify certificate: {why}\n"
        bundle = base64.b64encode(b"none").decode()
        await admin(server).patch(SERVICES, NAME, {"spec": {"caBundle": bundle}})
        while heard.status != 500:
            heard = await http.call("GET", FLUNDERS)
        assert heard.body == b"unable to load root certificates: unable to parse bytes as PEM block\n"


async def test_heads_may_be_long(tmp_path: Path) -> None:
    backend = Backend()
    long = response(b"{}", "X-Long: " + "a" * 300_000, *(f"X-{number}: a" for number in range(300)), "X-Fold: a", " b")
    backend.answers |= {ROOT: long, FLUNDERS: long}
    async with odd(tmp_path, backend) as (server, _), client(server) as ours:
        ours.writer.write(f"GET {FLUNDERS} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n".encode())
        assert (await ours.reader.readline()).startswith(b"HTTP/1.1 200 ")


async def test_who_answers_is_available_though_the_answer_breaks_off(tmp_path: Path) -> None:
    backend = Backend()
    backend.answers[ROOT] = BROKEN_OFF
    async with odd(tmp_path, backend) as (_, http):
        assert (await http.call("GET", FLUNDERS)).status == 200


async def test_a_list_of_resources_is_waited_for_to_its_end_and_not_for_ever(tmp_path: Path) -> None:
    """For five seconds, in which it begins, on a slow machine too."""
    backend = Backend()
    backend.lingers.set()
    backend.answers[ROOT] = BROKEN_OFF
    async with odd(tmp_path, backend) as (server, _), client(server) as ours:
        ours.writer.write(f"GET {ROOT} HTTP/1.1\r\nHost: api\r\n\r\n".encode())
        assert (await ours.head()).startswith("HTTP/1.1 200 ")
        await ours.ended()


async def test_a_redirect_is_refused_with_a_line_of_text(tmp_path: Path) -> None:
    backend = Backend()
    backend.answers[FLUNDERS] = b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"
    async with odd(tmp_path, backend) as (_, http):
        heard = await http.call("GET", FLUNDERS)
        assert (heard.status, heard.headers["Content-Type"]) == (502, "text/plain; charset=utf-8")


async def test_a_version_that_is_ours_again_is_local_again(tmp_path: Path) -> None:
    backend = Backend()
    async with odd(tmp_path, backend) as (server, _):
        await admin(server).patch(SERVICES, NAME, {"spec": {"service": None, "caBundle": None}})
        _, found = await admin(server).get(SERVICES, NAME)
        [condition] = found["status"]["conditions"]
        assert (condition["reason"], condition["message"]) == ("Local", "Local APIServices are always available")
