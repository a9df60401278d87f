"""What HTTP/2 does not do by itself: answers to HEAD have no body, and a body that comes late costs no answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import h2.events
import pytest
import pytest_asyncio

from kubecore.apiserver.authentication.pki import KeyPair
from kubecore.apiserver.server import APIServer

from .test_smuggling import Stream2, context, master

pytestmark = pytest.mark.asyncio(loop_scope="module")

Event = h2.events.Event


class Client(Stream2):
    async def until(self, kind: type[Event]) -> list[Event]:
        """What came, up to and with what is waited for."""
        events: list[Event] = []
        await self.flush()
        async with asyncio.timeout(30):
            while not any(isinstance(one, kind) for one in events):
                data = await self.reader.read(65536)
                assert data, events
                for event in self.h2.receive_data(data):
                    if isinstance(event, h2.events.DataReceived) and event.stream_id:
                        self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
                    events.append(event)
                await self.flush()
        return events

    async def settled(self) -> list[Event]:
        """All that the server had said when it heard this."""
        self.h2.ping(b"8 bytes.")
        return await self.until(h2.events.PingAckReceived)

    def ask(self, method: str, path: str, *more: tuple[str, str], end: bool = True) -> int:
        number = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "here"), *more]
        self.h2.send_headers(number, head, end_stream=end)
        return number


async def connected(server: APIServer, folder: Path, pair: KeyPair | None) -> Client:
    tls = context(server, folder, pair, "h2")
    return Client(*await asyncio.open_connection("127.0.0.1", server.secure_port, ssl=tls))


@pytest_asyncio.fixture(loop_scope="module")
async def client(server: APIServer, tmp_path: Path) -> AsyncIterator[Client]:
    made = await connected(server, tmp_path, master(server))
    yield made
    made.writer.close()


@pytest_asyncio.fixture(loop_scope="module")
async def jane(server: APIServer, tmp_path: Path) -> AsyncIterator[Client]:
    """May do nothing, which she is told without her body. (Whoever is nobody is told that he may go besides.)"""
    made = await connected(server, tmp_path, server.issue_client_certificate("jane", []))
    yield made
    made.writer.close()


def head_of(events: list[Event]) -> dict[bytes, bytes]:
    (answer,) = (one for one in events if isinstance(one, h2.events.ResponseReceived))
    return dict(answer.headers or [])


def body_of(events: list[Event]) -> bytes:
    return b"".join(one.data or b"" for one in events if isinstance(one, h2.events.DataReceived))


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/readyz", ()),
        ("/version", ()),
        ("/metrics", ()),
        ("/apis", ()),
        ("/api/v1/nodes/none", ()),
        ("/none", ()),
        ("/api/v1/namespaces?timeout=soon", ()),
        ("/api/v1/namespaces?watch=1", (("accept", "text/none"),)),
    ],
)
async def test_the_answer_to_head_has_no_body(client: Client, path: str, more: tuple[tuple[str, str], ...]) -> None:
    assert int((await check_head(client, path, *more))[b":status"]) < 500


async def test_nor_has_that_to_who_may_not(jane: Client) -> None:
    assert (await check_head(jane, "/api/v1/namespaces"))[b":status"] == b"403"


async def check_head(client: Client, path: str, *more: tuple[str, str]) -> dict[bytes, bytes]:
    client.ask("HEAD", path, *more)
    measured = await client.until(h2.events.StreamEnded)
    assert body_of(measured) == b""
    client.ask("GET", path, *more)
    whole = await client.until(h2.events.StreamEnded)
    # Some have no HEAD, and of none are the metrics as they were.
    if head_of(whole)[b":status"] == head_of(measured)[b":status"] and path != "/metrics":
        assert int(head_of(measured)[b"content-length"]) == len(body_of(whole))
    return head_of(measured)


async def test_a_little_body_that_is_late_does_not_cost_the_answer(jane: Client) -> None:
    """Clients that are still writing read no answer of a stream that is reset."""
    number = jane.ask("POST", "/api/v1/namespaces", ("content-length", "71"), end=False)
    events = await jane.until(h2.events.StreamEnded)
    assert head_of(events)[b":status"] == b"403"
    events += await jane.settled()
    jane.h2.send_data(number, b" " * 71, end_stream=True)
    events += await jane.settled()
    assert not [one for one in events if isinstance(one, h2.events.StreamReset)]


async def test_nobody_is_to_send_megabytes_that_are_not_read(jane: Client) -> None:
    jane.ask("POST", "/api/v1/namespaces", ("content-length", str(1 << 20)), end=False)
    events = await jane.until(h2.events.StreamEnded) + await jane.settled()
    assert [one for one in events if isinstance(one, h2.events.StreamReset)]
