"""pods/log: the container's log, streamed through from the kubelet of its node.

After upstream pkg/registry/core/pod/rest/log.go and strategy.go (LogLocation).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import orjson

from kubecore.api import errors, schemas
from kubecore.api.errors import Cause, FieldError
from kubecore.api.queries import int64, parse_query
from kubecore.api.schemas import SchemaError
from kubecore.api.websockets import HandshakeRefused
from kubecore.apiserver.handlers.kubelets import Kubelet, KubeletConnection, chosen_container, kubelet_of
from kubecore.apiserver.handlers.reading import drained
from kubecore.apiserver.handlers.request import Request, Response
from kubecore.apiserver.handlers.websocket_output import switched
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.webhooks.wording import said

if TYPE_CHECKING:
    import aiohttp

    from kubecore._native import UserInfo
    from kubecore.apiserver.handlers.request import Stream
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.registry.registry import Registry

log = logging.getLogger(__name__)

_PASSED_ON = (
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
)
_PLAIN = "text/plain"
_LEAST = {
    "tailLines": (0, "must be greater than or equal to 0"),
    "limitBytes": (1, "must be greater than 0"),
    "sinceSeconds": (1, "must be greater than 0"),
}
# How upstream writes a place without a name.
_NOWHERE = "[]"


class PodLogs:
    def __init__(self, registry: Registry, kubelets: KubeletConnection) -> None:
        self._registry = registry
        self._kubelets = kubelets
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, request: Request, user: UserInfo, served: Served) -> Response | None:
        # aiohttp's timeouts want a Task around them, and handlers start without one.
        await self._registry.clock.sleep(0)
        params = parse_query(request.query)
        _options(params, request.name)
        pod = loads(served.stored().get(request.namespace, request.name).value)
        container = chosen_container(pod, params.get("container", ""))
        node = (pod.get("spec") or {}).get("nodeName") or ""
        if not node:
            # Not scheduled yet: there is no log, and that is no error.
            return Response(200, b"", _PLAIN)
        kubelet = kubelet_of(self._registry, node, asked="pods")
        query = urlencode({name: params[name] for name in _PASSED_ON if params.get(name)})
        path = f"/containerLogs/{request.namespace}/{request.name}/{container}"
        return await self._relay(request, kubelet, f"{path}?{query}" if query else path, node)

    async def _relay(self, request: Request, kubelet: Kubelet, path: str, node: str) -> Response | None:
        import aiohttp

        url = kubelet.url(path)
        try:
            answer = await self._kubelets.session().get(url)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # Upstream has no reason for it, and what has none is a 500 with the bare words.
            raise errors.StatusError(500, "", kubelet.unanswered(url, error)) from error
        if answer.status >= 400:
            text = (await answer.text()).strip()
            answer.release()
            if answer.status == 400:
                raise errors.bad_request(text)
            if answer.status == 404:
                raise errors.StatusError(404, "NotFound", f"the server could not find the requested resource: {text}")
            raise errors.internal_error(f"the kubelet of node {node} answered {answer.status}: {text}")
        try:
            stream: Stream = switched(request) or request.respond_stream(200, _PLAIN)
        except HandshakeRefused as refused:
            answer.close()
            return Response(refused.status, refused.text.encode(), _PLAIN)
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
        log.debug("the kubelet's log stream broke: %s", said(error))
    finally:
        answer.close()
        stream.close()


def _options(params: Mapping[str, str], name: str) -> None:
    """Raises 400 for what cannot be read, and 422."""
    numbers = {option: int64(params[option]) for option in _LEAST if option in params}
    if params.get("sinceTime"):
        _check_time(params["sinceTime"])
    causes: list[Cause] = []
    for option, (least, told) in _LEAST.items():
        number = numbers.get(option)
        # Of both ways to say since when, neither is looked at.
        if number is not None and number < least and not (option == "sinceSeconds" and params.get("sinceTime")):
            causes.append(FieldError.invalid(option, number, told))
    if "sinceSeconds" in numbers and params.get("sinceTime"):
        detail = "at most one of `sinceTime` or `sinceSeconds` may be specified"
        causes.append(FieldError.forbidden(_NOWHERE, detail))
    # Upstream's gate PodLogsQuerySplitStreams is off.
    if "stream" in params:
        causes.append(FieldError.forbidden("stream", "may not be specified"))
    if causes:
        raise errors.invalid("PodLogOptions", name, causes)


def _check_time(text: str) -> None:
    """Raises 400 in the words of Go's time.Parse, which are those of an object's times."""
    try:
        schemas.default().decode("v1/ConfigMap", orjson.dumps({"metadata": {"creationTimestamp": text}}))
    except SchemaError as error:
        told = error.message.partition(" cannot be handled as a ConfigMap: ")[2]
        raise errors.bad_request(told) from error
