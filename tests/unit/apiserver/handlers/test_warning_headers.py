"""Warning headers: what they look like, and how much of them is sent."""

from __future__ import annotations

from kubecore.apiserver.handlers.request import warning_headers


def texts(*warnings: str) -> list[str]:
    return [value.removeprefix('299 - "').removesuffix('"') for _, value in warning_headers(warnings)]


def test_a_warning_is_quoted_and_sent_once() -> None:
    assert warning_headers(['a "b" \\c', 'a "b" \\c']) == [("Warning", r'299 - "a \"b\" \\c"')]


def test_an_empty_warning_and_one_with_control_characters_are_left_out() -> None:
    assert texts("", "a\nb", "a\x7f", "a\x85", "ä") == ["ä"]


def test_a_long_warning_alone_is_sent_whole() -> None:
    assert texts("a" * 4096) == ["a" * 4096]


def test_warnings_that_are_too_much_together_are_cut_each() -> None:
    assert texts("a" * 4000, "b" * 97, "c") == ["a" * 256, "b" * 97, "c"]


def test_what_is_too_much_even_then_is_left_out() -> None:
    many = [f"{number:03}" + "é" * 300 for number in range(40)]
    assert texts(*many) == [one[:256] for one in many[:16]]
