"""What belongs to one request, step by step: spans, which of them are kept, and what others are told of them.

Sources: W3C Trace Context, for the headers; upstream k8s.io/component-base tracing, for whose word on sampling counts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from kubecore.apiserver.tracing.options import MILLION

if TYPE_CHECKING:
    from kubecore.clock import Clock

HEADER = "traceparent"
INTERNAL, SERVER, CLIENT = 1, 2, 3
"""Kinds of OpenTelemetry."""
Value = str | int | bool

_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Place:
    """A span elsewhere, as its header tells it."""

    trace: bytes
    span: bytes
    sampled: bool


def place(header: str | None) -> Place | None:
    """What a header says; None for what is none."""
    found = _PARENT.fullmatch(header.strip()) if header else None
    if found is None or (found[4] and header is not None and header.strip().startswith("00")):
        return None
    return Place(bytes.fromhex(found[1]), bytes.fromhex(found[2]), bool(int(found[3], 16) & _SAMPLED))


@dataclass(slots=True, eq=False)
class Span:
    """Times are nanoseconds since 1970."""

    tracer: Tracer
    trace: bytes
    id: bytes
    name: str
    kind: int
    parent: bytes = b""
    link: Place | None = None
    begun: int = 0
    ended: int = 0
    attributes: dict[str, Value] = field(default_factory=dict)
    error: str | None = None
    """Why it failed; maybe nothing is said."""

    @property
    def header(self) -> str:
        return f"00-{self.trace.hex()}-{self.id.hex()}-01"

    def answered(self, status: int) -> None:
        self.attributes["http.response.status_code"] = status
        if status >= 500:
            self.error = ""


_NOTHING = nullcontext()
_current: ContextVar[Span | None] = ContextVar("span", default=None)


def current() -> Span | None:
    """Within which we are, where it is kept."""
    return _current.get()


@contextmanager
def within(span: Span) -> Iterator[Span]:
    token = _current.set(span)
    try:
        yield span
    except BaseException as error:
        span.error = str(error)
        raise
    finally:
        _current.reset(token)
        span.tracer.end(span)


def step(
    name: str, attributes: Callable[[], Mapping[str, Value]], *, kind: int = INTERNAL
) -> AbstractContextManager[Span | None]:
    """A step of the current span; none where there is none."""
    parent = _current.get()
    return _NOTHING if parent is None else within(parent.tracer.child(parent, name, kind, attributes()))


class Tracer:
    """Begins spans and hands those that have ended to `keep`."""

    def __init__(self, clock: Clock, per_million: int, keep: Callable[[Span], None]) -> None:
        self._clock = clock
        self._bound = (per_million << 63) // MILLION
        self._keep = keep

    def begin(
        self,
        name: str,
        told: Place | None,
        *,
        trusted: bool,
        attributes: Callable[[], Mapping[str, Value]],
        sampled: bool | None = None,
    ) -> Span | None:
        """Of a request, whose sender was in the span that is `told`; None where it is not kept. Only who is `trusted`
        goes on with his own trace and decides whether it is kept; others' is linked to. `sampled`: chance has decided
        already."""
        if told is not None and trusted:
            if not told.sampled:
                return None
            return self._begun(told.trace, name, SERVER, attributes(), parent=told.span)
        trace = random.randbytes(16)
        if sampled is None:
            sampled = int.from_bytes(trace[8:]) >> 1 < self._bound
        if not sampled:
            return None
        return self._begun(trace, name, SERVER, attributes(), link=told)

    def child(self, parent: Span, name: str, kind: int, attributes: Mapping[str, Value]) -> Span:
        return self._begun(parent.trace, name, kind, attributes, parent=parent.id)

    def _begun(
        self,
        trace: bytes,
        name: str,
        kind: int,
        attributes: Mapping[str, Value],
        *,
        parent: bytes = b"",
        link: Place | None = None,
    ) -> Span:
        span = Span(self, trace, random.randbytes(8), name, kind, parent, link, attributes=dict(attributes))
        span.begun = self._now()
        return span

    def end(self, span: Span) -> None:
        span.ended = self._now()
        self._keep(span)

    def _now(self) -> int:
        return (self._clock.now() - _EPOCH) // _MICROSECOND * 1000
