"""What is streamed to a client that asked for it by WebSocket, as browsers do who follow a log or watch.

After upstream `StreamObject` (apiserver `pkg/endpoints/handlers/responsewriters`) and apimachinery `wsstream.Reader`,
and `HandleWS` (apiserver `pkg/endpoints/handlers/watch.go`).
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

from kubecore import _native
from kubecore.api import websockets

if TYPE_CHECKING:
    from wsproto.events import Event

    from kubecore.apiserver.handlers.request import Request

_IN_TEXT = "base64.binary.k8s.io"
_PROTOCOLS = ("", "binary.k8s.io", _IN_TEXT)
_NORMAL = 1000


class Form(Enum):
    """Of messages."""

    BYTES = auto()
    TEXT = auto()
    BYTES_IN_TEXT = auto()
    """In base64, for those who can read no bytes."""


class WebSocketOutput:
    """A `request.Stream`: each piece is a message. What the client says is let go of, but for pings and its end."""

    def __init__(self, connection: _native.UpgradedConnection, form: Form) -> None:
        # Few ever ask for one, and to import it takes some 50 ms.
        from wsproto import events
        from wsproto.connection import Connection, ConnectionType

        self._connection = connection
        self._form = form
        self._events = events
        self._frames = Connection(ConnectionType.SERVER)
        self._over = False
        self._on_closed: Callable[[], None] | None = None
        connection.on_data(self._heard)

    def write(self, data: bytes) -> bool:
        if self._over:
            return False
        if self._form is Form.BYTES:
            return self._send(self._events.BytesMessage(data))
        text = base64.b64encode(data) if self._form is Form.BYTES_IN_TEXT else data
        return self._send(self._events.TextMessage(text.decode()))

    @property
    def writable(self) -> bool:
        return self._connection.writable

    @property
    def closed(self) -> bool:
        return self._over or self._connection.closed

    def on_writable(self, callback: Callable[[], None]) -> None:
        self._connection.on_writable(callback)

    def on_closed(self, callback: Callable[[], None]) -> None:
        self._on_closed = callback
        self._connection.on_closed(callback)

    def close(self) -> None:
        if not self._over:
            self._over = True
            self._send(self._events.CloseConnection(_NORMAL))
            self._connection.close()

    def _send(self, event: Event) -> bool:
        return self._connection.write(self._frames.send(event))

    def _heard(self, data: bytes) -> None:
        if self._over:
            return
        ended = not data  # the client says no more, so that it could not say when it has enough
        self._frames.receive_data(data)
        for event in self._frames.events():
            if isinstance(event, self._events.CloseConnection):  # also where there was what no client may send
                ended = True
                break
            if isinstance(event, self._events.Ping):
                self._send(event.response())
        if ended:
            self.close()
            if self._on_closed is not None:  # which the connection tells no more, being closed by us
                self._on_closed()


def switched(request: Request) -> WebSocketOutput | None:
    """For a client that reads bytes as they come; an empty message tells it that they have begun. None for a request
    that asks for no WebSocket, or comes from within. Raises HandshakeRefused."""
    if (asked := _asked(request)) is None:
        return None
    protocol, answer = websockets.agree(asked.headers(), _PROTOCOLS)
    output = WebSocketOutput(asked.upgrade(answer), Form.BYTES_IN_TEXT if protocol == _IN_TEXT else Form.BYTES)
    output.write(b"")
    return output


def switched_to_messages(request: Request, *, text: bool) -> WebSocketOutput | None:
    """As `switched`, for what comes in messages of its own, whatever the client calls the protocol."""
    if (asked := _asked(request)) is None:
        return None
    headers = asked.headers()
    named = ",".join(websockets.values(headers, "sec-websocket-protocol")).split(",")
    _, answer = websockets.agree(headers, [named[0].strip()])
    return WebSocketOutput(asked.upgrade(answer), Form.TEXT if text else Form.BYTES)


def _asked(request: Request) -> _native.Request | None:
    if not isinstance(request, _native.Request) or not request.wants_upgrade:
        return None
    return request if websockets.is_websocket(request.headers()) else None
