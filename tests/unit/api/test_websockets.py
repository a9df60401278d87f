"""Frames of WebSockets: what a server writes, and what it heeds of a client that it does not listen to."""

from __future__ import annotations

import pytest

from kubecore.api.websockets import BINARY, CLOSE, PING, BrokenFrame, ControlFrames, frame

MASK = bytes((1, 2, 3, 4))


def said(kind: int, payload: bytes, head: bytes | None = None) -> bytes:
    masked = bytes(byte ^ MASK[place % 4] for place, byte in enumerate(payload))
    return bytes((0x80 | kind,)) + (head or bytes((0x80 | len(payload),))) + MASK + masked


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x82\x00"),
        (125, b"\x82\x7d"),
        (126, b"\x82\x7e\x00\x7e"),
        (65535, b"\x82\x7e\xff\xff"),
        (65536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_frame_begins_with_the_length_in_as_few_bytes_as_it_takes(size: int, head: bytes) -> None:
    assert frame(BINARY, bytes(size)) == head + bytes(size)


def test_control_frames_are_found_wherever_the_bytes_are_cut() -> None:
    stream = said(PING, b"ping") + said(BINARY, bytes(300), b"\xfe\x01\x2c") + said(CLOSE, b"\x03\xe8bye")
    for size in (1, 2, 7, len(stream)):
        frames = ControlFrames()
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert [found for piece in pieces for found in frames.feed(piece)] == [(PING, b"ping"), (CLOSE, b"\x03\xe8bye")]


def test_of_what_a_client_sends_nothing_is_kept() -> None:
    frames = ControlFrames()
    assert frames.feed(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + MASK + bytes(5000)) == []
    assert not frames._kept


@pytest.mark.parametrize("sent", [b"\x82\x05hello", said(PING, bytes(126), b"\xfe\x00\x7e")])
def test_a_frame_that_no_client_may_send_is_refused(sent: bytes) -> None:
    with pytest.raises(BrokenFrame):
        ControlFrames().feed(sent)
