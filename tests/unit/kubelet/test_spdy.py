"""What a container runtime's streaming server answers to who asks it for streams."""

from __future__ import annotations

import asyncio

import pytest

from kubecore.kubelet.runtime.cri.spdy import SpdyConnection, SpdyError


class Peer:
    """Says `pieces`, of which none is read with the next one; after an empty one it says no more."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self.closed = False
        self.reader = asyncio.StreamReader()

    def write(self, data: bytes) -> None:
        """The request has come."""
        self._said = asyncio.create_task(self._say())

    async def _say(self) -> None:
        for piece in self._pieces:
            self.reader.feed_data(piece)
            if not piece:
                self.reader.feed_eof()
            for _ in range(10):
                await asyncio.sleep(0)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ([b"HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\n\r\n", b"no ", b"token here"], "no token her"),
        ([b"HTTP/1.1 500 Broken\r\nCONTENT-LENGTH: 99\r\n\r\n", b"so ", b"far", b""], "so far"),
        ([b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], "HTTP/1.1 404 Not Found"),
        ([b"HTTP/1.1 404 Not Found\r\n\r\ngone\n"], "gone"),
        ([b"HTTP/1.1 200", b""], "the streaming server said nothing"),
    ],
)
async def test_why_it_refuses_is_told_whole(pieces: list[bytes], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(pieces)

    async def connect(host: str, port: int) -> tuple[asyncio.StreamReader, Peer]:
        return peer.reader, peer

    monkeypatch.setattr(asyncio, "open_connection", connect)
    with pytest.raises(SpdyError) as failed:
        await SpdyConnection.open("http://127.0.0.1:1/exec/token")
    assert str(failed.value) == told
    assert peer.closed
