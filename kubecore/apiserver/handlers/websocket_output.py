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
    from kubecore.apiserver.handlers.request import Request

_IN_TEXT = "base64.binary.k8s.io"
_PROTOCOLS = ("", "binary.k8s.io", _IN_TEXT)
_NORMAL = (1000).to_bytes(2, "big")


class WebSocketOutput:
    """A `request.Stream`: each piece is a message, after an empty one by which clients know that it has begun. `text`:
    in base64, for those who can read no bytes."""

    def __init__(self, connection: _native.UpgradedConnection, *, text: bool) -> None:
        self._connection = connection
        self._text = text
        self._frames = websockets.ControlFrames()
        self._over = False
        self._on_closed: Callable[[], None] | None = None
        self.write(b"")
        connection.on_data(self._heard)

    def write(self, data: bytes) -> bool:
        if self._over:
            return False
        if self._text:
            return self._connection.write(websockets.frame(websockets.TEXT, base64.b64encode(data)))
        return self._connection.write(websockets.frame(websockets.BINARY, data))

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
            self._connection.write(websockets.frame(websockets.CLOSE, _NORMAL))
            self._connection.close()

    def _heard(self, data: bytes) -> None:
        ended = not data  # the client says no more, so that it could not say when it has enough
        try:
            for kind, payload in self._frames.feed(data):
                if kind == websockets.PING and not self._over:
                    self._connection.write(websockets.frame(websockets.PONG, payload))
                ended = ended or kind == websockets.CLOSE
        except websockets.BrokenFrame:
            ended = True
        if ended and not self._over:
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
