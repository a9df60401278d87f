"""Thresholds as flags give them."""

from __future__ import annotations

import pytest

from kubecore.kubelet.eviction.thresholds import BadThreshold, Observation, Threshold, Value, parse

MEBI = 1024 * 1024


def test_a_threshold_is_an_amount_or_a_share_of_the_capacity() -> None:
    assert parse("memory.available<100Mi, nodefs.available<10%,pid.available<1k") == (
        Threshold("memory.available", Value(number=100 * MEBI)),
        Threshold("nodefs.available", Value(share=0.1)),
        Threshold("pid.available", Value(number=1000)),
    )


def test_a_soft_one_has_a_grace_period_and_what_must_be_reclaimed() -> None:
    (found,) = parse("", "memory.available<1Gi", "memory.available=1m30s", "memory.available=512Mi")
    assert found == Threshold("memory.available", Value(number=1024 * MEBI), 90.0, Value(number=512 * MEBI))


def test_zero_switches_a_threshold_off() -> None:
    assert parse("nodefs.available<0%,memory.available<0") == ()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("memory.available=1",), "invalid eviction threshold syntax"),
        (("swap.available<1",), "unsupported eviction signal swap.available"),
        (("nodefs.available<100%",), "must be >= 0% and < 100%"),
        (("memory.available<lots",), "invalid eviction threshold 'lots'"),
        (("", "memory.available<1"), "grace period must be specified"),
        (("", "memory.available<1", "memory.available=soon"), "invalid eviction grace period 'soon'"),
    ],
)
def test_what_cannot_be_read_is_told(flags: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadThreshold, match=message):
        parse(*flags)


def test_once_met_more_must_be_there_before_it_no_longer_is() -> None:
    threshold = Threshold("memory.available", Value(share=0.1), reclaim=Value(number=5))
    assert not threshold.met(Observation(10, 100), before=False)
    assert threshold.met(Observation(9, 100), before=False)
    assert threshold.met(Observation(14, 100), before=True)
    assert not threshold.met(Observation(15, 100), before=True)
