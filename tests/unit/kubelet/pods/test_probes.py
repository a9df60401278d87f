"""Single probes and hooks against real servers, and what a kubelet makes of their verdicts."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from kubecore.clock import RealClock, VirtualClock
from kubecore.kubelet.pods import http_get as http_probe
from kubecore.kubelet.pods.hooks import run_hook
from kubecore.kubelet.pods.probes import Result, Target, Verdict, probe_once
from kubecore.kubelet.runtime.interface import ExecResult, RuntimeFailure
from tests.support.ports import free_port
from tests.unit.kubelet.conftest import Node, container

Object = dict[str, Any]

HERE = "127.0.0.1"


@dataclass
class Web:
    """Answers by path; `asked`: heads of requests."""

    port: int
    answers: Mapping[str, str]
    asked: list[list[str]] = field(default_factory=list)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.readexactly(1)
            if first == b"\x16":  # a handshake of TLS: Go's server, too, says at once what it thinks of it
                writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.")
                return
            head = (first + await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            self.asked.append([line for line in head if line])
            answer = self.answers.get(head[0].split(" ")[1], "404 Not Found\r\n\r\nnothing here")
            writer.write(f"HTTP/1.1 {answer}".replace("PORT", str(self.port)).encode())
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def web(answers: Mapping[str, str], tls: ssl.SSLContext | None = None) -> AsyncIterator[Web]:
    served = Web(0, answers)
    server = await asyncio.start_server(served.talk, HERE, 0, ssl=tls)
    served.port = server.sockets[0].getsockname()[1]
    async with server:
        yield served


def own_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("elsewhere.example").configure_cert(context)
    return context


def target(
    ports: Mapping[str, int] | None = None, execute: Callable[..., Any] | None = None, **variables: str
) -> Target:
    async def nothing(command: list[str], seconds: float) -> ExecResult:
        raise RuntimeFailure("ExecError", "no such program")

    return Target(HERE, ports or {}, execute or nothing, variables)


async def http_get(port: int | str, ports: Mapping[str, int] | None = None, **action: Any) -> Verdict:
    probe = {"httpGet": {"port": port, **action}, "timeoutSeconds": 60}
    return await probe_once(probe, target(ports), RealClock())


# ---------------------------------------------------------------------- http


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("200 OK\r\n\r\nfine", Verdict(Result.SUCCESS, "fine")),
        ("204 No Content\r\n\r\n", Verdict(Result.SUCCESS)),
        ("304 Not Modified\r\n\r\n", Verdict(Result.WARNING, "Probe terminated redirects, Response body: ")),
        ("400 Bad Request\r\n\r\na secret", Verdict(Result.FAILURE, "HTTP probe failed with statuscode: 400")),
        ("503 Unavailable\r\n\r\n", Verdict(Result.FAILURE, "HTTP probe failed with statuscode: 503")),
    ],
)
async def test_the_status_decides(answer: str, verdict: Verdict) -> None:
    async with web({"/": answer}) as server:
        assert await http_get(server.port) == verdict


class Answered:
    """An answer that comes in pieces (between `|`), none of which is read with the next one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: str, *, ends: bool = True) -> None:
        self._pieces = f"HTTP/1.1 {answer}".encode().split(b"|")
        self._ends = ends
        self._reader = asyncio.StreamReader()
        monkeypatch.setattr(http_probe, "_connect", self._connect)
        self.waited_for = asyncio.Event()

    async def _connect(self, parts: Any) -> tuple[asyncio.StreamReader, Any]:
        self._said = asyncio.create_task(self._say())
        return self._reader, SimpleNamespace(write=lambda data: None, drain=self._drain, close=lambda: None)

    async def _drain(self) -> None:
        """Sent at once."""

    async def _say(self) -> None:
        for piece in self._pieces:
            self._reader.feed_data(piece)
            for _ in range(10):
                await asyncio.sleep(0)
        if self._ends:
            self._reader.feed_eof()
        self.waited_for.set()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        ("200 OK\r\n\r\none|, two|, three", "one, two, three"),
        ("200 OK\r\nContent-Length: 8\r\n\r\none|, two|, and what does not count", "one, two"),
        ("200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r|\none\r\n5;x=y\r\n|, two\r\n0\r\n\r\n", "one, two"),
        ("103 Early Hints\r\nLink: </style.css>\r\n\r\n|HTTP/1.1 200 OK\r\n\r\nfine", "fine"),
        (f"200 OK\r\n\r\n{'x' * 9000}|{'x' * 9000}", "x" * 10 * 1024),
        ("204 No Content\r\nContent-Length: 5\r\n\r\n", ""),
    ],
)
async def test_a_body_is_read_to_its_end_however_it_comes(
    answer: str, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Answered(monkeypatch, answer)
    assert await http_get(80) == Verdict(Result.SUCCESS, body)


@pytest.mark.parametrize(
    "rest",
    [
        "Content-Length: 5\r\n\r\nhalf",
        "Content-Length: five\r\n\r\nall",
        "Transfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nmuch\r\n",
    ],
)
async def test_a_body_that_breaks_off_is_no_verdict(rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """(`pkg/probe/http`: that is an error of the probe.)"""
    Answered(monkeypatch, f"503 Unavailable\r\n{rest}")
    assert await http_get(80) == Verdict(Result.UNKNOWN, "unexpected EOF", "failure")


async def test_a_body_that_does_not_come_in_time_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()
    answered = Answered(monkeypatch, "200 OK\r\nContent-Length: 5\r\n\r\n|half", ends=False)
    verdict = asyncio.ensure_future(probe_once({"httpGet": {"port": 80}, "timeoutSeconds": 5}, target(), clock))
    await answered.waited_for.wait()
    await clock.advance(5)
    late = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
    assert await verdict == Verdict(Result.UNKNOWN, late, "failure")


@pytest.mark.parametrize(
    ("location", "verdict"),
    [
        ("/fine", Verdict(Result.SUCCESS, "fine")),
        ("http://127.0.0.1:PORT/fine", Verdict(Result.SUCCESS, "fine")),
        ("/broken", Verdict(Result.FAILURE, "HTTP probe failed with statuscode: 500")),
        ("http://0.0.0.0/", Verdict(Result.WARNING, "Probe terminated redirects, Response body: elsewhere")),
    ],
)
async def test_redirects_are_followed_within_the_host(location: str, verdict: Verdict) -> None:
    answers = {
        "/": f"302 Found\r\nLocation: {location}\r\n\r\nelsewhere",
        "/fine": "200 OK\r\n\r\nfine",
        "/broken": "500 Broken\r\n\r\n",
    }
    async with web(answers) as server:
        assert await http_get(server.port, path="/") == verdict


BAD_LOCATIONS = ["http://[", "http://127.0.0.1:99999/", "http://127.0.0.1:abc/", "//[half"]


@pytest.mark.parametrize("location", BAD_LOCATIONS)
async def test_a_redirect_to_what_is_no_url_is_a_failure(location: str) -> None:
    async with web({"/": f"302 Found\r\nLocation: {location}\r\n\r\n"}) as server:
        verdict = await http_get(server.port)
        url = f"http://{HERE}:{server.port}/"
        assert verdict.result is Result.FAILURE
        assert verdict.output.startswith(f'Get "{url}": failed to parse Location header "{location}": parse ')


async def test_a_host_that_is_none_says_nothing_of_the_container() -> None:
    verdict = await http_get(80, host="[half")
    assert verdict.result is Result.UNKNOWN
    assert verdict.output.startswith('parse "http://[half:80/": ')


async def test_redirects_that_do_not_end_are_a_failure() -> None:
    async with web({"/": "301 Moved\r\nLocation: /\r\n\r\n"}) as server:
        url = f"http://{HERE}:{server.port}/"
        assert await http_get(server.port) == Verdict(Result.FAILURE, f'Get "{url}": stopped after 10 redirects')
        assert len(server.asked) == 10


async def test_a_server_is_asked_as_the_probe_says() -> None:
    headers = [
        {"name": "Host", "value": "shop.example"},
        {"name": "X-Twice", "value": "1"},
        {"name": "X-Twice", "value": "2"},
        {"name": "Accept", "value": ""},
    ]
    async with web({"/healthz?full=1": "200 OK\r\n\r\n"}, own_certificate()) as server:
        verdict = await http_get(
            "web", {"web": server.port}, path="healthz?full=1", scheme="HTTPS", httpHeaders=headers
        )
        assert verdict.result is Result.SUCCESS
        (asked,) = server.asked
    assert asked == [
        "GET /healthz?full=1 HTTP/1.1",
        "Host: shop.example",
        "X-Twice: 1",
        "X-Twice: 2",
        "User-Agent: kube-probe/1.35",
        "Connection: close",
    ]


async def test_who_does_not_answer_has_failed_in_the_words_of_go() -> None:
    port = free_port()
    refused = f'Get "http://{HERE}:{port}/": dial tcp {HERE}:{port}: connect: connection refused'
    assert await http_get(port) == Verdict(Result.FAILURE, refused)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, HERE, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        verdict = await probe_once({"httpGet": {"port": port}, "timeoutSeconds": 0.05}, target(), RealClock())
    late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    assert verdict == Verdict(Result.FAILURE, f'Get "http://{HERE}:{port}/": {late}')


@pytest.mark.parametrize("kind", ["httpGet", "tcpSocket"])
@pytest.mark.parametrize(
    ("port", "told"),
    [("none", 'strconv.Atoi: parsing "none": invalid syntax'), ("70000", "invalid port number: 70000")],
)
async def test_a_port_that_is_none_says_nothing_of_the_container(kind: str, port: str, told: str) -> None:
    verdict = await probe_once({kind: {"port": port}}, target(), RealClock())
    assert verdict == Verdict(Result.UNKNOWN, told)


# ---------------------------------------------------------------------- tcp, exec


async def test_a_tcp_probe_succeeds_where_somebody_listens() -> None:
    async with web({}) as server:
        port, patient = server.port, {"timeoutSeconds": 60}
        here = {"tcpSocket": {"port": port}, **patient}
        assert (await probe_once(here, target(), RealClock())).result is Result.SUCCESS
        elsewhere = {"tcpSocket": {"port": port, "host": "127.0.0.2"}, **patient}
        told = f"dial tcp 127.0.0.2:{port}: connect: connection refused"
        assert await probe_once(elsewhere, target(), RealClock()) == Verdict(Result.FAILURE, told)


async def test_a_command_is_judged_by_its_exit_code_and_refers_to_the_container_s_own_variables() -> None:
    async def execute(command: list[str], seconds: float) -> ExecResult:
        return ExecResult(" ".join(command).encode(), b" err", int(command[0]))

    probe = {"exec": {"command": ["$(CODE)", "$(OTHER)", "$$(CODE)"]}}
    fine = await probe_once(probe, target(execute=execute, CODE="0"), RealClock())
    assert fine == Verdict(Result.SUCCESS, "0 $(OTHER) $(CODE) err")
    failed = await probe_once(probe, target(execute=execute, CODE="1"), RealClock())
    assert failed == Verdict(Result.FAILURE, "1 $(OTHER) $(CODE) err")


async def test_a_command_that_takes_too_long_has_failed_and_one_that_cannot_be_run_has_not() -> None:
    async def late(command: list[str], seconds: float) -> ExecResult:
        raise TimeoutError

    probe = {"exec": {"command": ["sleep", "5"]}, "timeoutSeconds": 2}
    told = 'command timed out: "sleep 5" timed out after 2s'
    assert await probe_once(probe, target(execute=late), RealClock()) == Verdict(Result.FAILURE, told)
    assert await probe_once(probe, target(), RealClock()) == Verdict(Result.UNKNOWN, "no such program")


# ---------------------------------------------------------------------- grpc


@asynccontextmanager
async def health_server(**services: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> AsyncIterator[int]:
    """Without services it does not know the protocol."""
    server = grpc.aio.server()
    if services:
        servicer = health.aio.HealthServicer()
        for name, status in services.items():
            await servicer.set(name, status)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"{HERE}:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def check(port: int, service: str = "", seconds: float = 60) -> Verdict:
    return await probe_once(
        {"grpc": {"port": port, "service": service}, "timeoutSeconds": seconds}, target(), RealClock()
    )


async def test_a_service_s_health_decides() -> None:
    status = health_pb2.HealthCheckResponse
    async with health_server(good=status.SERVING, bad=status.NOT_SERVING) as port:
        assert await check(port, "good") == Verdict(Result.SUCCESS, "service healthy")
        told = 'service unhealthy (responded with "NOT_SERVING")'
        assert await check(port, "bad") == Verdict(Result.FAILURE, told)
        assert await check(port, "none") == Verdict(
            Result.FAILURE, "error: health rpc probe failed: rpc error: code = NotFound desc = "
        )
    async with health_server() as port:
        verdict = await check(port)
    words = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): "
    assert verdict.result is Result.FAILURE
    assert verdict.output.startswith(words)


async def test_a_server_that_is_not_there_is_waited_for() -> None:
    port = free_port()
    told = f'timeout: failed to connect service "{HERE}:{port}" within 100ms: context deadline exceeded'
    assert await check(port, seconds=0.1) == Verdict(Result.FAILURE, told)


# ---------------------------------------------------------------------- hooks


async def hook(handler: Object) -> Verdict:
    return await run_hook(handler, target(), RealClock(), 60)


async def test_a_hook_is_content_with_any_answer() -> None:
    async with web({"/drain": "500 No\r\n\r\n"}) as server:
        assert await hook({"httpGet": {"port": server.port, "path": "/drain"}}) == Verdict(Result.SUCCESS)
        assert "User-Agent: kube-lifecycle/1.35" in server.asked[0]
    assert (await hook({"httpGet": {"port": free_port()}})).result is Result.FAILURE


@pytest.mark.parametrize("location", BAD_LOCATIONS)
async def test_a_hook_that_is_sent_to_what_is_no_url_has_failed(location: str) -> None:
    async with web({"/": f"302 Found\r\nLocation: {location}\r\n\r\n"}) as server:
        assert (await hook({"httpGet": {"port": server.port}})).result is Result.FAILURE


async def test_a_hook_asks_by_http_who_does_not_speak_https() -> None:
    headers = [{"name": "Authorization", "value": "secret"}, {"name": "X-One", "value": "1"}]
    async with web({"/": "200 OK\r\n\r\n"}) as server:
        verdict = await hook({"httpGet": {"port": server.port, "scheme": "HTTPS", "httpHeaders": headers}})
        told = f"request to HTTPS lifecycle hook {HERE}:{server.port} got HTTP response, retry with HTTP succeeded"
        assert verdict == Verdict(Result.WARNING, told)
        (asked,) = server.asked
    assert "X-One: 1" in asked
    assert not any(line.startswith("Authorization") for line in asked)


async def test_a_hook_by_tcp_is_none() -> None:
    async with web({}) as server:
        assert (await hook({"tcpSocket": {"port": server.port}})).result is Result.FAILURE


# ---------------------------------------------------------------------- what becomes of it


async def test_what_is_wrong_with_a_probe_is_told_and_makes_no_difference(node: Node) -> None:
    node.runtime.execute = lambda name, argv: ExecResult(b"", b"", 0)
    probe = {"httpGet": {"port": "none"}, "failureThreshold": 1}
    await node.run(container(livenessProbe=probe, readinessProbe={"exec": {"command": ["fine"]}}))
    await node.settle(30)
    told = 'Liveness probe errored and resulted in unknown state: strconv.Atoi: parsing "none": invalid syntax'
    assert node.events("Unhealthy") == [told]
    assert node.container()["ready"] is True
    assert node.container()["restartCount"] == 0


@pytest.mark.parametrize(("errors", "tries", "told"), [(2, 3, []), (3, 3, ["Startup probe errored"])])
async def test_a_probe_that_cannot_be_carried_out_is_tried_thrice_at_once(
    node: Node, errors: int, tries: int, told: list[str]
) -> None:
    answers: list[ExecResult | RuntimeFailure] = [RuntimeFailure("ExecError", "not now")] * errors
    answers.append(ExecResult(b"", b"", 0))

    def execute(name: str, argv: Sequence[str]) -> ExecResult:
        answer = answers.pop(0)
        if isinstance(answer, RuntimeFailure):
            raise answer
        return answer

    node.runtime.execute = execute
    probe = {"exec": {"command": ["fine"]}, "periodSeconds": 1000, "failureThreshold": 1}
    await node.run(container(startupProbe=probe))
    await node.settle(10)
    assert errors + 1 - len(answers) == tries
    assert [one.partition(" and ")[0] for one in node.events("Unhealthy")] == told
    assert node.container()["started"] is (not told)


async def test_a_probe_that_fails_is_not_tried_again_at_once(node: Node) -> None:
    tried: list[str] = []

    def execute(name: str, argv: Sequence[str]) -> ExecResult:
        tried.append(name)
        return ExecResult(b"", b"", 1)

    node.runtime.execute = execute
    await node.run(container(readinessProbe={"exec": {"command": ["no"]}, "periodSeconds": 1000}))
    await node.settle(10)
    assert tried == ["main"]
