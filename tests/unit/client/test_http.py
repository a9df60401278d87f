from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kubecore.api.errors import StatusError
from kubecore.client.http import HTTPTransport
from kubecore.client.kubeconfig import Kubeconfig

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[HTTPTransport]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    opened: list[HTTPTransport | TestServer] = []

    async def start(handler: Handler) -> HTTPTransport:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(application)
        await server.start_server()
        transport = HTTPTransport(Kubeconfig(server=f"http://{server.host}:{server.port}", token="secret"))
        opened[:] = [transport, server]
        return transport

    yield start
    for one in opened:
        await one.close()


async def test_a_request_carries_query_body_and_token(serve: Serve) -> None:
    async def echo(request: web.Request) -> web.Response:
        seen = {k: request.headers[k] for k in ("Content-Type", "Authorization")}
        seen["query"], seen["body"] = request.query["a"], (await request.read()).decode()
        return web.json_response({**seen, "method": request.method}, status=201)

    code, body = await (await serve(echo)).request(
        "PATCH", "/x", query={"a": "b c"}, body=b"{}", content_type="application/merge-patch+json"
    )
    assert code == 201
    assert b"merge-patch" in body and b"Bearer secret" in body and b"b c" in body and b"PATCH" in body


async def test_watch_lines_come_in_batches_whatever_the_chunks_are(serve: Serve) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b'{"type":"ADDED","object":{"a":1}}\n{"type":"MODIFIED","obj')
        await answer.write(b'ect":{"a":2}}\n')
        return answer

    batches = [batch async for batch in (await serve(stream)).watch("/x")]
    events = [event for batch in batches for event in batch]
    assert [(event.type, event.object) for event in events] == [("ADDED", b'{"a":1}'), ("MODIFIED", b'{"a":2}')]


async def test_a_refused_watch_raises_the_status(serve: Serve) -> None:
    async def refuse(_: web.Request) -> web.Response:
        status = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no"}
        return web.json_response(status, status=403)

    transport = await serve(refuse)
    with pytest.raises(StatusError) as refused:
        async for _ in transport.watch("/x"):
            pass
    assert refused.value.reason == "Forbidden"


async def test_an_unreachable_server_is_an_os_error() -> None:
    transport = HTTPTransport(Kubeconfig(server="http://127.0.0.1:1"))
    with pytest.raises(OSError):
        await transport.request("GET", "/x")
    await transport.close()
