"""The kubelet's HTTPS server: logs of containers, the pods of the node, what they use, its health.

Only the cluster's own API server gets in: a client certificate of the cluster's CA, of the identity the API server uses
towards kubelets or of an administrators' group; anything else is 401 or 403. The socket is bound at once, since the
Node names its port; the HTTP library, slow to load, is loaded when somebody comes.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api import meta
from kubecore.kubelet.log_reading import LogOptions, read_log
from kubecore.kubelet.serving_certificate import ensure_certificate

if TYPE_CHECKING:
    from aiohttp import web

    from kubecore.kubelet.kubelet import Kubelet

log = logging.getLogger(__name__)

ALLOWED_USERS = frozenset({"kube-apiserver-kubelet-client"})
ALLOWED_GROUPS = frozenset({"system:masters", "system:kubelet-api-admin"})


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Port 0 picks a free one. `directory` takes a certificate made here, if none is given."""

    port: int
    certificate: Path | None
    key: Path | None
    client_ca: Path | None
    directory: Path


class KubeletServer:
    def __init__(self, kubelet: Kubelet, config: ServerConfig) -> None:
        self._kubelet = kubelet
        self._config = config
        self._socket: socket.socket | None = None
        self._runner: web.AppRunner | None = None
        self.address = ""
        self.port = 0

    def listen(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((address, self._config.port))
        listener.listen(128)
        self._socket = listener
        self.address, self.port = listener.getsockname()[:2]

    async def serve(self) -> None:
        """Wait for the first connection, then serve until cancelled."""
        if self._socket is None:
            raise RuntimeError("listen first")
        loop = asyncio.get_running_loop()
        somebody = asyncio.Event()
        loop.add_reader(self._socket.fileno(), somebody.set)
        try:
            await somebody.wait()
        finally:
            loop.remove_reader(self._socket.fileno())
        await asyncio.to_thread(importlib.import_module, "aiohttp.web")
        from aiohttp import web

        async def admit(request: web.Request, handler: Any) -> web.StreamResponse:
            return await self._admit(request, handler)

        application = web.Application(middlewares=[web.middleware(admit)])
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/pods", self._pods),
                web.get("/containerLogs/{namespace}/{pod}/{container}", self._container_logs),
                web.get("/stats/summary", self._summary),
                web.get("/metrics/resource", self._resource_metrics),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket, ssl_context=self._tls()).start()
        await asyncio.Event().wait()

    async def close(self) -> None:
        if self._runner is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._runner.cleanup()
        if self._socket is not None:
            self._socket.close()

    def _tls(self) -> ssl.SSLContext:
        config = self._config
        certificate, key = config.certificate, config.key
        if certificate is None or key is None:
            certificate, key = ensure_certificate(config.directory, self._kubelet.node_name, self.address)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        if config.client_ca is not None:
            context.load_verify_locations(config.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    # ---- requests

    async def _admit(self, request: web.Request, handler: Any) -> web.StreamResponse:
        from aiohttp import web

        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        if not certificate:
            return web.Response(status=401, text="Unauthorized")
        names: dict[str, set[str]] = {}
        for part in certificate.get("subject", ()):
            for key, value in part:
                names.setdefault(key, set()).add(value)
        allowed = (
            names.get("commonName", set()) & ALLOWED_USERS or names.get("organizationName", set()) & ALLOWED_GROUPS
        )
        if not allowed:
            return web.Response(status=403, text="Forbidden")
        response: web.StreamResponse = await handler(request)
        return response

    async def _healthz(self, request: web.Request) -> web.Response:
        from aiohttp import web

        return web.Response(text="ok")

    async def _pods(self, request: web.Request) -> web.Response:
        from aiohttp import web

        body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self._kubelet.pods}
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    async def _summary(self, request: web.Request) -> web.Response:
        from aiohttp import web

        return web.Response(body=orjson.dumps(await self._kubelet.stats.summary()), content_type="application/json")

    async def _resource_metrics(self, request: web.Request) -> web.Response:
        from aiohttp import web

        text = await self._kubelet.stats.resource_metrics()
        return web.Response(text=text, content_type="text/plain", charset="utf-8")

    async def _container_logs(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        where = request.match_info
        worker = self._kubelet.worker(where["namespace"], where["pod"])
        if worker is None:
            return web.Response(status=404, text=f'pod "{where["pod"]}" does not exist')
        record = worker.record(where["container"])
        if record is None:
            text = f"container {where['container']} not found in pod {where['pod']}_{where['namespace']}"
            return web.Response(status=404, text=text)
        previous = _truth(request.query.get("previous"))
        path = record.previous_log_path if previous else record.log_path
        if path is None or not path.exists():
            kind = "previous terminated" if previous else "requested"
            shown = f'"{where["container"]}" in pod "{where["pod"]}"'
            if previous:
                return web.Response(status=400, text=f"{kind} container {shown} not found")
            why = record.waiting_reason or "ContainerCreating"
            return web.Response(status=400, text=f"container {shown} is waiting to start: {why}")
        try:
            options = self._options(request)
        except ValueError as error:
            return web.Response(status=400, text=str(error))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        await self._send(response, read_log(path, options, self._kubelet.book))
        return response

    async def _send(self, response: web.StreamResponse, pieces: AsyncIterator[bytes]) -> None:
        with suppress(ConnectionError):
            async for piece in pieces:
                await response.write(piece)
            await response.write_eof()

    def _options(self, request: web.Request) -> LogOptions:
        """From the query, in the names of PodLogOptions. ValueError for what is no number or time."""
        query = request.query
        since = None
        if query.get("sinceSeconds"):
            since = self._kubelet.now() - timedelta(seconds=int(query["sinceSeconds"]))
        elif query.get("sinceTime"):
            since = meta.parse_time(query["sinceTime"])
        tail = query.get("tailLines")
        limit = query.get("limitBytes")
        stream = query.get("stream", "All")
        return LogOptions(
            follow=_truth(query.get("follow")),
            timestamps=_truth(query.get("timestamps")),
            tail=int(tail) if tail else None,
            since=since,
            limit_bytes=int(limit) if limit else None,
            stream="" if stream == "All" else stream.lower(),
        )


def _truth(text: str | None) -> bool:
    return text is not None and text.lower() in ("", "1", "true", "t")
