"""An extension API server over real TLS, in the test's process: it serves flunders, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trustme
from aiohttp import web

JSON = dict[str, Any]

GROUP, VERSION = "wardle.example.com", "v1alpha1"
ROOT = f"/apis/{GROUP}/{VERSION}"
NAMES = ("api.wardle.svc",)
_VERBS = ["create", "delete", "get", "list", "watch"]
_V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@dataclass
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    every: list[tuple[str, str]]
    body: bytes
    client: str
    """The common name of the certificate that was shown."""


@dataclass
class Extension:
    """`healthy`: whether it answers discovery; `aggregated`: whether it has all of it in one document."""

    names: tuple[str, ...] = NAMES
    healthy: bool = True
    aggregated: bool = True
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    ca_bundle: str = ""
    own_bundle: str = ""
    """Its certificate itself, as one may trust it."""
    trusted: str = ""
    """PEM of CAs whose client certificates are taken."""
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    watch: web.Request | None = None
    """The last that was begun."""
    verbs: object = field(default_factory=lambda: _VERBS)
    """As its discovery has them."""
    openapi: JSON = field(default_factory=dict)
    openapi_v3: JSON = field(default_factory=dict)
    flunders: list[str] = field(default_factory=lambda: ["one"])

    def requests(self, path: str = "") -> list[Asked]:
        """All but the aggregator's own."""
        ours = "system:kube-aggregator", "system:aggregator"
        found = [one for one in self.asked if one.headers.get("X-Remote-User") not in ours]
        return [one for one in found if one.path.startswith(path)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport is not None else None
        subject = dict(pair for part in (certificate or {}).get("subject", ()) for pair in part)
        body = b"" if request.path.endswith("/slow") else await request.read()
        every = [(name, value) for name, value in request.headers.items()]
        asked = Asked(request.method, request.path_qs, request.headers, every, body, subject.get("commonName", ""))
        self.asked.append(asked)
        return await self._answer(request, body)

    async def _answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        path = request.path
        if path == ROOT:
            return web.json_response(self.resources()) if self.healthy else web.Response(status=500)
        if path == "/apis":
            return self._discovery(request)
        if path.startswith("/openapi/v3"):
            return self._specification_v3(request)
        if path == "/openapi/v2":
            return web.json_response(self.openapi, headers={"ETag": f'"{hash(json.dumps(self.openapi))}"'})
        if path.endswith("/redirecting"):
            return web.Response(status=302, headers={"Location": "https://169.254.169.254/secrets"})
        if path.endswith("/echo"):
            return await _echo(request, self.closed)
        if path.endswith("/refusing"):
            return web.json_response({"kind": "Status", "message": "no such protocol"}, status=403)
        if path.endswith("/slow"):
            return await self._slow(request)
        if "watch" in request.query:
            return await self._watch(request)
        if request.method == "POST":
            return web.Response(status=201, body=body, content_type="application/json")
        items = [flunder(name) for name in self.flunders]
        if path.endswith("/flunders"):
            return web.json_response({"kind": "FlunderList", "apiVersion": f"{GROUP}/{VERSION}", "items": items})
        return web.json_response(flunder(path.rpartition("/")[2]))

    async def _slow(self, request: web.Request) -> web.StreamResponse:
        """Answers piece by piece as the body comes."""
        response = web.StreamResponse()
        await response.prepare(request)
        async for piece in request.content.iter_any():
            await response.write(piece.upper())
        await response.write_eof()
        return response

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.watch = request
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        try:
            for name in ("one", "two"):
                event = {"type": "ADDED", "object": flunder(name)}
                await response.write(json.dumps(event).encode() + b"\n")
                await self.waiting.wait()
                self.waiting.clear()
        finally:
            self.closed.set()
        return response

    def _discovery(self, request: web.Request) -> web.Response:
        if not self.aggregated or "APIGroupDiscoveryList" not in request.headers.get("Accept", ""):
            return web.Response(status=404)
        etag = f'"{"-".join(self.flunders)}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304)
        kind = {"group": "", "version": "", "kind": "Flunder"}
        entry = {
            "resource": "flunders",
            "responseKind": kind,
            "scope": "Namespaced",
            "singularResource": "flunder",
            "verbs": self.verbs,
            "shortNames": ["fl"],
            "categories": ["all"],
        }
        version = {"version": VERSION, "resources": [entry], "freshness": "Current"}
        item = {"metadata": {"name": GROUP}, "versions": [version]}
        body = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": [item]}
        return web.Response(body=json.dumps(body), headers={"Content-Type": _V2, "ETag": etag})

    def _specification_v3(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix("/openapi/v3").strip("/")
        if not self.openapi_v3:
            return web.Response(status=404)
        if path:
            return web.json_response(self.openapi_v3)
        url = f"/openapi/v3/apis/{GROUP}/{VERSION}?hash=ABC"
        return web.json_response({"paths": {f"apis/{GROUP}/{VERSION}": {"serverRelativeURL": url}}})

    def resources(self) -> JSON:
        entry = {
            "name": "flunders",
            "singularName": "flunder",
            "namespaced": True,
            "kind": "Flunder",
            "verbs": self.verbs,
            "shortNames": ["fl"],
        }
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{GROUP}/{VERSION}",
            "resources": [entry],
        }


def flunder(name: str) -> JSON:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": "7"}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Flunder", "metadata": metadata}


async def _echo(request: web.Request, closed: asyncio.Event) -> web.StreamResponse:
    """A WebSocket that says what it hears."""
    connection = web.WebSocketResponse(protocols=("echo.example.com",))
    await connection.prepare(request)
    async for message in connection:
        await connection.send_str(f"heard {message.data}")
    closed.set()
    return connection


@asynccontextmanager
async def serving(extension: Extension) -> AsyncIterator[Extension]:
    authority = trustme.CA()
    extension.ca_bundle = base64.b64encode(authority.cert_pem.bytes()).decode()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own = authority.issue_cert(*extension.names)
    own.configure_cert(context)
    extension.own_bundle = base64.b64encode(own.cert_chain_pems[0].bytes()).decode()
    if extension.trusted:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=extension.trusted)
    application = web.Application(client_max_size=64 << 20)
    application.router.add_route("*", "/{path:.*}", extension.handle)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", extension.port))
    extension.port = listener.getsockname()[1]
    try:
        await web.SockSite(runner, listener, ssl_context=context).start()
        yield extension
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await runner.cleanup()
