"""Thousands of requests over one connection, written in batches: HTTP/1.1 as bytes, with no library to wait for."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from kubecore.apiserver.authentication.pki import KeyPair

_BATCH = 64
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


class Wanted(NamedTuple):
    method: str
    target: str
    body: bytes = b""


class Got(NamedTuple):
    status: int
    body: bytes


class Pipeline:
    """One connection to a server on this machine, as whoever the certificate or the headers say."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: Mapping[str, str]) -> None:
        self._reader, self._writer = reader, writer
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())

    @classmethod
    async def to(
        cls, port: int, ca: bytes, folder: Path, *, pair: KeyPair | None = None, headers: Mapping[str, str]
    ) -> Self:
        context = ssl.create_default_context(cadata=ca.decode())
        if pair is not None:
            file = folder / "pipelined.pem"
            file.write_bytes(pair.certificate + pair.key)
            context.load_cert_chain(file)
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=context), headers)

    async def ask(self, wanted: Sequence[Wanted]) -> list[Got]:
        """The answers in their order."""
        answers: list[Got] = []
        for start in range(0, len(wanted), _BATCH):
            batch = wanted[start : start + _BATCH]
            self._writer.write(b"".join(map(self._written, batch)))
            answers += [await self._answer(one.method) for one in batch]
        return answers

    def _written(self, one: Wanted) -> bytes:
        kind = "merge-patch+json" if one.method == "PATCH" else "json"
        head = f"{one.method} {one.target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{self._headers}"
        if one.body:
            head += f"Content-Type: application/{kind}\r\nContent-Length: {len(one.body)}\r\n"
        return f"{head}\r\n".encode() + one.body

    async def _answer(self, method: str) -> Got:
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        if method == "HEAD":
            return Got(status, b"")
        if length := _LENGTH.search(head):
            return Got(status, await self._reader.readexactly(int(length[1])))
        return Got(status, await self._chunks() if _CHUNKED.search(head) else b"")

    async def _chunks(self) -> bytes:
        pieces: list[bytes] = []
        while True:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            piece = await self._reader.readexactly(size + 2)
            if not size:
                return b"".join(pieces)
            pieces.append(piece[:-2])

    def close(self) -> None:
        self._writer.close()
