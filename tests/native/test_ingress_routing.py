"""The Ingress proxy with real sockets: what goes where, and in which shape it arrives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubecore._native import IngressProxy
from tests.support.http_peers import Backend, Connection, connected, serving


class Plane:
    """A proxy that listens for HTTP."""

    def __init__(self, **options: float) -> None:
        self.proxy = IngressProxy(**options)  # type: ignore[arg-type]
        self.port = self.proxy.listen("127.0.0.1", 0)

    def lead(self, backend: str, *ports: int, **options: object) -> None:
        destinations = [("127.0.0.1", port, 1) for port in ports]
        self.proxy.set_backend(backend, destinations, **options)  # type: ignore[arg-type]

    def route(self, *routes: tuple[bool, str, str], host: str = "foo.com", default: str = "") -> None:
        made = [(exact, path, backend, "default/web") for exact, path, backend in routes]
        self.proxy.set_hosts([(host, (made, (default, "default/web") if default else None))])


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    plane = Plane()
    yield plane
    await asyncio.to_thread(plane.proxy.shutdown)


@pytest.fixture
async def client(plane: Plane) -> AsyncIterator[Connection]:
    async with connected(plane.port) as connection:
        yield connection


async def test_requests_go_by_host_and_path(plane: Plane, client: Connection) -> None:
    async with serving(Backend("shop")) as shop, serving(Backend("cart")) as cart, serving(Backend("any")) as other:
        for name, port in (("shop", shop), ("cart", cart), ("any", other)):
            plane.lead(name, port)
        plane.route((False, "/", "shop"), (False, "/cart", "cart"), (True, "/exact", "any"))
        plane.route((False, "/", "any"), host="*.foo.com")
        found = [
            (await client.ask(path, host=host)).text
            for host, path in (
                ("foo.com", "/"),
                ("FOO.com:8080", "/cart?x=1"),
                ("foo.com", "/cart/items"),
                ("foo.com", "/cartoon"),
                ("foo.com", "/exact"),
                ("foo.com", "/exact/"),
                ("www.foo.com", "/cart"),
            )
        ]
    assert found == ["shop", "cart", "cart", "shop", "any", "shop", "any"]


async def test_what_no_rule_is_for_is_not_found(plane: Plane, client: Connection) -> None:
    plane.route((False, "/a", "backend"))
    assert [(await client.ask(path, host=host)).status for host, path in (("foo.com", "/b"), ("bar.com", "/a"))] == [
        404,
        404,
    ]


async def test_default_backends_take_what_no_rule_is_for(plane: Plane, client: Connection) -> None:
    async with serving(Backend("of the host")) as host, serving(Backend("of all")) as all_:
        plane.lead("host", host)
        plane.lead("all", all_)
        plane.route((False, "/a", "missing"), default="host")
        plane.proxy.set_fallback(("all", "default/web"))
        assert (await client.ask("/b")).text == "of the host"
        assert (await client.ask("/b", host="bar.com")).text == "of all"


async def test_a_backend_without_destinations_is_unavailable(plane: Plane, client: Connection) -> None:
    plane.route((False, "/", "empty"))
    assert (await client.ask()).status == 503
    plane.lead("empty")
    assert (await client.ask()).status == 503


async def test_dot_segments_cannot_get_around_a_route(plane: Plane, client: Connection) -> None:
    async with serving(Backend("public")) as public, serving(Backend("admin")) as admin:
        plane.lead("public", public)
        plane.lead("admin", admin)
        plane.route((False, "/public", "public"), (False, "/admin", "admin"))
        for path in ("/public/../admin", "/public/%2e%2e/admin", "/public/%2E./admin/"):
            assert (await client.ask(path)).text == "admin"


@pytest.mark.parametrize("asked", ["/gr%C3%B6%C3%9Fe/a%20b", "/gr%c3%b6%c3%9fe/%61%20b", "/größe/a%20b"])
async def test_paths_are_found_however_they_are_encoded_and_passed_on_as_they_came(
    plane: Plane, client: Connection, asked: str
) -> None:
    backend = Backend()
    async with serving(backend) as port:
        plane.route((True, "/größe/a b", "web"))
        plane.lead("web", port)
        assert (await client.ask(asked)).status == 200
    assert backend.heads[-1].line == f"GET {asked} HTTP/1.1"


async def test_destinations_are_told_about_the_client_and_nothing_meant_for_neighbours(
    plane: Plane, client: Connection
) -> None:
    backend = Backend()
    async with serving(backend) as port:
        plane.lead("web", port)
        plane.route((False, "/", "web"))
        lies = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n"
        hops = (
            "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nTE: gzip\r\nProxy-Connection: x\r\n"
        )
        await client.ask("/a?b=c", host="foo.com:81", headers=lies + hops + "X-Mine: 1\r\n")
    assert backend.heads[0].line == "GET /a?b=c HTTP/1.1"
    assert backend.heads[0].headers == {
        "host": "foo.com:81",
        "x-mine": "1",
        "x-forwarded-for": "127.0.0.1",
        "x-real-ip": "127.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-port": str(plane.port),
        "x-forwarded-host": "foo.com:81",
    }


async def test_a_target_with_an_authority_counts_more_than_the_host_header(plane: Plane, client: Connection) -> None:
    backend = Backend()
    async with serving(backend) as port:
        plane.lead("web", port)
        plane.route((False, "/", "web"))
        answer = await client.ask("http://foo.com/x", host="other.com")
    assert (answer.status, backend.heads[0].line, backend.heads[0].headers["host"]) == (
        200,
        "GET /x HTTP/1.1",
        "foo.com",
    )


async def test_connections_to_destinations_are_used_again(plane: Plane, client: Connection) -> None:
    backend = Backend()
    async with serving(backend) as port:
        plane.lead("web", port)
        plane.route((False, "/", "web"))
        for method in ("GET", "HEAD", "GET", "DELETE"):
            assert (await client.ask(method=method)).status == 200
        async with connected(plane.port) as other:
            assert (await other.ask()).status == 200
    assert backend.connections == 1
    assert len(backend.heads) == 5


async def test_requests_are_balanced_one_by_one(plane: Plane, client: Connection) -> None:
    async with serving(Backend("a")) as first, serving(Backend("b")) as second:
        plane.lead("web", first, second)
        plane.route((False, "/", "web"))
        answers = [(await client.ask()).text for _ in range(6)]
    assert sorted(answers) == ["a", "a", "a", "b", "b", "b"]
    assert answers[0] != answers[1]


async def test_a_client_with_affinity_stays_where_it_is(plane: Plane, client: Connection) -> None:
    async with serving(Backend("a")) as first, serving(Backend("b")) as second:
        plane.lead("web", first, second, persistence_seconds=60.0)
        plane.route((False, "/", "web"))
        assert len({(await client.ask()).text for _ in range(6)}) == 1


async def test_a_changed_table_counts_from_the_next_request_on(plane: Plane, client: Connection) -> None:
    async with serving(Backend("old")) as old, serving(Backend("new")) as new:
        plane.lead("old", old)
        plane.lead("new", new)
        plane.route((False, "/", "old"))
        assert (await client.ask()).text == "old"
        plane.route((False, "/", "new"))
        assert (await client.ask()).text == "new"
        plane.proxy.set_hosts([("foo.com", None)])
        assert (await client.ask()).status == 404


async def test_bodies_go_both_ways_in_the_framing_they_came_in(plane: Plane, client: Connection) -> None:
    backend = Backend("x" * 100_000)
    async with serving(backend) as port:
        plane.lead("web", port)
        plane.route((False, "/", "web"))
        await client.send("POST / HTTP/1.1\r\nHost: foo.com\r\nContent-Length: 5\r\n\r\nhello")
        assert len((await client.receive()).body) == 100_000
        await client.send(
            "POST / HTTP/1.1\r\nHost: foo.com\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        assert (await client.receive()).status == 200
    assert backend.bodies == [b"hello", b"abcde"]
    assert [sorted({"content-length", "transfer-encoding"} & head.headers.keys()) for head in backend.heads] == [
        ["content-length"],
        ["transfer-encoding"],
    ]


async def test_a_client_that_waits_for_100_is_told_to_go_on(plane: Plane, client: Connection) -> None:
    backend = Backend()
    async with serving(backend) as port:
        plane.lead("web", port)
        plane.route((False, "/", "web"))
        await client.send("POST / HTTP/1.1\r\nHost: foo.com\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.receive(body=False)).status == 100
        await client.send("ok")
        assert (await client.receive()).status == 200
    assert backend.bodies == [b"ok"]
    assert "expect" not in backend.heads[0].headers


async def test_each_request_is_a_line_in_the_access_log_and_counted(plane: Plane, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    plane.proxy.log_to(log)
    async with serving(Backend("hello")) as port, connected(plane.port) as client:
        plane.lead("default/web:80", port)
        plane.route((False, "/", "default/web:80"))
        await client.ask("/a?b", headers="User-Agent: test\r\n")
        await client.ask("/", host="bar.com")
    await asyncio.to_thread(plane.proxy.log_to, None)
    first, second = (json.loads(line) for line in log.read_text().splitlines())
    assert {
        key: first[key] for key in ("method", "host", "path", "status", "bytes", "backend", "ingress", "attempts")
    } == {
        "method": "GET",
        "host": "foo.com",
        "path": "/a?b",
        "status": 200,
        "bytes": 5,
        "backend": "default/web:80",
        "ingress": "default/web",
        "attempts": 1,
    }
    assert (first["destination"], first["user_agent"], first["tls"]) == (f"127.0.0.1:{port}", "test", False)
    assert (second["status"], "backend" in second) == (404, False)
    counts = plane.proxy.statistics()
    assert counts["statuses"] == [(200, 1), (404, 1)]
    assert [(name, answers) for name, answers, _ in counts["backends"]] == [("default/web:80", [0, 0, 1, 0, 0, 0])]
