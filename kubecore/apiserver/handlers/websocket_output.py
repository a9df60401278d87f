"""What is streamed to a client that asked for it by WebSocket, as browsers do who follow a log.

After upstream `StreamObject` (apiserver `pkg/endpoints/handlers/responsewriters`) and apimachinery `wsstream.Reader`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING

from kubecore import _native
from kubecore.api import websockets

if TYPE_CHECKING:
    from wsproto.events import Event

    from kubecore.apiserver.handlers.request import Request

_IN_TEXT = "base64.binary.k8s.io"
_PROTOCOLS = ("", "binary.k8s.io", _IN_TEXT)
_NORMAL = 1000


class WebSocketOutput:
    """A `request.Stream`: each piece is a message, after an empty one by which clients know that it has begun. `text`:
    in base64, for those who can read no bytes. What the client says is let go of, but for pings and its end."""

    def __init__(self, connection: _native.UpgradedConnection, *, text: bool) -> None:
        # Few ever ask for one, and to import it takes some 50 ms.
        from wsproto import events
        from wsproto.connection import Connection, ConnectionType

        self._connection = connection
        self._text = text
        self._events = events
        self._frames = Connection(ConnectionType.SERVER)
        self._over = False
        self._on_closed: Callable[[], None] | None = None
        self.write(b"")
        connection.on_data(self._heard)

    def write(self, data: bytes) -> bool:
        if self._over:
            return False
        if self._text:
            return self._send(self._events.TextMessage(base64.b64encode(data).decode()))
        return self._send(self._events.BytesMessage(data))

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
    """None for a request that asks for no WebSocket, or comes from within. Raises HandshakeRefused."""
    if not isinstance(request, _native.Request) or not request.wants_upgrade:
        return None
    headers = request.headers()
    if not websockets.is_websocket(headers):
        return None
    protocol, answer = websockets.agree(headers, _PROTOCOLS)
    return WebSocketOutput(request.upgrade(answer), text=protocol == _IN_TEXT)
