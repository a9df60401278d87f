"""The client's side of a SPDY/3.1 connection, as far as container runtimes' streaming servers need it.

They speak it for exec and attach; of the WebSockets that they speak too, none can say that stdin has ended. Streams are
opened by us only. No side of Kubernetes' streaming keeps windows: what holds a sender back is TCP.

Source: SPDY Protocol, draft 3.1; k8s.io/apimachinery `pkg/util/httpstream/spdy`.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

_CONTROL, _VERSION, _FIN = 0x80000000, 0x8003, 0x01
_SYN_STREAM, _RST_STREAM, _PING, _GOAWAY = 1, 3, 6, 7
_HEAD = struct.Struct(">II")
_LARGEST = 64 * 1024
_PROTOCOL = "v4.channel.k8s.io"


class SpdyError(Exception):
    """The server did not agree to talk; the text is for people."""


class SpdyStream:
    """`on_data(data)` gets what comes, `on_end()` is called once: the other side says no more."""

    def __init__(self, number: int, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self.number = number
        self.on_data = on_data
        self._on_end = on_end
        self._ended = False

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._on_end()


class SpdyConnection:
    """`pause` and `resume`: whether anything is read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._streams: dict[int, SpdyStream] = {}
        # Without SPDY's dictionary, which a sender is free not to use; of answers' headers nothing is needed.
        self._headers = zlib.compressobj()
        self._readable = asyncio.Event()
        self._readable.set()

    @classmethod
    async def open(cls, url: str) -> SpdyConnection:
        """Raises SpdyError, OSError."""
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise SpdyError(f"streams at {parts.scheme}://{parts.netloc} are not supported")
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        writer.write(
            f"POST {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
            f"X-Stream-Protocol-Version: {_PROTOCOL}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            if head.split(" ", 2)[1:2] != ["101"]:
                raise SpdyError((await _why(reader, head)).strip() or head.partition("\r\n")[0])
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            writer.close()
            raise SpdyError("the streaming server said nothing") from error
        except BaseException:
            writer.close()
            raise
        return cls(reader, writer)

    def close(self) -> None:
        self._writer.close()

    def pause(self) -> None:
        self._readable.clear()

    def resume(self) -> None:
        self._readable.set()

    # ---- what we say

    def open_stream(
        self,
        headers: Mapping[str, str],
        on_data: Callable[[bytes], None] = lambda data: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> SpdyStream:
        stream = SpdyStream(2 * len(self._streams) + 1, on_data, on_end)
        self._streams[stream.number] = stream
        block = struct.pack(">I", len(headers))
        for name, value in headers.items():
            for text in (name.encode(), value.encode()):
                block += struct.pack(">I", len(text)) + text
        packed = self._headers.compress(block) + self._headers.flush(zlib.Z_SYNC_FLUSH)
        self._control(_SYN_STREAM, struct.pack(">IIH", stream.number, 0, 0) + packed)
        return stream

    def _control(self, kind: int, payload: bytes, flags: int = 0) -> None:
        self._writer.write(_HEAD.pack(_VERSION << 16 | kind, flags << 24 | len(payload)) + payload)

    async def send(self, stream: SpdyStream, data: bytes) -> None:
        """Returns when the other side is willing to take more."""
        self._writer.write(_HEAD.pack(stream.number, len(data)) + data)
        await self._writer.drain()

    def finish(self, stream: SpdyStream) -> None:
        """Nothing more comes from us."""
        self._writer.write(_HEAD.pack(stream.number, _FIN << 24))

    # ---- what it says

    async def run(self) -> None:
        """Until the other side closes; then all streams have ended."""
        with suppress(asyncio.IncompleteReadError, OSError):
            while await self._frame():
                await self._readable.wait()
        for stream in self._streams.values():
            stream.end()

    async def _frame(self) -> bool:
        """False after the last one."""
        first, second = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
        flags, length = second >> 24, second & 0xFFFFFF
        payload = await self._reader.readexactly(length)
        if not first & _CONTROL:
            stream = self._streams.get(first)
            if stream is not None:
                if payload:
                    stream.on_data(payload)
                if flags & _FIN:
                    stream.end()
            return True
        kind = first & 0xFFFF
        if kind == _PING:
            self._control(_PING, payload)
        elif kind == _RST_STREAM and length >= 4:
            stream = self._streams.get(struct.unpack_from(">I", payload)[0] & ~_CONTROL)
            if stream is not None:
                stream.end()
        return bool(kind != _GOAWAY)


async def _why(reader: asyncio.StreamReader, head: str) -> str:
    """The body of an answer that refuses, or what came of it. Go tells the length of short ones."""
    fields = dict(line.lower().split(":", 1) for line in head.split("\r\n")[1:] if ":" in line)
    length = fields.get("content-length", "").strip()
    try:
        known = length.isdecimal()
        body = await reader.readexactly(min(int(length), _LARGEST)) if known else await reader.read(_LARGEST)
    except asyncio.IncompleteReadError as error:
        body = error.partial
    return body.decode("utf-8", "replace")
