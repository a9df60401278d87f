"""Spans as a collector of OpenTelemetry takes them: an ExportTraceServiceRequest of OTLP 1, as protobuf.

Source: opentelemetry-proto, `collector/trace/v1/trace_service.proto` and what it imports, by which fields are numbered.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from kubecore.apiserver.tracing.spans import Span, Value

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_VARINT, _FIXED64, _BYTES = 0, 1, 2
_ERROR = 2


def encoded(spans: Iterable[Span], resource: Mapping[str, Value], scope: str) -> bytes:
    """A request with all of them, of one resource and scope."""
    scoped = _bytes(1, _text(1, scope)) + b"".join(_bytes(2, _span(span)) for span in spans)
    return _bytes(1, _bytes(1, _attributes(1, resource)) + _bytes(2, scoped))


def _span(span: Span) -> bytes:
    parts = [
        _bytes(1, span.trace),
        _bytes(2, span.id),
        _bytes(4, span.parent) if span.parent else b"",
        _text(5, span.name),
        _number(6, span.kind),
        _fixed(7, span.begun),
        _fixed(8, span.ended),
        _attributes(9, span.attributes),
    ]
    if span.link is not None:
        parts.append(_bytes(13, _bytes(1, span.link.trace) + _bytes(2, span.link.span)))
    if span.error is not None:
        parts.append(_bytes(15, (_text(2, span.error) if span.error else b"") + _number(3, _ERROR)))
    return b"".join(parts)


def _attributes(field: int, given: Mapping[str, Value]) -> bytes:
    return b"".join(_bytes(field, _text(1, key) + _bytes(2, _value(value))) for key, value in given.items())


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return _text(1, value)
    return _number(2 if isinstance(value, bool) else 3, int(value))


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode(errors="replace"))


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _fixed(field: int, value: int) -> bytes:
    return _varint(field << 3 | _FIXED64) + struct.pack("<Q", value)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)
