"""Objects over gRPC: the eight operations of `kubecore.v1.Objects`, failures raised as StatusError."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeVar
from urllib.parse import unquote

import grpc
import grpc.aio
import orjson
from google.protobuf.message import Message

from kubecore.api.errors import StatusError
from kubecore.api.v1pb import objects_pb2 as pb

Operation = pb.Operation
Metadata = Sequence[tuple[str, str]]
Warned = Callable[[str], None]
PatchKind = Literal["json", "merge", "strategic", "apply"]

_SERVICE = "/kubecore.v1.Objects/"
_DETAILS_KEY = "grpc-status-details-bin"
_PATCH_TYPES = {
    "json": pb.PATCH_TYPE_JSON,
    "merge": pb.PATCH_TYPE_MERGE,
    "strategic": pb.PATCH_TYPE_STRATEGIC_MERGE,
    "apply": pb.PATCH_TYPE_APPLY,
}
_EVENT_NAMES = {
    pb.EVENT_TYPE_ADDED: "ADDED",
    pb.EVENT_TYPE_MODIFIED: "MODIFIED",
    pb.EVENT_TYPE_DELETED: "DELETED",
    pb.EVENT_TYPE_BOOKMARK: "BOOKMARK",
}
# HTTP codes for failures that carry no Status: the connection's own.
_HTTP_CODES = {
    grpc.StatusCode.CANCELLED: (499, "Cancelled"),
    grpc.StatusCode.INVALID_ARGUMENT: (400, "BadRequest"),
    grpc.StatusCode.UNIMPLEMENTED: (405, "MethodNotAllowed"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (504, "Timeout"),
    grpc.StatusCode.UNAVAILABLE: (503, "ServiceUnavailable"),
    grpc.StatusCode.UNAUTHENTICATED: (401, "Unauthorized"),
    grpc.StatusCode.PERMISSION_DENIED: (403, "Forbidden"),
    grpc.StatusCode.NOT_FOUND: (404, "NotFound"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (413, "RequestEntityTooLarge"),
}
_VERSION = re.compile(r"v[0-9]+((alpha|beta)[0-9]+)?")
_OPTIONS = (("grpc.max_receive_message_length", 64 * 1024 * 1024),)

_Answer = TypeVar("_Answer", bound=Message)


class Item(NamedTuple):
    """An object: what the server knows of it without decoding, and its JSON."""

    metadata: pb.Metadata
    json: bytes

    def decode(self) -> dict[str, Any]:
        return orjson.loads(self.json)  # type: ignore[no-any-return]


class Event(NamedTuple):
    """`type` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    item: Item


Events = list[Event]
Results = list[pb.OperationResult]


class Listing(NamedTuple):
    items: list[Item]
    resource_version: str
    continue_token: str


def resource(path: str) -> pb.Resource:
    """`v1/pods`, `apps/v1/deployments`, `apps/v1/deployments/scale` as a Resource. Raises ValueError."""
    parts = path.split("/")
    # A version is v1, v2beta1, ...; a group never looks like one, though v1.example.com is a group.
    if _VERSION.fullmatch(parts[0]):
        parts.insert(0, "")
    elif not parts[0]:
        parts = []
    if len(parts) not in (3, 4) or not all(parts[1:]):
        raise ValueError(f"not GROUP/VERSION/RESOURCE: {path!r}")
    group, version, plural, *subresource = parts
    return pb.Resource(group=group, version=version, resource=plural, subresource="".join(subresource))


def connect(
    target: str,
    *,
    ca: bytes,
    certificate: bytes | None = None,
    key: bytes | None = None,
    token: str = "",
    server_name: str = "",
    field_manager: str = "",
    metadata: Metadata = (),
    warned: Warned | None = None,
) -> GrpcClient:
    """A client of the server at `host:port`; `ca`, `certificate` and `key` are PEM.

    Give a certificate with its key, or a token, or neither for an anonymous caller. `server_name` is the name the
    server's certificate is checked against where it is not the host's. `field_manager` is the name that writes go by,
    without which nothing can be applied. `metadata` goes with each call, as what REST has
    headers for (`impersonate-user`). `warned` is called with what REST has headers Warning for (`299 - "..."`).
    """
    options = [*_OPTIONS]
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))  # type: ignore[arg-type]
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    channel = grpc.aio.secure_channel(target, credentials, options=options)
    return GrpcClient(channel, token=token, field_manager=field_manager, metadata=metadata, warned=warned)


