"""One probe of a container: exec, http or tcp, and its verdict.

After upstream `pkg/probe`. HTTP is spoken here by hand: a probe needs a status line and a little of the body, and
must not make a cluster load an HTTP client library.
"""

from __future__ import annotations

import asyncio
import enum
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kubecore.clock import Clock
from kubecore.kubelet.runtime.interface import ExecResult, RuntimeFailure

Object = dict[str, Any]

_BODY_BYTES = 10 * 1024
_HEADER_BYTES = 64 * 1024
USER_AGENT = "kube-probe/1.35"


class Result(enum.Enum):
    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"
    """The probe itself could not be carried out; counts as nothing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    result: Result
    output: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What is probed. `ports`: the container's named ports. `execute`: runs a command inside, with a time limit."""

    pod_ip: str
    ports: Mapping[str, int]
    execute: Callable[[list[str], float], Awaitable[ExecResult]]


async def probe_once(probe: Object, target: Target, clock: Clock) -> Verdict:
    """Carry out one probe; a timeout is a failure."""
    seconds = float(probe.get("timeoutSeconds") or 1)
    if "exec" in probe:
        return await _exec(probe["exec"], target, seconds)
    try:
        async with clock.timeout(seconds):
            if "httpGet" in probe:
                return await _http(probe["httpGet"], target)
            if "tcpSocket" in probe:
                return await _tcp(probe["tcpSocket"], target)
            if "grpc" in probe:
                return await _grpc(probe["grpc"], target)
    except TimeoutError:
        return Verdict(Result.FAILURE, _timeout_text(probe, target))
    return Verdict(Result.UNKNOWN, "no handler")


def resolve_port(port: int | str, ports: Mapping[str, int]) -> int:
    """A number, a numeric text, or a name of one of the container's ports; ValueError for an unknown name."""
    if isinstance(port, int):
        return port
    if port in ports:
        return ports[port]
    if port.isdigit():
        return int(port)
    raise ValueError(f'couldn\'t find port "{port}"')


def _timeout_text(probe: Object, target: Target) -> str:
    if "httpGet" in probe:
        with suppress(ValueError):
            return f'Get "{_url(probe["httpGet"], target)}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'  # noqa: E501 - the words of Go's client
    if "tcpSocket" in probe:
        with suppress(ValueError):
            port = resolve_port(probe["tcpSocket"]["port"], target.ports)
            return f"dial tcp {_joined(probe['tcpSocket'].get('host') or target.pod_ip, port)}: i/o timeout"
    return "timeout: deadline exceeded"


async def _exec(action: Object, target: Target, seconds: float) -> Verdict:
    command = list(action.get("command") or [])
    try:
        result = await target.execute(command, seconds)
    except TimeoutError:
        return Verdict(Result.FAILURE, f"command timed out: {' '.join(command)!r} timed out after {seconds:g}s")
    except RuntimeFailure as error:
        return Verdict(Result.UNKNOWN, error.message)
    output = (result.stdout + result.stderr)[:_BODY_BYTES].decode("utf-8", "replace")
    return Verdict(Result.SUCCESS if result.exit_code == 0 else Result.FAILURE, output)


async def _tcp(action: Object, target: Target) -> Verdict:
    host = action.get("host") or target.pod_ip
    try:
        port = resolve_port(action["port"], target.ports)
    except ValueError as error:
        return Verdict(Result.UNKNOWN, str(error))
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return Verdict(Result.FAILURE, f"dial tcp {_joined(host, port)}: connect: {_reason(error)}")
    writer.close()
    return Verdict(Result.SUCCESS)


def _url(action: Object, target: Target) -> str:
    port = resolve_port(action["port"], target.ports)
    path = action.get("path") or "/"
    slash = "" if path.startswith("/") else "/"
    host = action.get("host") or target.pod_ip
    return f"{(action.get('scheme') or 'HTTP').lower()}://{_joined(host, port)}{slash}{path}"


def _joined(host: str, port: int) -> str:
    """As in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _http(action: Object, target: Target) -> Verdict:
    try:
        url = _url(action, target)
    except ValueError as error:
        return Verdict(Result.UNKNOWN, str(error))
    secure, _, rest = url.partition("://")
    address, slash, path = rest.partition("/")
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    context = None
    if secure == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context, limit=_HEADER_BYTES)
        try:
            writer.write(_request(action, address, slash + path))
            await writer.drain()
            code, body = await _response(reader)
        finally:
            writer.close()
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        why = f"dial tcp {address}: connect: {_reason(error)}" if isinstance(error, ConnectionRefusedError) else "EOF"
        if isinstance(error, OSError) and not isinstance(error, ConnectionRefusedError):
            why = f"{_reason(error)}"
        return Verdict(Result.FAILURE, f'Get "{url}": {why}')
    except ValueError:
        return Verdict(Result.FAILURE, f'Get "{url}": net/http: HTTP/1.x transport connection broken')
    if 200 <= code < 400:
        return Verdict(Result.SUCCESS, body)
    return Verdict(Result.FAILURE, f"HTTP probe failed with statuscode: {code}")


def _request(action: Object, address: str, path: str) -> bytes:
    headers = {"Host": address, "User-Agent": USER_AGENT, "Accept": "*/*", "Connection": "close"}
    for header in action.get("httpHeaders") or []:
        name, value = header["name"], header.get("value", "")
        headers = {known: text for known, text in headers.items() if known.lower() != name.lower()}
        if value or name.lower() not in ("user-agent", "accept"):
            headers[name] = value
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


async def _response(reader: asyncio.StreamReader) -> tuple[int, str]:
    head = await reader.readuntil(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split(b" ")
    if not status[0].startswith(b"HTTP/") or len(status) < 2:
        raise ValueError("malformed HTTP status line")
    body = await reader.read(_BODY_BYTES)
    return int(status[1]), body.decode("utf-8", "replace")


async def _grpc(action: Object, target: Target) -> Verdict:
    """grpc.health.v1 Check of the service (empty: the server)."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    address = _joined(target.pod_ip, action["port"])
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=action.get("service") or ""))
        except grpc.aio.AioRpcError as error:
            return Verdict(Result.FAILURE, f'error: health rpc probe failed: {error.details()} ("{address}")')
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return Verdict(Result.SUCCESS, "service healthy")
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return Verdict(Result.FAILURE, f'service unhealthy (responded with "{name}")')


def _reason(error: BaseException) -> str:
    """Go's words: lower case, without the number."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return text.lower() or type(error).__name__
