"""What keys and values of labels may look like, which those of taints do as well.

Each check takes a text and returns what is wrong with it, in the words of k8s.io/apimachinery `pkg/util/validation`;
an empty list means it is right. Results are cached, since the same names come again and again.
"""

from __future__ import annotations

import re

from kubecore.api.remembering import remembered

QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"

_QUALIFIED_RE = re.compile(QUALIFIED)
_LABEL_VALUE_RE = re.compile(rf"({QUALIFIED})?")
SUBDOMAIN_RE = re.compile(SUBDOMAIN)

EMPTY = "must be non-empty"

_NAME_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character"
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)


def too_long(limit: int, *, unit: str = "characters") -> str:
    """Labels count bytes, and names characters, in the words of upstream; both mean bytes."""
    return f"must be no more than {limit} {unit}"


def by_pattern(rule: str, pattern: str, *examples: str) -> str:
    """A rule with its examples and its regular expression, punctuated as upstream does."""
    if not examples:
        return f"{rule} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{rule} (e.g. {shown}regex used for validation is '{pattern}')"


_NAME_PART = by_pattern(_NAME_RULE, QUALIFIED, "MyName", "my.name", "123-abc")
_LABEL_VALUE_WRONG = by_pattern(_LABEL_VALUE_RULE, f"({QUALIFIED})?", "MyValue", "my_value", "12345")
SUBDOMAIN_WRONG = by_pattern(_SUBDOMAIN_RULE, SUBDOMAIN, "example.com")


def checked(text: str, limit: int, pattern: re.Pattern[str], wrong: str, *, unit: str = "characters") -> list[str]:
    errors = []
    if len(text) > limit and (text.isascii() or len(text.encode()) > limit):
        errors.append(too_long(limit, unit=unit))
    if pattern.fullmatch(text) is None:
        errors.append(wrong)
    return errors


def long_name(text: str) -> list[str]:
    """An RFC 1123 subdomain in the words of declarative validation, which counts bytes."""
    return checked(text, 253, SUBDOMAIN_RE, SUBDOMAIN_WRONG, unit="bytes")


@remembered(8192)
def _qualified_name(text: str) -> tuple[str, ...]:
    prefix, slash, name = text.rpartition("/")
    errors: list[str] = []
    if slash:
        if "/" in prefix:
            optional = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            return (f"a valid label key {_NAME_PART}{optional}",)
        if not prefix:
            errors.append(f"prefix part {EMPTY}")
        else:
            errors.extend(f"prefix part {error}" for error in long_name(prefix))
    if not name:
        errors.append(f"name part {EMPTY}")
    elif len(name) > 63:
        errors.append(f"name part {too_long(63, unit='bytes')}")
    if _QUALIFIED_RE.fullmatch(name) is None:
        errors.append(f"name part {_NAME_PART}")
    return tuple(errors)


def qualified_name(text: str) -> list[str]:
    """A label key, annotation key, finalizer or extended resource: `name` or `prefix.dns/name`."""
    return list(_qualified_name(text))


@remembered(8192)
def _label_value(text: str) -> tuple[str, ...]:
    return tuple(checked(text, 63, _LABEL_VALUE_RE, _LABEL_VALUE_WRONG, unit="bytes"))


def label_value(text: str) -> list[str]:
    return list(_label_value(text))
