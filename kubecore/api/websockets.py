"""WebSockets as Kubernetes' servers agree on them: the opening handshake (RFC 6455, section 4.2), judged as
apimachinery `wsstream` does, and the frames of a server."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

Headers = list[tuple[str, str]]

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_KEY = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LAST, _MASKED, _CONTROL = 0x80, 0x80, 0x8
_LONGEST_CONTROL = 125


class HandshakeRefused(Exception):
    """The request is answered with a status and a text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class BrokenFrame(Exception):
    """What no client may send."""


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


def frame(kind: int, payload: bytes) -> bytes:
    """A whole message, or a control frame."""
    size = len(payload)
    if size < 126:
        head = bytes((_LAST | kind, size))
    elif size < 1 << 16:
        head = bytes((_LAST | kind, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((_LAST | kind, 127)) + size.to_bytes(8, "big")
    return head + payload


class ControlFrames:
    """Finds the control frames in what a client sends to somebody who does not listen; all else is let go of unread."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._ignored = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Kind and payload of those that are complete now. Raises BrokenFrame."""
        self._kept += data
        found: list[tuple[int, bytes]] = []
        while True:
            passed = min(self._ignored, len(self._kept))
            del self._kept[:passed]
            self._ignored -= passed
            size = self._payload_size()
            if self._ignored or size is None:
                return found
            kind, start = self._kept[0] & 0x0F, _payload_start(self._kept[1])
            if not kind & _CONTROL:
                del self._kept[:start]
                self._ignored = size
                continue
            if len(self._kept) < start + size:
                return found
            mask, payload = self._kept[start - 4 : start], self._kept[start : start + size]
            found.append((kind, bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))))
            del self._kept[: start + size]

    def _payload_size(self) -> int | None:
        """None while the next frame's head is not complete."""
        kept = self._kept
        if len(kept) < 2:
            return None
        if not kept[1] & _MASKED or (kept[0] & _CONTROL and kept[1] & 0x7F > _LONGEST_CONTROL):
            raise BrokenFrame
        start = _payload_start(kept[1])
        if len(kept) < start:
            return None
        return int.from_bytes(kept[2 : start - 4], "big") if start > 6 else kept[1] & 0x7F


def _payload_start(second: int) -> int:
    """Behind the head, whose last four bytes are the mask; by the head's second byte."""
    return 6 + {126: 2, 127: 8}.get(second & 0x7F, 0)
