"""The in-process transport: requests of one identity go through the same chain, without HTTP.

It complies with kubecore.client.transport.Transport by its shape and imports nothing of the client. Authorization,
admission and validation are the very same; only authentication is skipped, because the caller is part of this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import unquote, urlencode

from kubecore import _native
from kubecore.api import errors
from kubecore.apiserver.authentication.identify import attributes_of
from kubecore.apiserver.authorization.held import while_held
from kubecore.apiserver.handlers.converted_fields import ShownEvents
from kubecore.apiserver.handlers.event_creating import EventCreating
from kubecore.apiserver.handlers.failing import as_status, released
from kubecore.apiserver.handlers.request import JSON_TYPE, Headers, Response
from kubecore.apiserver.handlers.watching import WatchEvent
from kubecore.apiserver.registry.conversion import in_version
from kubecore.apiserver.storage.interface import StorageError
from kubecore.apiserver.transport.driving import to_its_end, together

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubecore.api.amendment import Amendment, PodName
    from kubecore.apiserver.audit.recording import LocalAudit
    from kubecore.apiserver.authorization.authorizer import Authorizer
    from kubecore.apiserver.handlers.chain import Handlers
    from kubecore.apiserver.handlers.lease_renewing import LeaseRenewing
    from kubecore.apiserver.handlers.pod_amending import PodAmending
    from kubecore.apiserver.handlers.podwrites import PodBinding
    from kubecore.apiserver.handlers.served import ServedResources
    from kubecore.apiserver.handlers.watching import WatchHub

T = TypeVar("T")

NO_QUERY: Mapping[str, str] = MappingProxyType({})
_USER_AGENT = "kubecore/v1.35"
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "HEAD": "get"}


class RequestInfo(NamedTuple):
    """What a path and method ask for (upstream k8s.io/apiserver pkg/endpoints/request/requestinfo.go)."""

    is_resource: bool
    verb: str
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""


# Of something of no name.
_BARE = {
    "PATCH": ("/api/v1/pods", RequestInfo(True, "patch", "", "v1", "", "pods", "status")),
    "DELETE": ("/api/v1/pods", RequestInfo(True, "delete", "", "v1", "", "pods")),
    "POST": ("/api/v1/pods", RequestInfo(True, "create", "", "v1", "", "pods", "binding")),
    "PUT": (
        "/apis/coordination.k8s.io/v1/leases",
        RequestInfo(True, "update", "coordination.k8s.io", "v1", "", "leases"),
    ),
}


def request_info(method: str, path: str, query: Mapping[str, str] = NO_QUERY) -> RequestInfo:
    parts = path.strip("/").split("/")
    if "%" in path:
        parts = [unquote(part) for part in parts]
    count = len(parts)
    if parts[0] == "api" and count >= 3:
        group, version, at = "", parts[1], 2
    elif parts[0] == "apis" and count >= 4:
        group, version, at = parts[1], parts[2], 3
    else:
        return RequestInfo(False, method.lower())
    namespace = ""
    if parts[at] == "namespaces" and count > at + 1:
        namespace = parts[at + 1]
        if count > at + 2 and parts[at + 2] not in ("status", "finalize"):
            at += 2
    resource, name = parts[at], parts[at + 1] if count > at + 1 else ""
    subresource = parts[at + 2] if count > at + 2 else ""
    verb = _VERBS.get(method) or method.lower()
    if verb == "get" and not name:
        verb = "list"
    if verb in ("get", "list") and query.get("watch") in ("true", "1") and not subresource:
        verb = "watch"
    if verb == "delete" and not name:
        verb = "deletecollection"
    return RequestInfo(True, verb, group, version, namespace, resource, subresource, name)


@lru_cache(maxsize=256)
def _encoded(query: tuple[tuple[str, str], ...]) -> str:
    """The same few queries come again and again."""
    return urlencode(query)


def _text(query: Mapping[str, str]) -> str:
    return _encoded(tuple(query.items())) if query else ""


@dataclass(slots=True, eq=False)
class LocalStream:
    """Collects a streamed body until it is closed."""

    done: asyncio.Future[None]
    pieces: list[bytes] = field(default_factory=list)
    writable: bool = True

    @property
    def closed(self) -> bool:
        return self.done.done()

    def write(self, data: bytes) -> bool:
        self.pieces.append(data)
        return not self.closed

    def on_writable(self, callback: Callable[[], None]) -> None:
        callback()

    def on_closed(self, callback: Callable[[], None]) -> None:
        """Nobody goes away before the end here."""

    def close(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class LocalRequest:
    """A request as the handlers want it."""

    __slots__ = (
        "accept",
        "api_group",
        "api_version",
        "audit",
        "authenticated",
        "authorized",
        "body",
        "content_type",
        "is_resource",
        "method",
        "name",
        "namespace",
        "path",
        "query",
        "resource",
        "resumed",
        "stream",
        "subresource",
        "user",
        "user_agent",
        "verb",
    )

    def __init__(
        self,
        user: _native.UserInfo,
        method: str,
        path: str,
        info: RequestInfo,
        *,
        query: str,
        body: bytes,
        content_type: str,
    ) -> None:
        self.user: _native.UserInfo | None = user
        self.authenticated: bool | None = True
        self.authorized: bool | None = True
        self.resumed = False
        self.method = method
        self.path = path
        self.query = query
        self.body = body
        self.content_type = content_type
        self.accept = JSON_TYPE
        self.user_agent = _USER_AGENT
        self.is_resource, self.verb, self.api_group, self.api_version, self.namespace = info[:5]
        self.resource, self.subresource, self.name = info[5:]
        self.stream: LocalStream | None = None
        self.audit: _native.AuditRecord | None = None

    def header(self, name: str) -> str | None:
        return None

    def headers(self) -> list[tuple[str, str]]:
        return []

    def respond(self, status: int, body: bytes, content_type: str = JSON_TYPE, headers: Headers = ()) -> None:
        raise RuntimeError("a local request is answered by its route's result")

    def respond_stream(self, status: int, content_type: str, headers: Headers = ()) -> LocalStream:
        self.stream = LocalStream(asyncio.get_running_loop().create_future())
        return self.stream

    def identified(self, user: _native.UserInfo) -> None:
        """That is known from the start."""

    def waited(self, seconds: float) -> None:
        """Nobody is told how long local requests take."""

    def resume(self, user: _native.UserInfo, *, authorized: bool = False) -> None:
        raise RuntimeError("a local request is identified from the start")


class LocalTransport:
    """Requests as one user. Never raises for an HTTP status."""

    in_process = True

    def __init__(
        self,
        *,
        handlers: Handlers,
        served: ServedResources,
        authorizer: Authorizer,
        hub: WatchHub,
        user: _native.UserInfo,
        audit: LocalAudit,
    ) -> None:
        self._handlers = handlers
        self._served = served
        self._authorizer = authorizer
        self._hub = hub
        self._user = user
        self._audit = audit
        self._amending: dict[str, PodAmending] = {}
        self._binding: dict[str, PodBinding] = {}
        self._renewing: dict[str, LeaseRenewing] = {}

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = NO_QUERY,
        body: bytes | None = None,
        content_type: str = JSON_TYPE,
    ) -> tuple[int, bytes]:
        response = await self.answer(method, path, query=query, body=body, content_type=content_type)
        return response.status, response.body

    async def answer(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = NO_QUERY,
        body: bytes | None = None,
        content_type: str = JSON_TYPE,
    ) -> Response:
        """`request` with the headers of what is answered. A write is brought to its end, even if who waits is
        cancelled."""
        info = request_info(method, path, query)
        request = LocalRequest(
            self._user,
            method,
            path,
            info,
            query=_text(query),
            body=body or b"",
            content_type=content_type,
        )
        if self._audit.is_on:
            request.audit = self._audit.begin(request, self._user)
        routed = self._routed(request)
        response = await self._awaited(request, await (routed if method == "GET" else to_its_end(routed)))
        if (record := request.audit) is not None:
            self._audit.end(record, response.status, lambda: response.body)
        return response

    async def _awaited(self, request: LocalRequest, response: Response | None) -> Response:
        """The whole answer, where it comes as a stream."""
        if response is not None:
            return response
        stream = request.stream
        if stream is None:
            return Response(500, errors.internal_error("the request was not answered").to_json())
        await stream.done
        return Response(200, b"".join(stream.pieces))

    async def create_all(
        self, path: str, bodies: Sequence[bytes], *, query: Mapping[str, str] = NO_QUERY
    ) -> list[tuple[int, bytes]]:
        """A POST of each body to one collection, as by `request`: the permission and the way there are the same for
        all, and they have begun, in their order, before one is waited for."""
        text = _text(query)
        info = request_info("POST", path, query)
        request = LocalRequest(self._user, "POST", path, info, query=text, body=b"", content_type=JSON_TYPE)
        answers: list[tuple[int, bytes]] = [(0, b"")] * len(bodies)
        try:
            await self._authorizer.check(self._user, attributes_of(request))
            # Each is a request of its own to the audit.
            each_alone = self._audit.is_on or self._handlers.delegated(request) is not None
            creator = None if each_alone else self._handlers.creator(request)
        except Exception as error:
            return [self._failed(request, error)[:2]] * len(bodies)

        if creator is not None and (events := EventCreating.of(creator)) is not None:
            made = await to_its_end(events.create_at_once(self._user, bodies))
            answers = [(0, b"") if one is None else (201, one) for one in made]

        async def one(number: int, body: bytes) -> None:
            if creator is None:
                answers[number] = await self.request("POST", path, query=query, body=body)
                return
            try:
                answers[number] = (await creator.create(self._user, body, repeated=True))[:2]
            except Exception as error:
                answers[number] = self._failed(request, error)[:2]

        await together([one(number, body) for number, body in enumerate(bodies) if not answers[number][0]])
        return answers

    async def amend_pods(
        self, amendments: Sequence[Amendment], *, query: Mapping[str, str] = NO_QUERY
    ) -> list[tuple[int, bytes]] | None:
        """Each as a PATCH of the status and a DELETE, as by `request`; None where each is one to somebody."""
        amending = self._prepared(self._amending, query, self._handlers.pod_amending, "PATCH", "DELETE")
        if amending is None:
            return None
        done = await to_its_end(amending.amend_at_once(self._user, amendments))
        answers = [(200, b"")] * len(amendments)

        async def one(number: int) -> None:
            try:
                await amending.amend(self._user, amendments[number])
            except Exception as error:
                answers[number] = self._failed(self._bare("PATCH", _text(query)), error)[:2]

        if not all(done):
            await together([one(number) for number, is_done in enumerate(done) if not is_done])
        return answers

    async def bind_pod(self, pod: PodName, node: str, *, query: Mapping[str, str] = NO_QUERY) -> bool:
        """As a POST of its binding by `request`; False where that is to be made."""
        binding = self._prepared(self._binding, query, self._handlers.pod_binding, "POST")
        writing = None if binding is None else binding.begin(self._user, pod, node)
        if writing is None:
            return False
        try:
            await writing
        except StorageError:
            return False
        return True

    async def renew_lease(
        self, namespace: str, name: str, version: str, renew_time: str, *, query: Mapping[str, str] = NO_QUERY
    ) -> bytes | None:
        """As a PUT of the lease by `request`; None where that is to be made."""
        renewing = self._prepared(self._renewing, query, self._handlers.lease_renewing, "PUT")
        if renewing is None:
            return None
        writing = renewing.begin(self._user, namespace, name, version, renew_time)
        if writing is None:
            return None
        try:
            return (await writing).value
        except StorageError:
            return None

    def _prepared(
        self, known: dict[str, T], query: Mapping[str, str], make: Callable[..., T], *methods: str
    ) -> T | None:
        """What `make` gives for such requests, which it takes the place of, made once for each query. None where each
        is to be a request: to the audit, or to another server."""
        if self._audit.is_on:
            return None
        text = _text(query)
        found = known.get(text)
        if found is None:
            heads = [self._bare(method, text) for method in methods]
            if self._handlers.delegated(heads[0]) is not None:
                return None
            found = known[text] = make(self._authorizer, *heads)
        return found

    def _bare(self, method: str, query: str) -> LocalRequest:
        path, info = _BARE[method]
        return LocalRequest(self._user, method, path, info, query=query, body=b"", content_type=JSON_TYPE)

    async def _routed(self, request: LocalRequest) -> Response | None:
        try:
            await self._check(request)
            return await self._handlers.route(request)
        except Exception as error:
            return self._failed(request, error)

    async def _check(self, request: LocalRequest) -> None:
        """Raises 403; 500 where the audit insists on hearing of it, and cannot."""
        attributes = attributes_of(request)
        if (record := request.audit) is not None:
            if record.is_rejected:
                raise errors.internal_error("failed to store audit event")
            decision = await self._authorizer.decide(self._user, attributes)
            record.decided("allow" if decision.allowed else "forbid", decision.reason)
        await self._authorizer.check(self._user, attributes)

    def _failed(self, request: LocalRequest, error: Exception) -> Response:
        status = as_status(error)
        if status is None:
            failed = self._handlers.failure(request, error)
        else:
            failed = Response(status.code, status.to_json(), headers=status.headers)
        released(error)
        return failed

    async def watch(self, path: str, *, query: Mapping[str, str] = NO_QUERY) -> AsyncIterator[list[WatchEvent]]:
        """Batches of events until the server ends the watch; raises StatusError when it is refused."""
        info = request_info("GET", path, {**query, "watch": "true"})
        text = _text(query)
        request = LocalRequest(self._user, "GET", path, info, query=text, body=b"", content_type="")
        if self._audit.is_on:
            request.audit = self._audit.begin(request, self._user)
        await self._check(request)
        rights = self._hub.rights
        right = rights.of(self._user, attributes_of(request))
        record = request.audit
        elsewhere = self._handlers.delegated(request)
        if elsewhere is not None:
            if record is not None:
                record.started(200)
            try:
                async with aclosing(while_held(elsewhere.watch(request, self._user), rights, right)) as held:
                    async for batch in held:
                        yield batch
            finally:
                if record is not None:
                    record.complete(200)
            return
        served = self._served.find(info.group, info.version, info.resource)
        store = served.stored()
        namespace = info.namespace if served.resource.namespaced else ""
        shown = ShownEvents(store.registry.cacher, served, text, namespace, info.name)
        watch = self._hub.query(store.resource.key, shown.query, namespace, info.name)
        self._hub.hold(watch, right)
        asked = int(query.get("timeoutSeconds") or 0)
        timer = self._hub.end_after(watch, asked) if asked else None
        other_version = store.resource is not served.resource
        if record is not None:
            record.started(200)
        try:
            async for batch in watch.batches():
                if await right.has_lapsed():
                    return
                batch = await shown.told(batch)
                if other_version:
                    batch = [
                        event
                        if event.type == "ERROR"
                        else WatchEvent(event.type, in_version(event.object, store.resource, served.resource))
                        for event in batch
                    ]
                if batch:
                    yield batch
        finally:
            if timer is not None:
                timer.cancel()
            if record is not None:
                record.complete(200)

    async def close(self) -> None:
        """Nothing is held open."""
