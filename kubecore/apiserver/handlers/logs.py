"""pods/log: the container's log, streamed through from the kubelet of its node.

After upstream pkg/registry/core/pod/rest/log.go and strategy.go (LogLocation).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from kubecore.api import errors
from kubecore.api.errors import Cause, FieldError
from kubecore.apiserver.handlers.reading import drained
from kubecore.apiserver.handlers.request import Request, Response
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.options import parse_query

if TYPE_CHECKING:
    import aiohttp

    from kubecore._native import UserInfo
    from kubecore.apiserver.authentication.pki import CertificateAuthority
    from kubecore.apiserver.handlers.request import Stream
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.registry.registry import Registry

log = logging.getLogger(__name__)

JSON = dict[str, Any]

_ADDRESS_TYPES = ("InternalIP", "Hostname", "InternalDNS", "ExternalDNS", "ExternalIP")
_PASSED_ON = (
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
    "stream",
)
_PLAIN = "text/plain"


@dataclass(frozen=True, slots=True)
class Kubelet:
    """Where a node's kubelet listens."""

    host: str
    port: int

    def url(self, path: str) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}{path}"


class KubeletConnection:
    """HTTPS to kubelets with the API server's client certificate; the session is made on first use.

    `kubelet_ca` (PEM) must have issued kubelets' serving certificates; without it they are not verified, as with
    kube-apiserver's `--kubelet-certificate-authority`.
    """

    def __init__(self, authority: CertificateAuthority, kubelet_ca: bytes | None = None) -> None:
        self._authority = authority
        self._kubelet_ca = kubelet_ca
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            connector = aiohttp.TCPConnector(ssl=self._context(), limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_connect=10)
            )
        return self._session

    def _context(self) -> ssl.SSLContext:
        import tempfile

        pair = self._authority.client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", ["system:masters"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # Kubelets serve under the name of their node, whichever address of it is used.
        context.check_hostname = False
        if self._kubelet_ca is None:
            context.verify_mode = ssl.CERT_NONE
        else:
            context.load_verify_locations(cadata=self._kubelet_ca.decode())
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(pair.certificate + pair.key)
            file.flush()
            context.load_cert_chain(file.name)
        return context

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def kubelet_of(registry: Registry, node_name: str) -> Kubelet:
    """Raises 404 for an unknown node, 500 for one that does not say where its kubelet is."""
    node = registry.get("nodes", "", node_name)
    if node is None:
        raise errors.not_found("", "nodes", node_name)
    status = node.get("status") or {}
    addresses = {one.get("type"): one.get("address") for one in reversed(status.get("addresses") or [])}
    host = next((addresses[kind] for kind in _ADDRESS_TYPES if addresses.get(kind)), "")
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or 0
    if host and not port:
        raise errors.bad_request(f'node "{node_name}" has no kubelet to ask: nothing runs on simulated nodes')
    if not host:
        raise errors.internal_error(f"no preferred addresses found for node {node_name!r}; known: {addresses}")
    return Kubelet(host, port)


class PodLogs:
    def __init__(self, registry: Registry, kubelets: KubeletConnection) -> None:
        self._registry = registry
        self._kubelets = kubelets
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, request: Request, user: UserInfo, served: Served) -> Response | None:
        # aiohttp's timeouts want a Task around them, and handlers start without one.
        await self._registry.clock.sleep(0)
        params = parse_query(request.query)
        causes = _option_causes(params)
        if causes:
            raise errors.invalid("PodLogOptions", request.name, causes)
        pod = loads(served.stored().get(request.namespace, request.name).value)
        container = _container(pod, params.get("container", ""))
        node = (pod.get("spec") or {}).get("nodeName") or ""
        if not node:
            # Not scheduled yet: there is no log, and that is no error.
            return Response(200, b"", _PLAIN)
        kubelet = kubelet_of(self._registry, node)
        query = urlencode({name: params[name] for name in _PASSED_ON if params.get(name)})
        path = f"/containerLogs/{request.namespace}/{request.name}/{container}"
        return await self._relay(request, kubelet, f"{path}?{query}" if query else path, node)

    async def _relay(self, request: Request, kubelet: Kubelet, path: str, node: str) -> Response | None:
        import aiohttp

        url = kubelet.url(path)
        try:
            answer = await self._kubelets.session().get(url)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise errors.internal_error(f'Get "{url}": {error}') from error
        if answer.status >= 400:
            text = (await answer.text()).strip()
            answer.release()
            if answer.status == 400:
                raise errors.bad_request(text)
            if answer.status == 404:
                raise errors.StatusError(404, "NotFound", f"the server could not find the requested resource: {text}")
            raise errors.internal_error(f"the kubelet of node {node} answered {answer.status}: {text}")
        stream = request.respond_stream(200, _PLAIN)
        task = asyncio.get_running_loop().create_task(_copy(answer, stream), name=f"log {request.path}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def stop() -> None:
            task.cancel()

        stream.on_closed(stop)
        return None

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._kubelets.close()


async def _copy(answer: aiohttp.ClientResponse, stream: Stream) -> None:
    import aiohttp

    try:
        async for chunk in answer.content.iter_any():
            if not stream.write(chunk):
                return
            await drained(stream)
    except aiohttp.ClientError as error:
        log.debug("the kubelet's log stream broke: %s", error)
    finally:
        answer.close()
        stream.close()


def _option_causes(params: Mapping[str, str]) -> list[Cause]:
    causes: list[Cause] = []
    for name, least in (("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)):
        value = params.get(name)
        if value and (not value.lstrip("-").isdigit() or int(value) < least):
            causes.append(FieldError.invalid(name, value, f"must be greater than or equal to {least}"))
    if params.get("sinceSeconds") and params.get("sinceTime"):
        detail = "at most one of `sinceTime` or `sinceSeconds` may be specified"
        causes.append(FieldError.forbidden("", detail))
    return causes


def _container(pod: JSON, wanted: str) -> str:
    """The container to show; the only one when none is named. Raises 400 with the choices."""
    spec = pod.get("spec") or {}
    groups = {
        kind: [one["name"] for one in spec.get(kind) or []]
        for kind in ("containers", "initContainers", "ephemeralContainers")
    }
    name, every = pod["metadata"]["name"], [one for group in groups.values() for one in group]
    if wanted:
        if wanted not in every:
            raise errors.bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(groups["containers"]) == 1:
        return str(groups["containers"][0])
    message = f"a container name must be specified for pod {name}, choose one of: [{' '.join(groups['containers'])}]"
    if groups["initContainers"]:
        message += f" or one of the init containers: [{' '.join(groups['initContainers'])}]"
    raise errors.bad_request(message)
