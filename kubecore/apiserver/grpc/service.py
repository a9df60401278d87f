"""The operations of the service, each a request to the API server's own handler chain as the caller's identity."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

import msgspec
import orjson

from kubecore.api import errors
from kubecore.api.errors import StatusError
from kubecore.api.v1pb import objects_pb2 as pb
from kubecore.apiserver.grpc.failures import rpc_status
from kubecore.apiserver.grpc.messages import decode_list, events_message, object_message, page_message
from kubecore.apiserver.grpc.paths import list_query, path_of, required, watch_query, write_query

_PAGE = 500
_EVENTS_IN_A_MESSAGE = 100
# A message larger than this is split; clients accept 4 MiB unless told otherwise.
_MESSAGE_BYTES = 2 * 1024 * 1024
_JSON = "application/json"
_PATCH_TYPES = {
    pb.PATCH_TYPE_JSON: "application/json-patch+json",
    pb.PATCH_TYPE_MERGE: "application/merge-patch+json",
    pb.PATCH_TYPE_STRATEGIC_MERGE: "application/strategic-merge-patch+json",
    pb.PATCH_TYPE_APPLY: "application/apply-patch+yaml",
}


class WatchEvent(Protocol):
    @property
    def type(self) -> str: ...
    @property
    def object(self) -> bytes: ...


class Transport(Protocol):
    """The API server as one identity; kubecore.client.transport says more."""

    async def request(
        self, method: str, path: str, *, query: Mapping[str, str], body: bytes | None, content_type: str
    ) -> tuple[int, bytes]: ...
    def watch(self, path: str, *, query: Mapping[str, str]) -> AsyncIterator[Sequence[WatchEvent]]: ...


async def _call(
    transport: Transport,
    method: str,
    path: str,
    query: Mapping[str, str] | None = None,
    body: bytes | None = None,
    content_type: str = _JSON,
) -> bytes:
    """The body of a successful answer. Raises StatusError for any other."""
    code, answer = await transport.request(method, path, query=query or {}, body=body, content_type=content_type)
    if code >= 400:
        raise StatusError.from_body(code, answer)
    return answer


def _object(answer: bytes) -> pb.Object:
    """Raises StatusError (400) where a subresource answers something else, such as lines of a log."""
    try:
        return object_message(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise errors.bad_request("what it answers is no object in JSON: ask for it by the REST API") from None


async def get(transport: Transport, request: pb.GetRequest) -> pb.Object:
    path = path_of(request.resource, request.namespace, required(request.name))
    return _object(await _call(transport, "GET", path))


async def create(transport: Transport, request: pb.CreateRequest) -> pb.Object:
    path = path_of(request.resource, request.namespace, request.name)
    return _object(await _call(transport, "POST", path, write_query(request.options), request.json))


async def update(transport: Transport, request: pb.UpdateRequest) -> pb.Object:
    path = path_of(request.resource, request.namespace, required(request.name))
    return _object(await _call(transport, "PUT", path, write_query(request.options), request.json))


async def patch(transport: Transport, request: pb.PatchRequest) -> pb.Object:
    content_type = _PATCH_TYPES.get(request.type)
    if content_type is None:
        raise errors.bad_request("type must say which kind of patch it is")
    path = path_of(request.resource, request.namespace, required(request.name))
    query = write_query(request.options, force="true" if request.force else "")
    return _object(await _call(transport, "PATCH", path, query, request.patch, content_type))


async def delete(transport: Transport, request: pb.DeleteRequest) -> pb.DeleteResponse:
    options: dict[str, object] = {"apiVersion": "v1", "kind": "DeleteOptions"}
    if request.HasField("grace_period_seconds"):
        options["gracePeriodSeconds"] = request.grace_period_seconds
    if request.propagation_policy:
        options["propagationPolicy"] = request.propagation_policy
    preconditions = {"uid": request.uid, "resourceVersion": request.resource_version}
    if any(preconditions.values()):
        options["preconditions"] = {key: value for key, value in preconditions.items() if value}
    if request.dry_run:
        options["dryRun"] = ["All"]
    path = path_of(request.resource, request.namespace, required(request.name))
    answer = await _call(transport, "DELETE", path, body=orjson.dumps(options))
    message = _object(answer)
    if message.metadata.kind == "Status" and message.metadata.api_version == "v1":
        return pb.DeleteResponse(status=pb.KubernetesStatus(json=answer))
    return pb.DeleteResponse(object=message)


async def list_pages(transport: Transport, request: pb.ListRequest) -> AsyncIterator[pb.ListPage]:
    """Pages of one resource version, the next one read when the client has taken the last."""
    path = path_of(request.resource, request.namespace)
    token, left = request.continue_token, request.limit
    page_size = request.page_size if request.page_size > 0 else _PAGE
    while True:
        limit = min(page_size, left) if left > 0 else page_size
        body = decode_list(await _call(transport, "GET", path, list_query(request, limit, token)))
        token = body.metadata.continue_
        page = page_message(body)
        left -= len(page.objects)
        done = not token or (request.limit > 0 and left <= 0)
        if done:
            page.continue_token = token
        for part in _sized(page):
            yield part
        if done:
            return


def _sized(page: pb.ListPage) -> list[pb.ListPage]:
    """The page, in halves until each can be received."""
    if page.ByteSize() <= _MESSAGE_BYTES or len(page.objects) < 2:
        return [page]
    middle = len(page.objects) // 2
    first = pb.ListPage(objects=page.objects[:middle], resource_version=page.resource_version)
    second = pb.ListPage(
        objects=page.objects[middle:], resource_version=page.resource_version, continue_token=page.continue_token
    )
    return [*_sized(first), *_sized(second)]


async def watch(transport: Transport, request: pb.WatchRequest) -> AsyncIterator[pb.WatchEvents]:
    """Events in the batches they came in, cut into messages. Raises StatusError for an ERROR event."""
    path = path_of(request.resource, request.namespace)
    async for batch in transport.watch(path, query=watch_query(request)):
        pending: list[tuple[str, bytes]] = []
        size = 0
        for event in batch:
            if event.type == "ERROR":
                if pending:
                    yield events_message(pending)
                raise StatusError.from_body(500, event.object)
            pending.append((event.type, event.object))
            size += len(event.object)
            if len(pending) == _EVENTS_IN_A_MESSAGE or size >= _MESSAGE_BYTES:
                yield events_message(pending)
                pending, size = [], 0
        if pending:
            yield events_message(pending)


async def batch(transport: Transport, request: pb.BatchRequest) -> pb.BatchResponse:
    if not request.in_order:
        results = await asyncio.gather(*(_operation(transport, one) for one in request.operations))
        return pb.BatchResponse(results=results)
    done: list[pb.OperationResult] = []
    failed = False
    for one in request.operations:
        result = pb.OperationResult(skipped=True) if failed else await _operation(transport, one)
        failed = failed or result.HasField("error")
        done.append(result)
    return pb.BatchResponse(results=done)


async def _operation(transport: Transport, operation: pb.Operation) -> pb.OperationResult:
    try:
        match operation.WhichOneof("operation"):
            case "get":
                return pb.OperationResult(object=await get(transport, operation.get))
            case "create":
                return pb.OperationResult(object=await create(transport, operation.create))
            case "update":
                return pb.OperationResult(object=await update(transport, operation.update))
            case "patch":
                return pb.OperationResult(object=await patch(transport, operation.patch))
            case "delete":
                return pb.OperationResult(deleted=await delete(transport, operation.delete))
            case _:
                raise errors.bad_request("an operation must be set")
    except StatusError as error:
        return pb.OperationResult(error=rpc_status(error))
