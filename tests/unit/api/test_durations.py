"""Durations as Go reads and writes them."""

import pytest

from kubecore.api.durations import seconds, text


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


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0s"),
        (10, "10s"),
        (90.5, "1m30.5s"),
        (900, "15m0s"),
        (3600, "1h0m0s"),
        (-300, "-5m0s"),
        (0.5, "500ms"),
        (0.0015, "1.5ms"),
        (2e-6, "2µs"),
        (3e-9, "3ns"),
    ],
)
def test_a_duration_is_written_as_go_shows_it(number: float, shown: str) -> None:
    assert text(number) == shown
