"""Watches by WebSocket, as browsers have them: a message for each event (upstream's `HandleWS`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from kubecore.api import protobuf
from kubecore.apiserver.server import APIServer

from .conftest import Api
from .connections import Connection, client

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEBSOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a2V5\r\n"
TEXT, BINARY, CLOSE = 0x81, 0x82, 0x88


def asked(api: Api, query: str, headers: str = WEBSOCKET) -> bytes:
    path = f"{api.path('v1/configmaps')}?watch=true&{query}"
    return f"GET {path} HTTP/1.1\r\nHost: api\r\nOrigin: http://page\r\n{headers}\r\n".encode()


@asynccontextmanager
async def watching(server: APIServer, request: bytes) -> AsyncIterator[tuple[Connection, str]]:
    async with client(server) as ours:
        ours.writer.write(request)
        yield ours, await ours.head()


async def message(ours: Connection) -> tuple[int, bytes]:
    """First byte and payload."""
    kind, size = await ours.reader.readexactly(2)
    if size == 126:
        size = int.from_bytes(await ours.reader.readexactly(2), "big")
    return kind, await ours.reader.readexactly(size)


async def test_each_event_is_a_message_of_text(server: APIServer, api: Api) -> None:
    await api.create("v1/configmaps", {"metadata": {"name": "told-1", "labels": {"told": "1"}}})
    await api.create("v1/configmaps", {"metadata": {"name": "told-2", "labels": {"told": "1"}}})
    async with watching(server, asked(api, "labelSelector=told=1")) as (ours, head):
        assert head.startswith("HTTP/1.1 101 ")
        assert "sec-websocket-accept: " in head.lower() and "sec-websocket-protocol" not in head.lower()
        seen = [await message(ours), await message(ours)]
        await api.delete("v1/configmaps", "told-1")
        seen.append(await message(ours))
    assert {kind for kind, _ in seen} == {TEXT}
    events = [orjson.loads(text) for _, text in seen]
    assert all(text.endswith(b"\n") for _, text in seen)
    assert [(one["type"], one["object"]["metadata"]["name"]) for one in events] == [
        ("ADDED", "told-1"),
        ("ADDED", "told-2"),
        ("DELETED", "told-1"),
    ]


async def test_in_protobuf_each_is_a_message_of_bytes(server: APIServer, api: Api) -> None:
    await api.create("v1/configmaps", {"metadata": {"name": "packed"}})
    accept = "Accept: application/vnd.kubernetes.protobuf;stream=watch\r\n"
    request = asked(api, "fieldSelector=metadata.name=packed", WEBSOCKET + accept)
    async with watching(server, request) as (ours, head):
        assert head.startswith("HTTP/1.1 101 ")
        kind, event = await message(ours)
    code, stored = await api.get("v1/configmaps", "packed")
    assert (code, kind) == (200, BINARY)
    # without the length that comes before an event in a stream
    framed = protobuf.frame("ADDED", protobuf.encode(orjson.dumps(stored)))
    assert framed[: protobuf.FRAME_HEAD_BYTES] == len(event).to_bytes(4, "big")
    assert event[:7] == framed[protobuf.FRAME_HEAD_BYTES :][:7] == b"\n\x05ADDED"


async def test_tables_come_so_too(server: APIServer, api: Api) -> None:
    await api.create("v1/configmaps", {"metadata": {"name": "row"}})
    accept = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io\r\n"
    async with watching(server, asked(api, "fieldSelector=metadata.name=row", WEBSOCKET + accept)) as (ours, _):
        _, text = await message(ours)
    assert orjson.loads(text)["object"]["kind"] == "Table"


async def test_a_protocol_that_the_client_names_is_agreed_to(server: APIServer, api: Api) -> None:
    named = WEBSOCKET + "Sec-WebSocket-Protocol: mine.example\r\n"
    async with watching(server, asked(api, "timeoutSeconds=60", named)) as (_, head):
        assert "sec-websocket-protocol: mine.example\r\n" in head.lower()


async def test_a_watch_that_is_over_closes_the_socket(server: APIServer, api: Api) -> None:
    async with watching(server, asked(api, "fieldSelector=metadata.name=none&timeoutSeconds=1")) as (ours, _):
        assert await ours.ended() == b"\x88\x02\x03\xe8"


async def test_a_client_that_closes_is_answered_and_heard_no_more(server: APIServer, api: Api) -> None:
    async with watching(server, asked(api, "fieldSelector=metadata.name=none")) as (ours, _):
        ours.writer.write(b"\x88\x80\x00\x00\x00\x00")
        assert await ours.ended() == b"\x88\x02\x03\xe8"


async def test_what_cannot_be_watched_is_refused_before_anything_is_switched(server: APIServer, api: Api) -> None:
    async with watching(server, asked(api, "labelSelector=a%3Db%3Dc")) as (_, head):
        assert head.startswith("HTTP/1.1 400 ")
    broken = WEBSOCKET.replace("Version: 13", "Version: 7")
    async with watching(server, asked(api, "", broken)) as (_, head):
        assert head.startswith("HTTP/1.1 400 ")


async def test_a_watch_that_asks_for_another_protocol_is_streamed_as_ever(server: APIServer, api: Api) -> None:
    other = "Connection: Upgrade\r\nUpgrade: h2c\r\n"
    async with watching(server, asked(api, "timeoutSeconds=1", other)) as (_, head):
        assert head.startswith("HTTP/1.1 200 ")
