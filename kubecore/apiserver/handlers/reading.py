"""Reads that Rust leaves to Python: Tables above all. Plain reads never come here over HTTP."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kubecore.api import errors, protobuf
from kubecore.api.queries import parse_query
from kubecore.api.websockets import HandshakeRefused
from kubecore.apiserver.authentication.identify import attributes_of
from kubecore.apiserver.handlers import negotiation
from kubecore.apiserver.handlers.converted_fields import ShownEvents, page_of
from kubecore.apiserver.handlers.request import JSON_TYPE, Request, Response, Stream
from kubecore.apiserver.handlers.served import Served
from kubecore.apiserver.handlers.transforming import Shape, more_of, shape_of
from kubecore.apiserver.handlers.websocket_output import WebSocketOutput, switched_to_messages

if TYPE_CHECKING:
    from kubecore.apiserver.authorization.held import HeldRight
    from kubecore.apiserver.handlers.watching import Watch, WatchHub
    from kubecore.apiserver.registry.registry import Registry

_STREAMED = {JSON_TYPE: JSON_TYPE, protobuf.MEDIA: protobuf.STREAM_MEDIA}
_MIN_WATCH_SECONDS = 1800


class Reading:
    """get, list and watch in forms that Python makes."""

    def __init__(self, registry: Registry, hub: WatchHub) -> None:
        self._registry = registry
        self._hub = hub
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, request: Request, served: Served) -> Response:
        """One object, or its status or other whole-object subresource."""
        shape = self._shape(request, served)
        stored = await served.stored().read(_namespace(request, served), request.name)
        body, media = negotiation.encode(shape.form, shape.one(stored.value))
        return Response(200, body, media, served.headers)

    async def list(self, request: Request, served: Served) -> Response:
        shape = self._shape(request, served)
        namespace = _namespace(request, served)
        page = await page_of(self._registry.cacher, served, request.query, namespace, request.name)
        body, media = negotiation.encode(shape.form, shape.many(page.items, page.revision, more_of(page)))
        return Response(200, body, media, served.headers)

    def _shape(self, request: Request, served: Served) -> Shape:
        streams = request.verb != "get"
        clock, subresource = self._registry.clock, request.subresource
        return shape_of(request.accept, request.query, served, clock, streams=streams, subresource=subresource)

    # --- watch

    def watch(self, request: Request, served: Served) -> Response | None:
        """Starts to stream and answers by itself, or is answered with a handshake that fails. Raises what refuses the
        watch."""
        key = served.stored().resource.key
        shape = self._shape(request, served)
        media = _STREAMED.get(shape.form.media)
        if media is None:
            raise errors.not_acceptable(f"{media};stream=watch" for media in _STREAMED)
        namespace = _namespace(request, served)
        shown = ShownEvents(self._registry.cacher, served, request.query, namespace, request.name)
        assert request.user is not None
        right = self._hub.rights.of(request.user, attributes_of(request), ago=True)
        watch = self._hub.query(key, shown.query, namespace, request.name)
        self._hub.hold(watch, right)
        stream: Stream
        try:
            messages = switched_to_messages(request, text=shape.form.media == JSON_TYPE)
        except HandshakeRefused as refused:
            watch.close()
            return Response(refused.status, refused.text.encode(), "text/plain")
        stream = messages or request.respond_stream(200, media, served.headers)
        stream.on_closed(watch.close)
        # Random, so that watches begun together do not end together.
        asked = int(parse_query(request.query).get("timeoutSeconds") or 0)
        timer = self._hub.end_after(watch, asked or int(_MIN_WATCH_SECONDS * (1 + random.random())))

        async def run() -> None:
            try:
                await self._stream(watch, right, stream, request, served, shown)
            finally:
                timer.cancel()
                stream.close()

        task = asyncio.get_running_loop().create_task(run(), name=f"watch {served.resource.key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None

    async def _stream(
        self, watch: Watch, right: HeldRight, stream: Stream, request: Request, served: Served, shown: ShownEvents
    ) -> None:
        first = True
        async for batch in watch.batches():
            if await right.has_lapsed():
                return
            if batch[-1].type == "ERROR" and watch.outlives_its_resource:
                # As upstream: the answer ends, and who watches asks again.
                batch.pop()
            batch = await shown.told(batch)
            if not batch:
                continue
            lines = []
            # Ages in a Table are those of the moment it is made.
            shape = self._shape(request, served)
            for event in batch:
                value = event.object if event.type == "ERROR" else shape.event(event.object, first=first)
                lines.append(_event(shape.form.media, event.type, value))
                first = False
            if not _written(stream, shape.form.media, lines) or batch[-1].type == "ERROR":
                return
            await drained(stream)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _event(media: str, event_type: str, value: bytes) -> bytes:
    """In protobuf its length comes first."""
    if media == protobuf.MEDIA:
        return protobuf.frame(event_type, protobuf.encode(value))
    return b'{"type":"' + event_type.encode() + b'","object":' + value + b"}\n"


def _written(stream: Stream, media: str, events: Sequence[bytes]) -> bool:
    """Whether there is somebody yet to whom these can be told."""
    if not isinstance(stream, WebSocketOutput):
        return stream.write(b"".join(events))
    skipped = protobuf.FRAME_HEAD_BYTES if media == protobuf.MEDIA else 0
    return all([stream.write(event[skipped:]) for event in events])


def _namespace(request: Request, served: Served) -> str:
    """A request for a Namespace carries its name as the namespace, too."""
    return request.namespace if served.resource.namespaced else ""


async def drained(stream: Stream) -> None:
    """Waits while the client reads slower than we write."""
    if stream.writable or stream.closed:
        return
    room = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not room.done():
            room.set_result(None)

    stream.on_writable(wake)
    await room
