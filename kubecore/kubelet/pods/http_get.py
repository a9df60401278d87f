"""GET requests of probes and hooks, spoken by hand: what is needed is a status and a little of the body, and a cluster
must not load an HTTP client library for that.

After upstream `pkg/probe/http`: no certificate is judged, redirects are followed within a host, and errors are in the
words of Go's client.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

from kubecore import node_network

Object = dict[str, Any]

_BODY_BYTES = 10 * 1024
_HEADER_BYTES = 64 * 1024
_MOST_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class BadRequest(Exception):
    """There is nothing to be asked: no such port."""


class NoAnswer(Exception):
    """In the words of Go's HTTP client, URL included."""


class NotTls(NoAnswer):
    """Who was asked by HTTPS speaks HTTP."""


class BrokenBody(Exception):
    """An answer that has begun does not come to its end. In the words of Go's HTTP client."""


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: str


@dataclass
class Progress:
    """`in_body`: the head of an answer is there."""

    in_body: bool = False


def resolve_port(port: int | str, ports: Mapping[str, int]) -> int:
    """A number, a numeric text, or a name of one of the container's ports. Raises BadRequest."""
    if isinstance(port, str):
        if port in ports:
            return ports[port]
        if not port.lstrip("+-").isdecimal():
            raise BadRequest(f'strconv.Atoi: parsing "{port}": invalid syntax')
        port = int(port)
    if not 0 < port < 65536:
        raise BadRequest(f"invalid port number: {port}")
    return port


def url_of(action: Object, pod_ip: str, ports: Mapping[str, int]) -> str:
    """Raises BadRequest."""
    port = resolve_port(action["port"], ports)
    path = action.get("path") or ""
    slash = "" if path.startswith("/") else "/"
    url = f"{(action.get('scheme') or 'HTTP').lower()}://{joined(action.get('host') or pod_ip, port)}{slash}{path}"
    try:
        _parsed(url)
    except ValueError as error:
        raise BadRequest(f'parse "{url}": {error}') from error
    return url


