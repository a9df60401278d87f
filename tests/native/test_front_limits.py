"""Clients that take their time, or too much room: heads that never end, bodies that never come, names without end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from kubecore import _native
from kubecore.apiserver.authentication.pki import CertificateAuthority
from kubecore.clock import RealClock

SECONDS = 0.4


@asynccontextmanager
async def serving(seconds: float) -> AsyncIterator[tuple[_native.Front, int]]:
    made = _native.Front(
        _native.WatchCache(), header_timeout=seconds, idle_timeout=seconds, body_timeout=seconds, max_connections=8
    )
    made.set_ready(True)
    yield made, made.listen_plain("127.0.0.1", 0)
    made.shutdown(0)


@pytest.fixture
async def front() -> AsyncIterator[tuple[_native.Front, int]]:
    async with serving(SECONDS) as made:
        yield made


@pytest.fixture
async def patient() -> AsyncIterator[tuple[_native.Front, int]]:
    """For what is to be answered: on a slow machine a client may need its time."""
    async with serving(60) as made:
        yield made


async def answered(port: int, *first: bytes, drops: bytes = b"") -> bytes:
    """What the server says until it ends the connection to whoever goes on with `drops` for ever, each in time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        for piece in itertools.chain(first, itertools.repeat(drops) if drops else ()):
            writer.write(piece)
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), SECONDS / 8)

    sending = asyncio.create_task(send())
    answer = b""
    # Where a drop came after the last look, nobody reads it, and the end is a reset.
    with suppress(ConnectionResetError):
        while piece := await asyncio.wait_for(reader.read(1 << 16), 60):
            answer += piece
    sending.cancel()
    writer.close()
    return answer


HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


async def test_a_head_that_comes_in_drops_has_an_end(front: tuple[_native.Front, int]) -> None:
    """Slow-loris: each drop in time, the head as a whole never."""
    _, port = front
    assert b"200 OK" not in await answered(port, HEAD, drops=b"X-A: b\r\n")


async def test_who_says_nothing_at_all_is_not_waited_for(front: tuple[_native.Front, int]) -> None:
    _, port = front
    assert await answered(port) == b""


async def test_a_second_request_is_not_waited_for_either() -> None:
    async with serving(2.0) as (_, port):
        answer = await answered(port, HEAD + b"\r\n", HEAD)
        assert answer.count(b"HTTP/1.1 ") == 1


async def test_a_body_that_comes_in_drops_has_an_end(front: tuple[_native.Front, int]) -> None:
    _, port = front
    head = b"POST /api/v1/namespaces HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    assert b"HTTP/1.1 2" not in await answered(port, head, drops=b"{")


async def test_connections_beyond_the_bound_are_ended_and_those_within_it_served(
    patient: tuple[_native.Front, int],
) -> None:
    _, port = patient
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
    for reader, writer in held:
        writer.write(HEAD + b"\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD + b"\r\n")
    # Where it was written before the end, nobody reads it, and the end is a reset.
    with suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 60) == b""
    for _, writer in held:
        writer.close()


async def test_plain_http_where_tls_is_served_is_told_so(patient: tuple[_native.Front, int], tmp_path: Path) -> None:
    made, _ = patient
    pair = CertificateAuthority(tmp_path, RealClock()).serving("front", ["127.0.0.1"])
    port = made.listen_tls("127.0.0.1", 0, _native.ServingCertificate(pair.certificate, pair.key))
    answer = await answered(port, HEAD + b"\r\n")
    assert answer == b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


async def test_names_that_clients_make_up_are_no_labels_of_metrics(patient: tuple[_native.Front, int]) -> None:
    made, port = patient
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(made.fileno(), asked.set)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(100):
        path = f"/apis/g{number}/v1/things{number}/a/sub{number}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        requests: list[_native.Request] = []
        while not requests:
            await asyncio.wait_for(asked.wait(), 60)
            asked.clear()
            requests = made.drain(1)
        requests[0].respond(404, b"{}", "application/json")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n{}"), 60)
    loop.remove_reader(made.fileno())
    writer.close()
    told = [line for line in made.metrics().decode().splitlines() if line.startswith("apiserver_request_total")]
    assert told == [
        'apiserver_request_total{code="404",component="apiserver",dry_run="",group="",resource="",scope="",'
        'subresource="",verb="other",version=""} 100'
    ]
