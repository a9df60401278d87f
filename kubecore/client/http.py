"""The transport over HTTP(S), from a kubeconfig. Imported only where it is used: aiohttp costs start time."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import msgspec

from kubecore.api.errors import StatusError
from kubecore.client.kubeconfig import Kubeconfig
from kubecore.client.transport import NO_QUERY, Event
from kubecore.metrics import Counter, Named
from kubecore.server_trust import trusting

_CONNECT_SECONDS = 10.0
_REQUEST_SECONDS = 60.0


_REQUESTS = Named(
    "rest_client_requests_total",
    "[ALPHA] Number of HTTP requests, partitioned by status code, method, and host.",
    ("code", "method", "host"),
)


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


_LINE = msgspec.json.Decoder(_Line)


class HTTPTransport:
    """Satisfies kubecore.client.transport.Transport; open connections are pooled, watches have one each.

    Its time limits on connecting and answering are the socket's own business, not the cluster's: they use the event
    loop's time, also where a virtual clock drives everything else. `requests` counts them.
    """

    def __init__(
        self, config: Kubeconfig, *, user_agent: str = "kubecore", token: Callable[[], Awaitable[str]] | None = None
    ) -> None:
        """`token` is asked before each request, for bearer tokens that must be renewed."""
        self._config = config
        self._server = config.server
        self._ssl: ssl.SSLContext | bool = _tls(config) if config.server.startswith("https:") else True
        self._server_name = config.tls_server_name or None
        self._headers = {"User-Agent": user_agent, "Accept": "application/json"}
        if config.token:
            self._headers["Authorization"] = f"Bearer {config.token}"
        self._token = token
        self._session: aiohttp.ClientSession | None = None
        self._host = urlsplit(config.server).netloc
        self.requests = Counter(_REQUESTS)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = NO_QUERY,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> tuple[int, bytes]:
        headers = await self._credentials()
        if body is not None:
            headers["Content-Type"] = content_type
        timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS, connect=_CONNECT_SECONDS)
        try:
            async with self._open().request(
                method,
                self._server + path,
                params=dict(query),
                data=body,
                headers=headers,
                timeout=timeout,
                ssl=self._ssl,
                server_hostname=self._server_name,
            ) as answer:
                self.requests.add(str(answer.status), method, self._host)
                return answer.status, await answer.read()
        except aiohttp.ClientError as error:
            self.requests.add("<error>", method, self._host)
            raise _unreachable(error) from error

    async def watch(self, path: str, *, query: Mapping[str, str] = NO_QUERY) -> AsyncGenerator[list[Event], None]:
        timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_SECONDS, sock_connect=_CONNECT_SECONDS)
        headers = await self._credentials()
        try:
            async with self._open().get(
                self._server + path,
                params=dict(query),
                headers=headers,
                timeout=timeout,
                ssl=self._ssl,
                server_hostname=self._server_name,
            ) as answer:
                self.requests.add(str(answer.status), "GET", self._host)
                if answer.status != 200:
                    raise StatusError.from_body(answer.status, await answer.read())
                async for batch in _batches(answer.content):
                    yield batch
        except aiohttp.ClientError as error:
            raise _unreachable(error) from error

    def use_certificate(self, certificate: bytes, key: bytes) -> None:
        """Be known by another one from now on (PEM), and by no token: on new connections, those that are open go on."""
        self._config = replace(self._config, client_certificate=certificate, client_key=key, token="")
        self._headers.pop("Authorization", None)
        if self._session is not None:
            self._session.headers.pop("Authorization", None)
        if self._server.startswith("https:"):
            self._ssl = _tls(self._config)  # connections are kept by what they were made with

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _credentials(self) -> dict[str, str]:
        return {} if self._token is None else {"Authorization": f"Bearer {await self._token()}"}

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=90)
            self._session = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return self._session


async def _batches(content: aiohttp.StreamReader) -> AsyncGenerator[list[Event], None]:
    """The complete lines of each chunk that arrived, together."""
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk if rest else chunk).split(b"\n")
        events = [_decode(line) for line in lines if line]
        if events:
            yield events


def _decode(line: bytes) -> Event:
    decoded = _LINE.decode(line)
    return Event(decoded.type, bytes(decoded.object))


def _unreachable(error: aiohttp.ClientError) -> OSError:
    if isinstance(error, aiohttp.ClientConnectorError):
        # Its own text shows Python's objects.
        cause, number = error.os_error, error.os_error.errno or 0
        why = os.strerror(number) if number > 0 else cause.strerror or str(cause)
        return ConnectionError(f"cannot connect to {error.host}:{error.port}: {why}")
    return error if isinstance(error, OSError) else ConnectionError(str(error) or type(error).__name__)


def _tls(config: Kubeconfig) -> ssl.SSLContext:
    context = trusting(config.certificate_authority.decode())
    if config.insecure_skip_tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if config.client_certificate:
        _load_client_certificate(context, config.client_certificate, config.client_key)
    return context


def _load_client_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # the ssl module reads certificates from files only
    descriptor, name = tempfile.mkstemp(prefix="kubecore-client-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(certificate if certificate == key else certificate.rstrip() + b"\n" + key)
        context.load_cert_chain(name)
    finally:
        Path(name).unlink()
