"""A call's requests go the way of REST's: through the front, as whoever is at the other end of the call's connection.

So who asks is judged, impersonates, is counted, recorded and limited there. Of the metadata the front heeds what REST
has as headers: credentials, `user-agent`, `impersonate-*`, a proxy's word of its users.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

import msgspec

from kubecore.api import errors
from kubecore.api.errors import StatusError
from kubecore.apiserver.grpc.telling import AUDIT_ID

if TYPE_CHECKING:
    from kubecore._native import CarriedAnswer, TunnelCall
    from kubecore.apiserver.grpc.telling import Telling

Metadata = Iterable[tuple[str, str | bytes]]


class Event(NamedTuple):
    type: str
    object: bytes


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


_LINE = msgspec.json.Decoder(_Line)


class FrontTransport:
    """Satisfies kubecore.apiserver.grpc.service.Transport for one call."""

    def __init__(self, call: TunnelCall, metadata: Metadata, telling: Telling) -> None:
        """`telling` hears what the answers' headers say."""
        self._call = call
        self._telling = telling
        self._headers = [(name, value) for name, value in metadata if isinstance(value, str) and name != AUDIT_ID]
        self._headers.append((AUDIT_ID, telling.audit_id))

    async def request(
        self, method: str, path: str, *, query: Mapping[str, str], body: bytes | None, content_type: str
    ) -> tuple[int, bytes]:
        """Never raises for an HTTP status, but StatusError (414) for a request that HTTP has no place for."""
        there = asyncio.Event()
        answer = self._ask(method, path, query, body or b"", content_type, there, whole=True)
        try:
            while (piece := answer.take()) == b"":
                await _more(there)
            whole = piece or b""
        finally:
            answer.leave()
        self._telling.warn(answer.warnings)
        if answer.status == 429:
            return 429, _too_many(whole, answer.retry_after).to_json()
        return answer.status, whole

    async def watch(self, path: str, *, query: Mapping[str, str]) -> AsyncIterator[list[Event]]:
        """Raises StatusError when it is refused."""
        there = asyncio.Event()
        answer = self._ask("GET", path, {**query, "watch": "true"}, b"", "", there, whole=False)
        try:
            while not answer.status:
                await _more(there)
            self._telling.warn(answer.warnings)
            await self._telling.begin()
            pieces = _pieces(answer, there)
            if answer.status != 200:
                told = b"".join([piece async for piece in pieces])
                raise _refusal(answer, told)
            rest = b""
            async for piece in pieces:
                *lines, rest = (rest + piece if rest else piece).split(b"\n")
                if events := [_event(line) for line in lines if line]:
                    yield events
        finally:
            answer.leave()

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: bytes,
        content_type: str,
        there: asyncio.Event,
        *,
        whole: bool,
    ) -> CarriedAnswer:
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            return self._call.ask(method, target, self._headers, body, content_type, there.set, whole=whole)
        except ValueError as error:
            why = f"the request has no place in a URI or header: {error}"
            raise StatusError(414, "RequestURITooLong", why) from None


async def _pieces(answer: CarriedAnswer, there: asyncio.Event) -> AsyncIterator[bytes]:
    while (piece := answer.take()) is not None:
        if piece:
            yield piece
        else:
            await _more(there)


async def _more(there: asyncio.Event) -> None:
    await there.wait()
    there.clear()


def _event(line: bytes) -> Event:
    decoded = _LINE.decode(line)
    return Event(decoded.type, bytes(decoded.object))


def _refusal(answer: CarriedAnswer, body: bytes) -> StatusError:
    return _too_many(body, answer.retry_after) if answer.status == 429 else StatusError.from_body(answer.status, body)


def _too_many(body: bytes, retry_after: int) -> StatusError:
    """What flow control says is a line of text; when to come again is told in a header, which gRPC has none for."""
    told = StatusError.from_body(429, body)
    return errors.too_many_requests(told.message, retry_after) if told.unexplained else told
