"""Plugins that are called one after the other, and what is told of how long they took."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kubecore import _native

BOUNDS = (0.5, 2.0)


class Refusal(Exception):
    pass


class Step:
    """Calls that take as many seconds as they are told to, by a clock that stands still otherwise."""

    def __init__(self, *calls: Callable[[], Any], more: bool = False) -> None:
        self.clock = _native.Clock.virtual(0)
        self.passed, self.refused, self.step, self.step_refused = (_native.TimeSeries(BOUNDS) for _ in range(4))
        counted = [(lambda *_, call=call: call(), self.passed, more, self.refused, self.step_refused) for call in calls]
        self.calls = _native.TimedCalls(counted, self.step, Refusal, self.clock)

    def takes(self, seconds: float, says: object = None) -> object:
        self.clock.advance(seconds)
        if isinstance(says, Exception):
            raise says
        return says


def step(*calls: tuple[float, object], more: bool = False) -> Step:
    made: Step
    made = Step(*((lambda one=one: made.takes(*one)) for one in calls), more=more)
    return made


def told(series: _native.TimeSeries) -> tuple[list[int], float]:
    return series.told(), series.seconds


def test_each_call_is_told_what_the_write_is() -> None:
    heard: list[object] = []
    series = _native.TimeSeries(BOUNDS)
    calls = [(lambda *given: heard.append(given), series, False, series, series)] * 2
    _native.TimedCalls(calls, series, Refusal, _native.Clock()).part("ctx", {}, None)
    assert heard == [("ctx", {}, None)] * 2


def test_a_part_takes_what_its_calls_take_and_says_yes_with_any_of_them() -> None:
    made = step((0.5, True), (4.0, False))
    assert made.calls.part(None, None, None) == (True, 4.5)
    assert told(made.passed) == ([1, 0, 1], 4.5)
    assert told(made.step) == ([0, 0, 0], 0.0)
    assert step((0.5, None), (1.0, False)).calls.part(None, None, None) == (False, 1.5)


def test_a_whole_step_is_observed() -> None:
    made = step((0.25, None), (1.0, 1))
    assert made.calls.whole(None, None, None)
    assert told(made.step) == ([0, 1, 0], 1.25)


def test_a_refusal_is_one_of_the_call_and_of_the_step_so_far() -> None:
    made = step((1.0, None), (0.25, Refusal()), (9.0, None))
    with pytest.raises(Refusal):
        made.calls.whole(None, None, None)
    assert told(made.passed) == ([0, 1, 0], 1.0)
    assert told(made.refused) == ([1, 0, 0], 0.25)
    assert told(made.step_refused) == ([0, 1, 0], 1.25)
    assert told(made.step) == ([0, 0, 0], 0.0)


def test_a_failure_is_nobodys_refusal() -> None:
    made = step((1.0, ValueError()))
    with pytest.raises(ValueError):
        made.calls.part(None, None, None)
    assert [sum(one.told()) for one in (made.passed, made.refused, made.step_refused)] == [0, 0, 0]


def test_the_last_part_ends_the_step_with_its_former_parts() -> None:
    made = step((0.25, None))
    assert made.calls.last(None, None, None, 2.0) is None
    assert told(made.step) == ([0, 0, 1], 2.25)


def test_what_waits_is_timed_with_the_wait_and_goes_on_behind_it() -> None:
    waited: Any = "waits"
    made = step((0.25, None), (0.25, waited), (1.0, None))
    paused = made.calls.last(None, None, None, 1.0)
    assert paused is not None
    assert paused[:2] == (waited, 1)
    made.clock.advance(3.0)
    assert made.calls.go_on(None, None, None, *paused[1:]) is None
    assert told(made.passed) == ([1, 1, 1], 4.5)
    assert told(made.step) == ([0, 0, 1], 5.5)


def test_who_waits_may_be_refused() -> None:
    made = step((0.25, None), (0.25, "waits"))
    paused = made.calls.last(None, None, None, 0.0)
    assert paused is not None
    made.clock.advance(3.0)
    made.calls.refused(*paused[1:])
    assert told(made.refused) == ([0, 0, 1], 3.25)
    assert told(made.step_refused) == ([0, 0, 1], 3.5)
    assert told(made.passed)[0] == [1, 0, 0]


def test_one_more_call_of_a_plugin_adds_to_its_time_alone() -> None:
    made = step((1.0, None), more=True)
    made.calls.part(None, None, None)
    assert told(made.passed) == ([0, 0, 0], 1.0)
