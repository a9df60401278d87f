"""Requests that come another way than through the HTTP listener take seats, too: those of gRPC.

Whose components run in the server's own process takes none: they share its fate.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from kubecore.api import errors

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore.apiserver.handlers.watching import WatchEvent
    from kubecore.apiserver.local import LocalTransport

_TOO_MANY = "Too many requests, please try again later."


class LimitedTransport:
    """`transport`, with a seat for each of its requests."""

    def __init__(self, transport: LocalTransport, native: _native.Flow, user: _native.UserInfo) -> None:
        self._transport = transport
        self._native = native
        self._user = user

    async def request(
        self, method: str, path: str, *, query: Mapping[str, str], body: bytes | None, content_type: str
    ) -> tuple[int, bytes]:
        """Never raises for an HTTP status."""
        try:
            async with self._seated(method, path, urlencode(query)):
                return await self._transport.request(method, path, query=query, body=body, content_type=content_type)
        except errors.StatusError as error:
            return error.code, error.to_json()

    async def watch(self, path: str, *, query: Mapping[str, str]) -> AsyncIterator[list[WatchEvent]]:
        """Needs a seat only to begin. Raises StatusError when it is refused."""
        async with self._seated("GET", path, urlencode({**query, "watch": "true"})):
            events = self._transport.watch(path, query=query)
        async for batch in events:
            yield batch

    @asynccontextmanager
    async def _seated(self, method: str, path: str, query: str) -> AsyncIterator[None]:
        """Raises StatusError (429)."""
        decided = asyncio.Event()
        seat = self._native.enter(self._user, method, path, query, decided.set)
        if seat is None:
            yield
            return
        try:
            if seat.is_waiting:
                await decided.wait()
            if seconds := seat.retry_after:
                raise errors.too_many_requests(_TOO_MANY, seconds)
            yield
        finally:
            seat.free()
