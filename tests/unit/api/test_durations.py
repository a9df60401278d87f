"""Durations as Go reads them."""

import pytest

from kubecore.api.durations import seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15s", 15.0),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("500ms", 0.5),
        ("2us3ns", 2.003e-6),
        ("1µs", 1e-6),
        ("0", 0.0),
        ("-0", 0.0),
        ("-1m1s", -61.0),
        ("+1s", 1.0),
    ],
)
def test_parts_add_up(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        ("soon", 'time: invalid duration "soon"'),
        (".s", 'time: invalid duration ".s"'),
        ("1s ", 'time: unknown unit "s " in duration "1s "'),
        ("5", 'time: missing unit in duration "5"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("3000000h", 'time: invalid duration "3000000h"'),
    ],
)
def test_what_is_none_is_told_as_go_does(text: str, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        seconds(text)
    assert str(caught.value) == told
