"""Quoted texts are those of Go's strconv.Quote."""

import pytest

from kubecore.api.quoting import quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", '""'),
        ("plain text", '"plain text"'),
        ("grüße 世界 😀", '"grüße 世界 😀"'),
        ('say "x"', r'"say \"x\""'),
        ("a\\b", r'"a\\b"'),
        ("\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        ("\x00\x1f\x7f", r'"\x00\x1f\x7f"'),
        ("\x85\xa0\xad", r'"\u0085\u00a0\u00ad"'),
        ("\u200b\u3000", r'"\u200b\u3000"'),
        ("\U000e0001", r'"\U000e0001"'),
    ],
)
def test_what_cannot_be_printed_is_escaped(text: str, shown: str) -> None:
    assert quoted(text) == shown