def joined(host: str, port: int) -> str:
    """As in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parsed(url: str) -> SplitResult:
    """Raises ValueError, also for a port that is none, which is otherwise found only by who asks for it."""
    parts = urlsplit(url)
    _ = parts.port
    return parts


async def get(url: str, headers: Sequence[Object], agent: str, progress: Progress | None = None) -> Answer:
    """The last answer there is when redirects have been followed. `headers`: of a HTTPGetAction. Raises NoAnswer,
    BrokenBody."""
    asked, host = url, _hostname(url)
    progress = progress or Progress()
    fields = _headers(headers, agent)
    for _ in range(_MOST_REDIRECTS):
        answer = await _get(asked, fields, progress)
        location = answer.headers.get("location")
        if answer.status not in _REDIRECTS or not location:
            return answer
        following, elsewhere = _redirected(asked, location)
        if elsewhere:  # it is for another server than the one whose name was given
            fields = [(name, value) for name, value in fields if name.lower() != "host"]
        asked = following
        if urlsplit(asked).hostname != host:
            return answer
    raise NoAnswer(f'Get "{asked}": stopped after {_MOST_REDIRECTS} redirects')


def _hostname(url: str) -> str | None:
    """Raises NoAnswer."""
    try:
        return _parsed(url).hostname
    except ValueError as error:
        raise NoAnswer(f'Get "{url}": {error}') from error


def _redirected(asked: str, location: str) -> tuple[str, bool]:
    """Where a redirect leads, and whether it names a server. Raises NoAnswer: the server may send anything."""
    try:
        following = urljoin(asked, location)
        _parsed(following)
        return following, bool(urlsplit(location).netloc)
    except ValueError as error:
        told = f'failed to parse Location header "{location}": parse "{location}": {error}'
        raise NoAnswer(f'Get "{asked}": {told}') from error


def _headers(given: Sequence[Object], agent: str) -> list[tuple[str, str]]:
    """What is given, each as often as it is, and what is not in it of the usual."""
    found = [(one["name"], one.get("value", "")) for one in given]
    names = {name.lower() for name, _ in found}
    # An empty one stands for none.
    found = [(name, value) for name, value in found if value or name.lower() not in ("user-agent", "accept")]
    usual = (("User-Agent", agent), ("Accept", "*/*"))
    return [*found, *((name, value) for name, value in usual if name.lower() not in names)]


async def _get(url: str, fields: Sequence[tuple[str, str]], progress: Progress) -> Answer:
    parts = urlsplit(url)
    address = joined(parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 80))
    try:
        reader, writer = await _connect(parts)
        try:
            writer.write(_request(parts, fields))
            await writer.drain()
            return await _response(reader, progress)
        finally:
            writer.close()
    except ConnectionRefusedError as error:
        raise NoAnswer(f'Get "{url}": dial tcp {address}: connect: {reason(error)}') from error
    except ssl.SSLError as error:
        if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            raise NotTls(f'Get "{url}": http: server gave HTTP response to HTTPS client') from error
        raise NoAnswer(f'Get "{url}": {reason(error)}') from error
    except OSError as error:
        raise NoAnswer(f'Get "{url}": {reason(error)}') from error
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise NoAnswer(f'Get "{url}": EOF') from error
    except ValueError as error:
        raise NoAnswer(f'Get "{url}": net/http: HTTP/1.x transport connection broken') from error


async def _connect(parts: SplitResult) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = None
    if parts.scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 80)
    return await node_network.open_connection(parts.hostname or "", port, ssl=context, limit=_HEADER_BYTES)


def _request(parts: SplitResult, fields: Sequence[tuple[str, str]]) -> bytes:
    path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    host = next((value for name, value in fields if name.lower() == "host" and value), parts.netloc)
    others = [(name, value) for name, value in fields if name.lower() not in ("host", "connection")]
    lines = [f"{name}: {value}" for name, value in (("Host", host), *others, ("Connection", "close"))]
    return ("\r\n".join([f"GET {path} HTTP/1.1", *lines]) + "\r\n\r\n").encode("utf-8", "surrogateescape")


async def _response(reader: asyncio.StreamReader, progress: Progress) -> Answer:
    progress.in_body = False
    status, headers = await _head(reader)
    while 100 <= status < 200 and status != 101:  # it is only announced
        status, headers = await _head(reader)
    progress.in_body = True
    try:
        body = await _body(reader, status, headers)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        raise BrokenBody("unexpected EOF") from error
    except OSError as error:
        raise BrokenBody(reason(error)) from error
    return Answer(status, headers, body.decode("utf-8", "replace"))


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = await reader.readuntil(b"\r\n\r\n")
    line, *rest = head.decode("latin-1").split("\r\n")
    status = line.split(" ")
    if not status[0].startswith("HTTP/") or len(status) < 2:
        raise ValueError("malformed HTTP status line")
    fields = (field.partition(":") for field in rest if field)
    return int(status[1]), {name.strip().lower(): value.strip() for name, _, value in fields}


async def _body(reader: asyncio.StreamReader, status: int, headers: Mapping[str, str]) -> bytes:
    """As much of it as counts, however it comes: who says it is not to find the connection closed meanwhile."""
    if status in (101, 204, 304):
        return b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await _chunked(reader)
    if (length := headers.get("content-length")) is not None:
        return await reader.readexactly(min(int(length), _BODY_BYTES))
    body = b""
    while len(body) < _BODY_BYTES and (piece := await reader.read(_BODY_BYTES - len(body))):
        body += piece
    return body


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while len(body) < _BODY_BYTES:
        size = int((await reader.readuntil(b"\n")).partition(b";")[0], 16)
        if size == 0:
            break
        body += await reader.readexactly(min(size, _BODY_BYTES - len(body)))
        if len(body) < _BODY_BYTES:
            await reader.readexactly(2)
    return body


def reason(error: BaseException) -> str:
    """Go's words: lower case, without the number."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return text.lower() or type(error).__name__
