"""The kubelet's HTTPS server: logs of containers and of the node, commands in containers, the pods of the node, what
they use, its metrics and health.

Who gets in shows a client certificate of the cluster's CA or a token, and has a right to that part of the node (see
`server_access`); anybody else gets 401 or 403. The socket is bound at once, since the Node names its port; what serves
HTTP (the API server's own listener, with nothing to read) is made when somebody comes.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Container
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl

import orjson

from kubecore import _native, node_network
from kubecore.api.errors import StatusError
from kubecore.first_connection import first_connection
from kubecore.handed_over import HandedOver
from kubecore.kubelet.requested_certificates import Names, Pair, RequestedCertificates
from kubecore.kubelet.serving import cadvisor_metrics, resource_metrics
from kubecore.kubelet.serving.access import KubeletAccess, Undecided
from kubecore.kubelet.serving.log_serving import LogServing
from kubecore.kubelet.serving.loop_watch import LoopWatch
from kubecore.kubelet.serving.serving_certificate import ensure_certificate
from kubecore.kubelet.serving.streaming import ContainerStreaming, Refused

if TYPE_CHECKING:
    from kubecore._native import Request
    from kubecore.client.client import Client
    from kubecore.clock import Clock
    from kubecore.kubelet.kubelet import Kubelet
    from kubecore.kubelet.settings.kubelet_config import KubeletConfig

log = logging.getLogger(__name__)

_PLAIN = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_JSON = "application/json"
_DEEPEST = 64
_MEASUREMENTS = frozenset({"resource", "cadvisor", "probes"})
_METRICS_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Port 0 picks a free one. `directory` takes a certificate made here, if none is given. `bootstrap`: it is to be
    one that the cluster signs; until then what is given is shown, or nobody is served."""

    port: int
    certificate: Path | None
    key: Path | None
    client_ca: Path | None
    directory: Path
    bootstrap: bool = False

    @classmethod
    def of(cls, node: KubeletConfig) -> ServerConfig:
        given = node.server_certificate, node.server_key
        return cls(node.port, *given, node.client_ca, node.root_dir / "pki", node.server_tls_bootstrap)


class _Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str = _PLAIN


class _Listener(NamedTuple):
    front: _native.Front
    requests: HandedOver

    async def end(self) -> None:
        try:
            await self.requests.end()
        finally:  # Rust holds its source, which holds the server: no collector sees that circle
            self.front.set_metrics_source(None)


# Answers, or has answered by itself and gives None.
_Handler = Callable[["Request", list[str]], Awaitable[_Answer | None]]


