"""Output by WebSocket: what is said to a client, and what is heeded of one that nobody listens to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from kubecore.apiserver.handlers.websocket_output import Form, WebSocketOutput

BEGUN, CLOSED = b"\x82\x00", b"\x88\x02\x03\xe8"
PING, CLOSE, BINARY = 0x89, 0x88, 0x82
MASK = bytes((1, 2, 3, 4))


class Connection:
    """The client's end: what was written to it, and what it says."""

    writable = True

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.said: Callable[[bytes], None] = lambda data: None

    def write(self, data: bytes) -> bool:
        self.written += data
        return not self.closed

    def close(self) -> None:
        self.closed = True

    def on_data(self, callback: Callable[[bytes], None]) -> None:
        self.said = callback

    def on_closed(self, callback: Callable[[], None]) -> None:
        pass


def opened(*, text: bool = False) -> tuple[WebSocketOutput, Connection, list[str]]:
    connection, told = Connection(), []
    output = WebSocketOutput(cast(Any, connection), Form.BYTES_IN_TEXT if text else Form.BYTES)
    output.write(b"")  # as whoever streams bytes begins
    output.on_closed(lambda: told.append("closed"))
    return output, connection, told


def frame(kind: int, payload: bytes, head: bytes | None = None) -> bytes:
    masked = bytes(byte ^ MASK[place % 4] for place, byte in enumerate(payload))
    return bytes((kind,)) + (head or bytes((0x80 | len(payload),))) + MASK + masked


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (125, b"\x82\x7d"),
        (126, b"\x82\x7e\x00\x7e"),
        (65535, b"\x82\x7e\xff\xff"),
        (65536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_each_piece_is_a_message_after_an_empty_one(size: int, head: bytes) -> None:
    output, connection, _ = opened()
    assert connection.written == BEGUN
    assert output.write(bytes(size))
    assert connection.written == BEGUN + head + bytes(size)


def test_text_is_the_pieces_in_base64() -> None:
    output, connection, _ = opened(text=True)
    output.write(b"\xff\x00")
    assert connection.written == b"\x81\x00" + b"\x81\x04/wA="


def test_an_output_that_ends_closes_normally_and_once() -> None:
    output, connection, told = opened()
    output.close()
    output.close()
    assert (connection.written, connection.closed, output.closed) == (BEGUN + CLOSED, True, True)
    assert not output.write(b"more")
    connection.said(frame(CLOSE, b"\x03\xe8"))
    assert (connection.written, told) == (BEGUN + CLOSED, [])


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_pings_and_the_end_are_heard_wherever_the_bytes_are_cut(size: int) -> None:
    _, connection, told = opened()
    stream = frame(PING, b"ping") + frame(BINARY, bytes(300), b"\xfe\x01\x2c") + frame(CLOSE, b"\x03\xe8bye")
    for at in range(0, len(stream), size):
        assert not told
        connection.said(stream[at : at + size])
    assert connection.written == BEGUN + b"\x8a\x04ping" + CLOSED
    assert told == ["closed"]


def test_nothing_is_heard_behind_the_end() -> None:
    _, connection, told = opened()
    connection.said(frame(CLOSE, b"\x03\xe8") + frame(PING, b"ping"))
    connection.said(frame(PING, b"ping"))
    assert (connection.written, told) == (BEGUN + CLOSED, ["closed"])


def test_what_else_a_client_says_is_passed_over() -> None:
    output, connection, told = opened()
    connection.said(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + MASK)
    for _ in range(100):
        connection.said(bytes(5000))
    assert (connection.written, told, output.closed) == (BEGUN, [], False)


@pytest.mark.parametrize("sent", [b"\x82\x05hello", frame(PING, bytes(126), b"\xfe\x00\x7e"), b""])
def test_a_client_that_says_what_none_may_or_says_no_more_is_left(sent: bytes) -> None:
    output, connection, told = opened()
    connection.said(sent)
    assert (connection.written, told, output.closed) == (BEGUN + CLOSED, ["closed"], True)
