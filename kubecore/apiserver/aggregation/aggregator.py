"""Requests for what other servers serve: passed on to an extension API server with the word of who asks.

Authentication, authorization, audit and flow control have had their turn; the front leaves bodies of such requests
unread. After upstream kube-aggregator `pkg/apiserver/handler_proxy.go`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import orjson

from kubecore import _native
from kubecore.api import errors
from kubecore.api.errors import StatusError
from kubecore.api.queries import escaped_path, passed_on
from kubecore.apiserver.aggregation.asking import Unreachable
from kubecore.apiserver.aggregation.identity import Untrusted
from kubecore.apiserver.aggregation.remotes import Remote, remote_of
from kubecore.apiserver.aggregation.resolving import Unresolvable
from kubecore.apiserver.handlers.request import Response
from kubecore.apiserver.handlers.watching import WatchEvent
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.resources.apiservices import API_SERVICES

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.aggregation.asking import Asker
    from kubecore.apiserver.aggregation.identity import FrontProxy
    from kubecore.apiserver.handlers.request import Request
    from kubecore.apiserver.handlers.watching import WatchHub
    from kubecore.apiserver.registry.registry import Registry

_TEXT = "text/plain; charset=utf-8"
_PLAIN = (("X-Content-Type-Options", "nosniff"),)
# How long discovery may take, which clients ask of all there is.
_DISCOVERY_SECONDS = 5.0

Changed = Callable[[list[Remote]], None]


class Aggregator:
    """`start` knows what is stored, `run` follows it until it is cancelled; `changed` are told of all remotes."""

    def __init__(
        self,
        registry: Registry,
        hub: WatchHub,
        front: _native.Front,
        *,
        identity: FrontProxy,
        asker: Asker,
        rejects_redirects: bool,
    ) -> None:
        self._registry = registry
        self._hub = hub
        self._front = front
        self._identity = identity
        self._asker = asker
        self._rejects_redirects = rejects_redirects
        self._by_name: dict[str, Remote] = {}
        self._by_version: dict[tuple[str, str], Remote] = {}
        self.changed: list[Changed] = []

    # --- which there are

    def start(self) -> None:
        for obj in self._registry.list(API_SERVICES):
            remote = remote_of(obj)
            if remote is not None:
                self._by_name[remote.name] = remote
        self._tell()

    async def run(self) -> None:
        while True:
            watch = self._hub.query(API_SERVICES, "")
            async for batch in watch.batches():
                before = dict(self._by_name)
                for event in batch:
                    if event.type not in ("BOOKMARK", "ERROR"):
                        self._see(event)
                if self._by_name != before:
                    self._tell()
            self._by_name = {}
            self.start()

    def _see(self, event: WatchEvent) -> None:
        obj = loads(event.object)
        remote = None if event.type == "DELETED" else remote_of(obj)
        if remote is None:
            self._by_name.pop(obj["metadata"]["name"], None)
        else:
            self._by_name[remote.name] = remote

    def _tell(self) -> None:
        remotes = list(self._by_name.values())
        self._by_version = {one.group_version: one for one in remotes}
        self._front.delegate(list(self._by_version))
        backends = {one.backend for one in remotes}
        self._identity.keep(backends | {one.trusting for one in backends})
        for changed in self.changed:
            changed(remotes)

    # --- requests

    def covers(self, request: Request) -> bool:
        return bool(self._by_version) and self._find(request) is not None

    def _find(self, request: Request) -> Remote | None:
        """Whose the request is; None for ours, and for a path that is nobody's though its parts are those of one."""
        if request.path.startswith("//"):
            return None
        if request.is_resource:
            return self._by_version.get((request.api_group, request.api_version))
        match request.path.strip("/").split("/"):
            case ["apis", group, version, *_]:
                return self._by_version.get((group, version))
        return None

    async def pass_on(self, request: Request, user: UserInfo) -> Response | None:
        """None: it is answered elsewhere."""
        return await self.pass_on_to(self._covered(request), request, user)

    async def pass_on_to(self, remote: Remote, request: Request, user: UserInfo) -> Response | None:
        if not remote.available:
            return _plain(503, "service unavailable")
        if not isinstance(request, _native.Request):
            return await self._asked(request, user, remote)
        return self.forward(request, user, remote)

    def forward(self, request: _native.Request, user: UserInfo, remote: Remote) -> Response | None:
        backend = remote.backend
        try:
            tls = self._identity.tls(backend)
        except (Untrusted, OSError) as error:
            return _plain(500, str(error))
        try:
            address = self._asker.resolver(backend)
        except Unresolvable:
            return _plain(503, "service unavailable")
        query = f"?{found}" if (found := passed_on(request.query)) else ""
        is_discovery = not request.is_resource and request.path.strip("/").count("/") == 2
        _native.forward(
            request,
            host=address.host,
            port=address.port,
            target=f"{escaped_path(request.path)}{query}",
            tls=tls,
            prefix="",
            rejects_redirects=self._rejects_redirects,
            server_name=backend.host,
            user=user,
            patience=_DISCOVERY_SECONDS if is_discovery else None,
        )
        return None

    async def _asked(self, request: Request, user: UserInfo, remote: Remote) -> Response:
        """For a component of this process."""
        headers = {"Accept": request.accept}
        if request.content_type and request.body:
            headers["Content-Type"] = request.content_type
        try:
            answer = await self._asker.ask(
                remote.backend,
                request.path,
                user,
                method=request.method,
                query=request.query,
                body=request.body,
                headers=headers,
            )
        except Unresolvable:
            return _plain(503, "service unavailable")
        except (Unreachable, Untrusted) as error:
            return _plain(503, f"error trying to reach service: {error}")
        return Response(answer.status, answer.body, answer.content_type)

    def _covered(self, request: Request) -> Remote:
        remote = self._find(request)
        assert remote is not None, f"{request.path} is ours"
        return remote

    async def watch(self, request: Request, user: UserInfo) -> AsyncIterator[list[WatchEvent]]:
        """For a component of this process. Raises StatusError where it is refused."""
        remote = self._covered(request)
        if not remote.available:
            raise errors.service_unavailable("service unavailable")
        query = request.query if "watch=" in request.query else "&".join(filter(None, [request.query, "watch=true"]))
        try:
            async for line in self._asker.lines(remote.backend, request.path, user, query):
                event = orjson.loads(line)
                if "object" not in event:
                    raise StatusError.from_body(503, line)
                yield [WatchEvent(event["type"], orjson.dumps(event["object"]))]
        except Unresolvable:
            raise errors.service_unavailable("service unavailable") from None
        except (Unreachable, Untrusted) as error:
            raise errors.service_unavailable(f"error trying to reach service: {error}") from None


def _plain(status: int, text: str) -> Response:
    return Response(status, f"{text}\n".encode(), _TEXT, _PLAIN)
