"""From the Rust listener to the handlers: one reader on the event loop, requests in batches."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from kubecore._native import Front, Request

logger = logging.getLogger(__name__)

#: Requests taken at once; more would keep the loop from its other work for too long.
BATCH = 64

_FAILED = (
    b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
    b'"message":"Internal error occurred: the request handler failed","reason":"InternalError","code":500}'
)


@contextmanager
def told_where(host: str, port: int, option: str) -> Iterator[None]:
    """An OSError of the listener says which address could not be had, and which option chooses another."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {why} ({option})") from error


class BatchHandler(Protocol):
    """The handler layer: answers every request of a batch, now or later."""

    def handle_batch(self, requests: Sequence[Request]) -> None: ...


class FrontDoor:
    """Drains the front into a handler while it is open. Belongs to the loop it was opened on."""

    def __init__(self, front: Front, handler: BatchHandler) -> None:
        self._front = front
        self._handler = handler
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Start handing requests over, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._front.fileno(), self._drain)

    async def close(self, grace_seconds: float = 3.0) -> None:
        """Stop listening; requests under way are answered as long as the grace lasts, then everything is dropped."""
        if self._loop is None:
            return
        loop, self._loop = self._loop, None
        # On a thread: this loop goes on answering meanwhile.
        await loop.run_in_executor(None, self._front.shutdown, grace_seconds)
        loop.remove_reader(self._front.fileno())

    def _drain(self) -> None:
        requests = self._front.drain(BATCH)
        if not requests:
            return
        try:
            self._handler.handle_batch(requests)
        except Exception:
            logger.exception("a batch of %d requests failed", len(requests))
            for request in requests:
                _give_up(request)


def _give_up(request: Request) -> None:
    try:
        request.respond(500, _FAILED)
    except RuntimeError:
        pass  # This one was answered before its batch failed.
