"""From the Rust listener to the handlers: one reader on the event loop, requests in batches."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from kubecore._native import Front, Request, ServingCertificate

logger = logging.getLogger(__name__)

#: Requests taken at once; more would keep the loop from its other work for too long.
BATCH = 64

# As many connections may wait as at the front's own listeners.
_BACKLOG = 1024
# Of ports that are free at the first of several addresses.
_TRIES = 64

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


def listen_tls(front: Front, hosts: Sequence[str], port: int, certificate: ServingCertificate) -> int:
    """Serve HTTPS at one port of all hosts, which is returned; 0 is any that is free at each. Raises OSError."""
    if port == 0 and len(hosts) > 1:
        for listener in listeners(hosts):
            with listener:
                port = front.listen_tls_on(listener.fileno(), certificate)
        return port
    for host in hosts:
        with told_where(host, port, "--secure-port, --bind-address"):
            port = front.listen_tls(host, port, certificate)
    return port


def listeners(hosts: Sequence[str]) -> list[socket.socket]:
    """Sockets that listen at one port of all hosts, whichever is free at each. Raises OSError."""
    for _ in range(_TRIES - 1):
        try:
            return _listeners(hosts)
        except OSError as error:
            # What is free at one may be somebody's at another.
            if error.errno != errno.EADDRINUSE:
                raise
    return _listeners(hosts)


def _listeners(hosts: Sequence[str]) -> list[socket.socket]:
    port, found = 0, []
    with ExitStack() as made:
        for host in hosts:
            with told_where(host, port, "--secure-port, --bind-address"):
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                one = socket.create_server((host, port), family=family, backlog=_BACKLOG)
            found.append(made.enter_context(one))
            port = one.getsockname()[1]
        made.pop_all()
    return found


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