def status_error(error: grpc.aio.AioRpcError) -> StatusError:
    """The Status an error carries, or one made from its code."""
    for name, value in error.trailing_metadata() or ():
        if name == _DETAILS_KEY and isinstance(value, bytes):
            for detail in pb.RpcStatus.FromString(value).details:
                return StatusError.from_status(orjson.loads(pb.KubernetesStatus.FromString(detail.value).json))
    code, reason = _HTTP_CODES.get(error.code(), (500, "InternalError"))
    return StatusError(code, reason, error.details() or str(error.code()))


class GrpcClient:
    """Operations on objects. `resource` arguments are `v1/pods` or `apps/v1/deployments`, also with a subresource.

    Every operation takes a `deadline`, in seconds from now, which the server is told. All raise StatusError.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        token: str = "",
        field_manager: str = "",
        metadata: Metadata = (),
        warned: Warned | None = None,
    ) -> None:
        self._channel = channel
        self._warned = warned
        self._metadata = (*metadata, ("authorization", f"Bearer {token}")) if token else tuple(metadata)
        self._field_manager = field_manager

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close()

    async def _unary(self, name: str, request: Message, answer: type[_Answer], deadline: float | None) -> _Answer:
        call = self._channel.unary_unary(
            _SERVICE + name,
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        called = call(request, timeout=deadline, metadata=self._metadata)
        try:
            return await called  # type: ignore[no-any-return]
        except grpc.aio.AioRpcError as error:
            raise status_error(error) from error
        finally:
            if self._warned is not None and called.done():
                self._hear(await called.trailing_metadata(), self._warned)

    async def _stream(
        self, name: str, request: Message, answer: type[_Answer], deadline: float | None
    ) -> AsyncIterator[_Answer]:
        method = self._channel.unary_stream(
            _SERVICE + name,
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        call = method(request, timeout=deadline, metadata=self._metadata)
        try:
            if self._warned is not None:
                self._hear(await call.initial_metadata(), self._warned)
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise status_error(error) from error
        finally:
            call.cancel()

    @staticmethod
    def _hear(metadata: Iterable[tuple[str, str | bytes]] | None, warned: Warned) -> None:
        for name, value in metadata or ():
            if name == "warning" and isinstance(value, str):
                warned(unquote(value))

    def _options(self, dry_run: bool, field_validation: str = "") -> pb.WriteOptions:
        return pb.WriteOptions(dry_run=dry_run, field_manager=self._field_manager, field_validation=field_validation)

    async def get(self, path: str, name: str, namespace: str = "", *, deadline: float | None = None) -> Item:
        request = pb.GetRequest(resource=resource(path), namespace=namespace, name=name)
        return _item(await self._unary("Get", request, pb.Object, deadline))

    async def list(
        self,
        path: str,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        page_size: int = 0,
        continue_token: str = "",
        resource_version: str = "",
        resource_version_match: str = "",
        deadline: float | None = None,
    ) -> Listing:
        """All objects of one resource version, or the first `limit` of them. `resource_version_match` says how that one
        stands to `resource_version`: Exact or NotOlderThan."""
        request = pb.ListRequest(
            resource=resource(path),
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            limit=limit,
            page_size=page_size,
            continue_token=continue_token,
            resource_version=resource_version,
            resource_version_match=resource_version_match,
        )
        items: list[Item] = []
        version = token = ""
        async for page in self._stream("List", request, pb.ListPage, deadline):
            items += [_item(one) for one in page.objects]
            version, token = page.resource_version, page.continue_token
        return Listing(items, version, token)

    async def create(
        self,
        path: str,
        obj: Mapping[str, Any] | bytes,
        namespace: str = "",
        *,
        name: str = "",
        dry_run: bool = False,
        field_validation: str = "",
        deadline: float | None = None,
    ) -> Item:
        """`name` is only for subresources, whose objects are created below another (pods/binding)."""
        request = pb.CreateRequest(
            resource=resource(path),
            namespace=namespace,
            name=name,
            json=_json(obj),
            options=self._options(dry_run, field_validation),
        )
        return _item(await self._unary("Create", request, pb.Object, deadline))

    async def update(
        self,
        path: str,
        name: str,
        obj: Mapping[str, Any] | bytes,
        namespace: str = "",
        *,
        dry_run: bool = False,
        field_validation: str = "",
        deadline: float | None = None,
    ) -> Item:
        request = pb.UpdateRequest(
            resource=resource(path),
            namespace=namespace,
            name=name,
            json=_json(obj),
            options=self._options(dry_run, field_validation),
        )
        return _item(await self._unary("Update", request, pb.Object, deadline))

    async def patch(
        self,
        path: str,
        name: str,
        patch: Mapping[str, Any] | Sequence[Any] | bytes,
        namespace: str = "",
        *,
        kind: PatchKind = "merge",
        force: bool = False,
        dry_run: bool = False,
        field_validation: str = "",
        deadline: float | None = None,
    ) -> Item:
        """Kind apply needs the name of a `field_manager` (see `connect`), and with `force` takes fields from others."""
        request = pb.PatchRequest(
            resource=resource(path),
            namespace=namespace,
            name=name,
            type=_PATCH_TYPES[kind],
            patch=_json(patch),
            force=force,
            options=self._options(dry_run, field_validation),
        )
        return _item(await self._unary("Patch", request, pb.Object, deadline))

    async def delete(
        self,
        path: str,
        name: str,
        namespace: str = "",
        *,
        grace_period_seconds: int | None = None,
        propagation_policy: str = "",
        uid: str = "",
        resource_version: str = "",
        dry_run: bool = False,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """The object, or the Status, that the server answers."""
        request = pb.DeleteRequest(
            resource=resource(path),
            namespace=namespace,
            name=name,
            grace_period_seconds=grace_period_seconds,
            propagation_policy=propagation_policy,
            uid=uid,
            resource_version=resource_version,
            dry_run=dry_run,
        )
        answer = await self._unary("Delete", request, pb.DeleteResponse, deadline)
        found = answer.object.json if answer.HasField("object") else answer.status.json
        return orjson.loads(found)  # type: ignore[no-any-return]

    async def watch(
        self,
        path: str,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        send_initial_events: bool = False,
        bookmarks: bool = False,
        timeout_seconds: int = 0,
        deadline: float | None = None,
    ) -> AsyncIterator[Events]:
        """Batches of events after `resource_version`, or beginning with all there is. StatusError 410: list again."""
        request = pb.WatchRequest(
            resource=resource(path),
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            resource_version=resource_version,
            send_initial_events=send_initial_events,
            allow_bookmarks=bookmarks,
            timeout_seconds=timeout_seconds,
        )
        async for message in self._stream("Watch", request, pb.WatchEvents, deadline):
            yield [Event(_EVENT_NAMES.get(event.type, ""), _item(event.object)) for event in message.events]

    async def batch(
        self, operations: Sequence[pb.Operation], *, in_order: bool = False, deadline: float | None = None
    ) -> Results:
        """The results in the order of the operations. Failures of single operations are in the results."""
        request = pb.BatchRequest(operations=operations, in_order=in_order)
        return [*(await self._unary("Batch", request, pb.BatchResponse, deadline)).results]


def _item(message: pb.Object) -> Item:
    return Item(message.metadata, message.json)


def _json(value: Mapping[str, Any] | Sequence[Any] | bytes) -> bytes:
    return value if isinstance(value, bytes) else orjson.dumps(value)
