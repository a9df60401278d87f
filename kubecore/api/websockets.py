"""WebSockets as Kubernetes' servers agree on them: the opening handshake (RFC 6455, section 4.2), judged as
apimachinery `wsstream` does."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

Headers = list[tuple[str, str]]

_KEY = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class HandshakeRefused(Exception):
    """The request is answered with a status and a text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def values(headers: Headers, name: str) -> list[str]:
    """Of all headers of the name, which is in lower case."""
    return [value for own, value in headers if own.lower() == name]


def is_upgrade(headers: Headers) -> bool:
    return any("upgrade" in value.lower() for value in values(headers, "connection"))


def is_websocket(headers: Headers) -> bool:
    return is_upgrade(headers) and any(value.lower() == "websocket" for value in values(headers, "upgrade"))


def agree(headers: Headers, offered: Sequence[str]) -> tuple[str, Headers]:
    """The first protocol asked for that is offered, the empty one when none is asked for, and the answer's headers.
    Raises HandshakeRefused."""
    key = next(iter(values(headers, "sec-websocket-key")), "")
    if not key or values(headers, "sec-websocket-version") != ["13"]:
        raise HandshakeRefused(400, "unable to upgrade: not a WebSocket handshake of version 13")
    asked = [name.strip() for value in values(headers, "sec-websocket-protocol") for name in value.split(",")]
    protocol = next((name for name in asked or [""] if name in offered), None)
    if protocol is None:
        told = f"requested protocol(s) are not supported: [{' '.join(asked)}]; supports [{' '.join(offered)}]"
        raise HandshakeRefused(403, told)
    digest = hashlib.sha1(key.encode() + _KEY.encode(), usedforsecurity=False).digest()
    answer = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
    answer.append(("Sec-WebSocket-Accept", base64.b64encode(digest).decode()))
    if protocol:
        answer.append(("Sec-WebSocket-Protocol", protocol))
    return protocol, answer
