"""What is remembered, and what is not."""

import pytest

from kubecore.api.remembering import remembered


def test_a_text_asked_for_again_is_not_worked_out_again() -> None:
    asked: list[str] = []

    @remembered(8)
    def length(text: str) -> int:
        asked.append(text)
        return len(text)

    assert [length("abc"), length("abc")] == [3, 3]
    assert asked == ["abc"]


def test_a_long_text_is_answered_and_not_kept() -> None:
    asked: list[str] = []

    @remembered(8)
    def length(text: str) -> int:
        asked.append(text)
        return len(text)

    long = "a" * 1000
    assert [length(long), length(long)] == [1000, 1000]
    assert asked == [long, long]


def test_a_failure_is_not_kept() -> None:
    asked: list[str] = []

    @remembered(8)
    def fail(text: str) -> int:
        asked.append(text)
        raise ValueError(text)

    for _ in range(2):
        with pytest.raises(ValueError, match="abc"):
            fail("abc")
    assert asked == ["abc", "abc"]
