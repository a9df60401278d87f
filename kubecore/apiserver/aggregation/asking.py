"""Our own requests to extension API servers: probes, documents, and what components of this process ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from kubecore import node_network
from kubecore.api.queries import escaped_path
from kubecore.apiserver.aggregation.resolving import Address
from kubecore.apiserver.webhooks.bodies import HEADS

if TYPE_CHECKING:
    import aiohttp

    from kubecore._native import UserInfo
    from kubecore.apiserver.aggregation.identity import FrontProxy
    from kubecore.apiserver.aggregation.remotes import Backend
    from kubecore.apiserver.aggregation.resolving import Resolver
    from kubecore.clock import Clock

# What a header's name may have unescaped (RFC 7230).
_TOKEN_CHARACTERS = "!#$&'*+-.^_`|~"


class Unreachable(Exception):
    """No answer; the text says why, in Go's words."""


class Answer(NamedTuple):
    status: int
    content_type: str
    headers: Mapping[str, str]
    body: bytes


class _Call(NamedTuple):
    backend: Backend
    url: str
    user: UserInfo
    method: str = "GET"
    query: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})
    whole: bool = True


class Asker:
    """Requests that wait for their whole answer, and watches. Connections are kept; `close` ends them."""

    def __init__(self, identity: FrontProxy, resolver: Resolver, clock: Clock) -> None:
        self._identity = identity
        self.resolver = resolver
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self,
        backend: Backend,
        path: str,
        user: UserInfo,
        *,
        method: str = "GET",
        query: str = "",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        seconds: float = 60.0,
        whole: bool = True,
    ) -> Answer:
        """Without its body where that is no matter (`whole`). Raises Unresolvable, Untrusted, Unreachable."""
        call = _Call(backend, url(self.resolver(backend), path), user, method, query, body, headers or {}, whole)
        # A Task of its own: handlers run without one, and a time-out needs something to cancel.
        return await asyncio.get_running_loop().create_task(self._timely(call, seconds), name="extension API server")

    async def _timely(self, call: _Call, seconds: float) -> Answer:
        import aiohttp

        try:
            async with self._clock.outside(seconds):
                async with self._request(call) as answer:
                    content = await answer.read() if call.whole else b""
                return Answer(answer.status, answer.headers.get("Content-Type", ""), answer.headers, content)
        except TimeoutError:
            # As Go's client has it whose own time is over.
            more = "" if call.whole else " (Client.Timeout exceeded while awaiting headers)"
            raise Unreachable(f'{call.method.capitalize()} "{call.url}": context deadline exceeded{more}') from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(f'{call.method.capitalize()} "{call.url}": {_why(error)}') from error

    async def lines(self, backend: Backend, path: str, user: UserInfo, query: str) -> AsyncIterator[bytes]:
        """Of a watch, until it ends; of another answer its body. Raises Unresolvable, Untrusted, Unreachable."""
        import aiohttp

        call = _Call(backend, url(self.resolver(backend), path), user, query=query)
        try:
            async with self._request(call) as answer:
                rest = b""
                async for piece in answer.content.iter_any():
                    *whole, rest = (rest + piece).split(b"\n")
                    for line in whole:
                        yield line
                if rest:
                    yield rest
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(_why(error)) from None

    def _request(self, call: _Call) -> aiohttp.client._RequestContextManager:
        from multidict import CIMultiDict
        from yarl import URL

        told, user = CIMultiDict(call.headers), call.user
        told["X-Remote-User"] = user.username
        if user.uid:
            told["X-Remote-Uid"] = user.uid
        for group in user.groups:
            told.add("X-Remote-Group", group)
        for key, values in user.extra.items():
            for value in values:
                told.add(f"X-Remote-Extra-{quote(key, safe=_TOKEN_CHARACTERS)}", value)
        return self._opened().request(
            call.method,
            URL(call.url + (f"?{call.query}" if call.query else ""), encoded=True),
            data=call.body or None,
            headers=told,
            ssl=self._identity.context(call.backend),
            server_hostname=call.backend.host,
            allow_redirects=False,
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, socket_factory=node_network.of_address),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=1 << 20,
                **HEADS,
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def url(address: Address, path: str) -> str:
    return f"https://{address}{escaped_path(path)}"


def _why(error: BaseException) -> str:
    from kubecore.apiserver.webhooks.wording import said

    return said(error)
