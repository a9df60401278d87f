"""Quoted texts are those of Go's strconv.Quote."""

import pytest

from kubecore.api import errors
from kubecore.api.errors import FieldError
from kubecore.api.quoting import Pointed, quoted


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


def test_errors_quote_names_and_values_as_go_does() -> None:
    wrong = FieldError.invalid("metadata.name", "z\ufeff", "must be another")
    assert errors.invalid("ConfigMap", "z\n\x01", [wrong]).message == (
        r'ConfigMap "z\n\x01" is invalid: metadata.name: Invalid value: "z\ufeff": must be another'
    )
    assert errors.not_found("apps", "deployments", 'a"\u200b').message == r'deployments.apps "a\"\u200b" not found'
    # What one of a few values should be is of a type of its own to Go, which shows it as JSON.
    unsupported = FieldError.not_supported("spec.type", "<a>&\u2028", ["X"])
    assert unsupported.message == r'Unsupported value: "\u003ca\u003e\u0026\u2028": supported values: "X"'


def test_a_text_behind_a_pointer_is_shown_as_json() -> None:
    cause = FieldError.invalid("spec.versions[0].deprecationWarning", Pointed("\a<\u3000"), "must be printable")
    assert cause.message == 'Invalid value: "\\u0007\\u003c\u3000": must be printable'