class KubeletServer:
    def __init__(self, kubelet: Kubelet, client: Client, config: ServerConfig, clock: Clock) -> None:
        self._kubelet = kubelet
        self._config = config
        self._clock = clock
        self._socket: socket.socket | None = None
        self._listener: _Listener | None = None
        self._streaming = ContainerStreaming(kubelet.workers.find)
        self._logs = LogServing(kubelet)
        self._access = KubeletAccess(client, clock, kubelet.node_name)
        self._client = client
        self._signed: RequestedCertificates | None = None
        self.address = ""
        self.port = 0
        # By the first part of the path: methods, how many parts may follow, handler.
        self._routes: dict[str, tuple[tuple[str, ...], Container[int], _Handler]] = {
            "pods": (("GET",), (0,), self._pods),
            "runningpods": (("GET",), (0,), self._running_pods),
            "configz": (("GET",), (0,), self._configz),
            "containerLogs": (("GET",), (3,), self._container_logs),
            "stats": (("GET", "POST"), (1,), self._summary),
            "metrics": (("GET",), (0, 1), self._metrics),
            "logs": (("GET",), range(_DEEPEST), self._node_logs),
            "run": (("POST",), (3, 4), self._run),
            "exec": (("GET", "POST"), (3, 4), self._exec),
            "attach": (("GET", "POST"), (3, 4), self._attach),
            "portForward": (("GET", "POST"), (2, 3), self._port_forward),
        }

    def listen(self, address: str) -> None:
        listener = node_network.socket_for(address)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, self._config.port))
        listener.listen(128)
        self._socket = listener
        self.address, self.port = listener.getsockname()[:2]

    async def serve(self) -> None:
        """Wait for the first connection, then serve until cancelled."""
        if self._socket is None:
            raise RuntimeError("listen first")
        async with asyncio.TaskGroup() as group:
            if self._config.bootstrap:
                names = Names(self._kubelet.node_name, self._kubelet.host_ips)
                signed = RequestedCertificates(self._client, self._clock, self._config.directory, names)
                self._signed = signed
                group.create_task(signed.run(), name=f"kubelet serving certificate {self._kubelet.node_name}")
            await self._serve_with(await self._first_pair(self._socket), self._socket)

    async def _first_pair(self, listener: socket.socket) -> Pair:
        """That of the first connection that can be served; whoever comes too early is sent away."""
        while True:
            await first_connection(listener)
            if (pair := self._pair()) is not None:
                return pair
            with suppress(OSError):
                listener.accept()[0].close()

    def _pair(self) -> Pair | None:
        """None while there is none to be shown."""
        if self._signed is not None:
            self._signed.changed.clear()
            if self._signed.current is not None:
                return self._signed.current
        certificate, key = self._config.certificate, self._config.key
        if certificate is None or key is None:
            if self._signed is not None:
                return None
            directory, name = self._config.directory, self._kubelet.node_name
            certificate, key = ensure_certificate(directory, name, self.address, self._clock)
        return Pair(certificate.read_bytes(), key.read_bytes())

    async def _serve_with(self, pair: Pair, listener: socket.socket) -> None:
        """Until cancelled. Who connects is shown the newest certificate; connections that there are go on."""
        shown = _native.ServingCertificate(*pair)
        front = self._make_front(listener, shown)
        requests = HandedOver(front, self._handle, f"kubelet server {self._kubelet.node_name}")
        requests.begin()
        self._listener = _Listener(front, requests)
        watch = LoopWatch(lambda answers: front.set_check("syncloop", answers, ["healthz"]))
        watch.start()
        try:
            if self._signed is None:
                await asyncio.Event().wait()
            else:
                await self._show_newest(self._signed, shown)
        finally:
            watch.stop()

    async def _show_newest(self, signed: RequestedCertificates, shown: _native.ServingCertificate) -> None:
        while True:
            await signed.changed.wait()
            if (pair := self._pair()) is not None:
                shown.replace(*pair)

    def _make_front(self, listener: socket.socket, shown: _native.ServingCertificate) -> _native.Front:
        front = _native.Front(_native.WatchCache())
        front.set_ready(True)
        front.set_terse(True)
        front.set_check("syncloop", True, ["healthz"])
        # Whoever is no administrator by RBAC's own rule is judged here.
        front.authorizer().set_modes(["Webhook"])
        authenticator = front.authenticator()
        authenticator.set_anonymous(False)
        authenticator.set_delegate(True)
        config = self._config
        if config.client_ca is not None:
            authenticator.set_client_ca(config.client_ca.read_bytes())
        loop = asyncio.get_running_loop()

        def metrics() -> bytes:
            told = asyncio.run_coroutine_threadsafe(self._own_metrics(), loop)
            try:
                return told.result(_METRICS_SECONDS)
            finally:
                told.cancel()

        front.set_metrics_source(metrics, alone=True)
        front.listen_tls_on(listener.fileno(), shown)
        return front

    async def close(self) -> None:
        try:
            if self._listener is not None:
                await self._listener.end()
        finally:
            if self._socket is not None:
                with suppress(OSError):  # who serves may have it open for a moment yet
                    self._socket.shutdown(socket.SHUT_RDWR)
                self._socket.close()

    # ---- requests

    async def _handle(self, request: Request) -> None:
        counts, began = self._kubelet.metrics.requests, self._clock.monotonic()
        labels = counts.labels(request.method, self._bucket(request.path))
        counts.begun(labels)
        try:
            await self._respond(request)
        finally:
            counts.ended(labels, self._clock.monotonic() - began)

    def _bucket(self, path: str) -> str:
        """What it is counted as."""
        first, _, rest = path.strip("/").partition("/")
        if first not in self._routes and first != "healthz":
            return "other"
        return f"{first}/{rest}" if first == "metrics" and rest in _MEASUREMENTS else first

    async def _respond(self, request: Request) -> None:
        try:
            answer = await self._answer(request)
        except Refused as refused:
            answer = _Answer(refused.status, refused.text.encode())
        except Exception as error:
            log.exception("%s %s failed", request.method, request.path)
            answer = _Answer(500, f"{type(error).__name__}: {error}".encode())
        if answer is not None:
            with suppress(RuntimeError):  # it had begun to answer
                request.respond(*answer)

    async def _answer(self, request: Request) -> _Answer | None:
        try:
            user = await self._access.who(request)
        except (StatusError, OSError) as error:
            log.error("Unable to authenticate the request due to an error: %s", error)
            user = None
        if user is None:
            return _Answer(401, b"Unauthorized")
        try:
            if refusal := await self._access.refusal(user, request):
                return _Answer(403, refusal.encode())
        except Undecided as error:
            log.error("%s: %s", error, error.__cause__)
            return _Answer(500, str(error).encode())
        first, *rest = request.path.strip("/").split("/")
        slis = (request.method, first, rest) == ("GET", "metrics", ["slis"])
        if first == "healthz" or slis:  # how the listener is, or has been, which it says itself
            request.resume(user, authorized=True)
            return None
        methods, parts, handler = self._routes.get(first, ((), (), self._pods))
        if len(rest) not in parts:
            return _Answer(404, b"404 page not found")
        if request.method not in methods:
            return _Answer(405, b"405: Method Not Allowed")
        return await handler(request, rest)

    async def _pods(self, request: Request, path: list[str]) -> _Answer:
        pods = [worker.pod for worker in self._kubelet.workers.all()]
        body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}
        return _Answer(200, orjson.dumps(body), _JSON)

    async def _running_pods(self, request: Request, path: list[str]) -> _Answer:
        """As the container runtimes have them."""
        items = []
        for pod in self._kubelet.workers.running():
            metadata = {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid}
            containers = [{"name": one.name, "image": one.image, "resources": {}} for one in pod.containers]
            items.append({"metadata": metadata, "spec": {"containers": containers}, "status": {}})
        body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
        return _Answer(200, orjson.dumps(body), _JSON)

    async def _configz(self, request: Request, path: list[str]) -> _Answer:
        return _Answer(200, orjson.dumps(self._kubelet.settings(self.address, self.port)), _JSON)

    async def _summary(self, request: Request, path: list[str]) -> _Answer:
        if path != ["summary"]:
            return _Answer(404, b"404 page not found")
        asked = [value for name, value in parse_qsl(request.query) if name == "only_cpu_and_memory"]
        summary = await self._kubelet.stats.summary(cpu_and_memory_only=asked == ["true"])
        return _Answer(200, orjson.dumps(summary), _JSON)

    async def _metrics(self, request: Request, path: list[str]) -> _Answer:
        """Those at /metrics itself are told administrators by the front."""
        kubelet = self._kubelet
        if not path:
            body = await asyncio.to_thread(kubelet.metrics.render, kubelet.counts())
        elif path == ["resource"]:
            body = resource_metrics.render(await kubelet.stats.sample())
        elif path == ["cadvisor"]:
            sampled = await kubelet.stats.sample(details=True)
            body = await asyncio.to_thread(cadvisor_metrics.render, sampled, kubelet.machine, kubelet.root)
        elif path == ["probes"]:
            body = kubelet.metrics.probes.render()
        else:
            return _Answer(404, b"404 page not found")
        return _Answer(200, body, _METRICS)

    async def _own_metrics(self) -> bytes:
        requests, began = self._kubelet.metrics.requests, self._clock.monotonic()
        labels = requests.labels("GET", "metrics")
        requests.begun(labels)
        try:
            return await asyncio.to_thread(self._kubelet.metrics.render, self._kubelet.counts())
        finally:
            requests.ended(labels, self._clock.monotonic() - began)

    async def _run(self, request: Request, path: list[str]) -> _Answer:
        """A command, all that it says and how it ends, at once."""
        namespace, pod, container = path[0], path[1], path[-1]
        asked = dict(reversed(parse_qsl(request.query, keep_blank_values=True)))
        return _Answer(200, await self._streaming.run(namespace, pod, container, asked.get("cmd", "")), _JSON)

    async def _exec(self, request: Request, path: list[str]) -> None:
        namespace, pod, container = path[0], path[1], path[-1]
        await self._streaming.exec(request, namespace, pod, container)

    async def _attach(self, request: Request, path: list[str]) -> None:
        namespace, pod, container = path[0], path[1], path[-1]
        await self._streaming.attach(request, namespace, pod, container)

    async def _port_forward(self, request: Request, path: list[str]) -> None:
        namespace, pod, uid = (*path, "")[:3]
        await self._streaming.port_forward(request, namespace, pod, uid)

    async def _container_logs(self, request: Request, path: list[str]) -> None:
        namespace, pod, container = path
        await self._logs.of_container(request, namespace, pod, container)

    async def _node_logs(self, request: Request, path: list[str]) -> None:
        await self._logs.of_node(request)
