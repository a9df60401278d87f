"""What names, keys, values and addresses may look like.

Each check takes a text and returns what is wrong with it, in the words of k8s.io/apimachinery `pkg/util/validation`;
an empty list means it is right. Results are cached, since the same names come again and again.
"""

from __future__ import annotations

import re

from kubecore.api.label_names import (
    EMPTY,
    LABEL,
    SUBDOMAIN,
    SUBDOMAIN_RE,
    SUBDOMAIN_WRONG,
    by_pattern,
    checked,
    label_value,
    long_name,
    qualified_name,
    too_long,
)
from kubecore.api.remembering import remembered

__all__ = ["EMPTY", "by_pattern", "label_value", "long_name", "qualified_name", "too_long"]

_LABEL_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_WILDCARD_SUBDOMAIN = rf"\*\.{SUBDOMAIN}"
_CONFIG_KEY = r"[-._a-zA-Z0-9]+"
_HEADER = r"[-A-Za-z0-9]+"
_PERCENT = r"[0-9]+%"

_LABEL_RE = re.compile(LABEL)
_LABEL_1035_RE = re.compile(_LABEL_1035)
_WILDCARD_RE = re.compile(_WILDCARD_SUBDOMAIN)
_CONFIG_KEY_RE = re.compile(_CONFIG_KEY)
# Without a dot in front, as most are: nothing more has to be looked at.
_UNDOTTED_KEY_RE = re.compile(r"[-_a-zA-Z0-9][-._a-zA-Z0-9]*")
_HEADER_RE = re.compile(_HEADER)
_PERCENT_RE = re.compile(_PERCENT)
_PORT_NAME_RE = re.compile(r"[-a-z0-9]+")

NOT_NEGATIVE = "must be greater than or equal to 0"
POSITIVE = "must be greater than zero"
PORT_NUMBER = "must be between 1 and 65535, inclusive"
IMMUTABLE = "field is immutable"

_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character"
)
_LABEL_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
    "start with an alphabetic character, and end with an alphanumeric character"
)
_WILDCARD_RULE = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character"
)
_ENV_NAME_RULE = "a valid environment variable name must consist only of printable ASCII characters other than '='"


def between(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


_LABEL_WRONG = by_pattern(_LABEL_RULE, LABEL, "my-name", "123-abc")
_LABEL_1035_WRONG = by_pattern(_LABEL_1035_RULE, _LABEL_1035, "my-name", "abc-123")
_WILDCARD_WRONG = by_pattern(_WILDCARD_RULE, _WILDCARD_SUBDOMAIN, "*.example.com")
_CONFIG_KEY_WRONG = by_pattern(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _CONFIG_KEY,
    "key.name",
    "KEY_NAME",
    "key-name",
)
_HEADER_WRONG = by_pattern(
    "a valid HTTP header must consist of alphanumeric characters or '-'", _HEADER, "X-Header-Name"
)
_PERCENT_WRONG = by_pattern(
    "a valid percent string must be a numeric string followed by an ending '%'", _PERCENT, "1%", "93%"
)


def dns_label(text: str) -> list[str]:
    """RFC 1123 label: namespaces, containers, volumes."""
    return list(_dns_label(text))


@remembered(8192)
def _dns_label(text: str) -> tuple[str, ...]:
    errors = checked(text, 63, _LABEL_RE, _LABEL_WRONG)
    if errors and errors[-1] == _LABEL_WRONG and SUBDOMAIN_RE.fullmatch(text):
        errors[-1] = "must not contain dots"
    return tuple(errors)


def dns_subdomain(text: str) -> list[str]:
    """RFC 1123 subdomain: what most objects may be called."""
    return checked(text, 253, SUBDOMAIN_RE, SUBDOMAIN_WRONG)


_UNDERSCORE_LABEL = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_UNDERSCORE_SUBDOMAIN = rf"{_UNDERSCORE_LABEL}(\.{_UNDERSCORE_LABEL})*"
_UNDERSCORE_RE = re.compile(_UNDERSCORE_SUBDOMAIN)
_UNDERSCORE_WRONG = by_pattern(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', "
    "and must start and end with an alphanumeric character",
    _UNDERSCORE_SUBDOMAIN,
    "example.com",
)


def search_domain(text: str) -> list[str]:
    """A subdomain that may have underscores, as the domains a resolver searches do."""
    return checked(text, 253, _UNDERSCORE_RE, _UNDERSCORE_WRONG)


def dns_1035_label(text: str) -> list[str]:
    """RFC 1035 label: Services."""
    return checked(text, 63, _LABEL_1035_RE, _LABEL_1035_WRONG)


def wildcard_dns_subdomain(text: str) -> list[str]:
    return checked(text, 253, _WILDCARD_RE, _WILDCARD_WRONG)


def path_segment(text: str) -> list[str]:
    """RBAC kinds may be called whatever can stand in a URL's path."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in text]


def config_key(text: str) -> list[str]:
    """A key of a ConfigMap or Secret; it can become a file's name."""
    if len(text) <= 253 and _UNDOTTED_KEY_RE.fullmatch(text) is not None:
        return []
    errors = checked(text, 253, _CONFIG_KEY_RE, _CONFIG_KEY_WRONG)
    if text == ".":
        errors.append("must not be '.'")
    elif text == "..":
        errors.append("must not be '..'")
    elif text.startswith(".."):
        errors.append("must not start with '..'")
    return errors


# Printable ASCII without the equals sign.
_ENV_NAME_RE = re.compile(r"[ -<>-~]+")


def environment_name(text: str) -> list[str]:
    if not text:
        return [f"environment variable name {EMPTY}"]
    return [] if _ENV_NAME_RE.fullmatch(text) else [_ENV_NAME_RULE]


_HTTP_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_HTTP_PATH_RE = re.compile(_HTTP_PATH)


def domain_prefixed_path(text: str) -> list[tuple[str, str]]:
    """`acme.io/foo`: what is wrong, and of which part."""
    domain, _, path = text.partition("/")
    if not domain or not path:
        return [(text, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    errors = [(domain, error) for error in dns_subdomain(domain)]
    if _HTTP_PATH_RE.fullmatch(path) is None:
        errors.append((path, by_pattern("Invalid path", _HTTP_PATH)))
    return errors


def header_name(text: str) -> list[str]:
    return [] if _HEADER_RE.fullmatch(text) else [_HEADER_WRONG]


def port_name(text: str) -> list[str]:
    """An IANA service name: at most 15 characters, with a letter."""
    errors = []
    if len(text) > 15:
        errors.append(too_long(15))
    if _PORT_NAME_RE.fullmatch(text) is None:
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= char <= "z" for char in text):
        errors.append("must contain at least one letter (a-z)")
    if "--" in text:
        errors.append("must not contain consecutive hyphens")
    if text[:1] == "-" or text[-1:] == "-":
        errors.append("must not begin or end with a hyphen")
    return errors


def port_number(port: int) -> list[str]:
    return [] if 1 <= port <= 65535 else [PORT_NUMBER]


def percent(text: str) -> list[str]:
    return [] if _PERCENT_RE.fullmatch(text) else [_PERCENT_WRONG]


def as_prefix(text: str) -> str:
    """A generateName with its trailing hyphen masked, for the check that a name can be made of it."""
    return text[:-1] + "a" if len(text) > 1 and text.endswith("-") else text
