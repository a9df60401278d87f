"""A collector of OpenTelemetry on loopback, and spans as it reads them: protobuf by the numbers of OTLP's fields."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def fields(message: bytes) -> dict[int, list[Any]]:
    """Numbers of fields to their values: integers, or bytes."""
    found: dict[int, list[Any]] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 2:
            size = varint()
            value: Any = message[at : at + size]
            at += size
        elif key & 7 == 1:
            value = int.from_bytes(message[at : at + 8], "little")
            at += 8
        else:
            value = varint()
        found.setdefault(key >> 3, []).append(value)
    return found


def attributes(pairs: list[bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in map(fields, pairs):
        ((number, (value,)),) = fields(pair[2][0]).items()
        found[pair[1][0].decode()] = value.decode() if number == 1 else bool(value) if number == 2 else value
    return found


@dataclass(frozen=True)
class Seen:
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    links: list[str]
    nanoseconds: tuple[int, int]
    attributes: dict[str, Any]
    status: int
    resource: dict[str, Any]


def read(request: bytes) -> list[Seen]:
    (of_resource,) = map(fields, fields(request)[1])
    resource = attributes(fields(of_resource[1][0])[1])
    (scoped,) = map(fields, of_resource[2])
    return [
        Seen(
            name=one[5][0].decode(),
            kind=one[6][0],
            trace=one[1][0].hex(),
            id=one[2][0].hex(),
            parent=one.get(4, [b""])[0].hex(),
            links=[fields(link)[1][0].hex() for link in one.get(13, ())],
            nanoseconds=(one[7][0], one[8][0]),
            attributes=attributes(one.get(9, [])),
            status=fields(one[15][0]).get(3, [0])[0] if 15 in one else 0,
            resource=resource,
        )
        for one in map(fields, scoped[2])
    ]


@dataclass
class Collector:
    spans: list[Seen] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    def named(self, name: str) -> Seen:
        (found,) = [one for one in self.spans if one.name == name]
        return found

    async def export(self, request: bytes, context: Any) -> bytes:
        self.spans += read(request)
        self.came.set()
        return b""


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    service, _, method = EXPORT.strip("/").partition("/")
    handler = grpc.unary_unary_rpc_method_handler(collector.export)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    collector.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(0)
