"""Which spans are kept, whose they are, and how they are told."""

from __future__ import annotations

import pytest

from kubecore.apiserver.tracing import otlp, spans
from kubecore.apiserver.tracing.spans import Place, Span, Tracer
from kubecore.clock import VirtualClock
from tests.support.trace_collector import read

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
MILLION = 1_000_000


def elsewhere(*, sampled: bool) -> Place | None:
    return spans.place(f"00-{TRACE}-{SPAN}-{'01' if sampled else '00'}")


def begun(rate: int, told: Place | None, *, trusted: bool) -> Span | None:
    return Tracer(VirtualClock(), rate, lambda span: None).begin("s", told, trusted=trusted, attributes=dict)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
    ],
)
def test_a_header_that_is_none_says_nothing(header: str | None) -> None:
    assert spans.place(header) is None


def test_a_later_version_of_the_header_may_say_more() -> None:
    assert spans.place(f"01-{TRACE}-{SPAN}-01-more") == elsewhere(sampled=True)


@pytest.mark.parametrize("rate", [0, MILLION])
@pytest.mark.parametrize("sampled", [True, False])
def test_a_trace_of_who_is_trusted_is_kept_where_he_keeps_it(rate: int, sampled: bool) -> None:
    span = begun(rate, elsewhere(sampled=sampled), trusted=True)
    assert (span is not None) is sampled
    if span is not None:
        assert (span.trace.hex(), span.parent.hex()) == (TRACE, SPAN)


def test_a_trace_of_somebody_else_is_linked_to_and_decides_nothing() -> None:
    assert begun(0, elsewhere(sampled=True), trusted=False) is None
    span = begun(MILLION, elsewhere(sampled=True), trusted=False)
    assert span is not None
    assert span.trace.hex() != TRACE
    assert span.parent == b""
    assert span.link == elsewhere(sampled=True)


def test_as_many_traces_begin_here_as_is_asked_for() -> None:
    kept = sum(begun(MILLION // 4, None, trusted=True) is not None for _ in range(4000))
    assert 800 < kept < 1200


def test_a_step_belongs_to_the_span_it_is_made_in() -> None:
    ended: list[Span] = []
    tracer = Tracer(VirtualClock(), MILLION, ended.append)
    root = tracer.begin("root", None, trusted=False, attributes=lambda: {"a": "b", "yes": True, "n": 300})
    assert root is not None
    with spans.within(root):
        with pytest.raises(ValueError, match="why"), spans.step("step", dict, kind=spans.CLIENT):
            raise ValueError("why")
        root.answered(201)
    assert spans.current() is None
    told = {one.name: one for one in read(otlp.encoded(ended, {"service.name": "apiserver"}, "kubecore"))}
    assert told["step"].parent == told["root"].id
    assert told["step"].trace == told["root"].trace == root.trace.hex()
    assert (told["step"].status, told["root"].status) == (2, 0)
    assert (told["step"].kind, told["root"].kind) == (spans.CLIENT, spans.SERVER)
    assert told["root"].attributes == {"a": "b", "yes": True, "n": 300, "http.response.status_code": 201}
    assert told["root"].nanoseconds == (1_767_225_600_000_000_000,) * 2
    assert told["root"].resource == {"service.name": "apiserver"}


def test_outside_of_a_span_nothing_is_begun() -> None:
    def never() -> dict[str, str]:
        raise AssertionError

    with spans.step("step", never) as span:
        assert span is None
