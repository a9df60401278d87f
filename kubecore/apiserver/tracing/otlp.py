"""Spans as a collector of OpenTelemetry takes them: an ExportTraceServiceRequest of OTLP 1, as protobuf.

Source: opentelemetry-proto, `collector/trace/v1/trace_service.proto` and what it imports, by which fields are numbered.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from kubecore.api.protobuf_wire import message, varint
from kubecore.apiserver.tracing.spans import Span, Value

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_VARINT, _FIXED64 = 0, 1
_64_BITS = (1 << 64) - 1
_ERROR = 2


def encoded(spans: Iterable[Span], resource: Mapping[str, Value], scope: str) -> bytes:
    """A request with all of them, of one resource and scope."""
    scoped = message(1, _text(1, scope)) + b"".join(message(2, _span(span)) for span in spans)
    return message(1, message(1, _attributes(1, resource)) + message(2, scoped))


def _span(span: Span) -> bytes:
    parts = [
        message(1, span.trace),
        message(2, span.id),
        message(4, span.parent) if span.parent else b"",
        _text(5, span.name),
        _number(6, span.kind),
        _fixed(7, span.begun),
        _fixed(8, span.ended),
        _attributes(9, span.attributes),
    ]
    if span.link is not None:
        parts.append(message(13, message(1, span.link.trace) + message(2, span.link.span)))
    if span.error is not None:
        parts.append(message(15, (_text(2, span.error) if span.error else b"") + _number(3, _ERROR)))
    return b"".join(parts)


def _attributes(field: int, given: Mapping[str, Value]) -> bytes:
    return b"".join(message(field, _text(1, key) + message(2, _value(value))) for key, value in given.items())


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return _text(1, value)
    return _number(2 if isinstance(value, bool) else 3, int(value))


def _text(field: int, text: str) -> bytes:
    return message(field, text.encode(errors="replace"))


def _number(field: int, value: int) -> bytes:
    return varint(field << 3 | _VARINT) + varint(value & _64_BITS)


def _fixed(field: int, value: int) -> bytes:
    return varint(field << 3 | _FIXED64) + struct.pack("<Q", value)
