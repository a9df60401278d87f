"""What names, keys, values and addresses may look like.

Each check takes a text and returns what is wrong with it, in the words of k8s.io/apimachinery `pkg/util/validation`;
an empty list means it is right. Results are cached, since the same names come again and again.
"""

from __future__ import annotations

import re

from kubecore.api.remembering import remembered

_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_WILDCARD_SUBDOMAIN = rf"\*\.{_SUBDOMAIN}"
_CONFIG_KEY = r"[-._a-zA-Z0-9]+"
_HEADER = r"[-A-Za-z0-9]+"
_PERCENT = r"[0-9]+%"

_QUALIFIED_RE = re.compile(_QUALIFIED)
_LABEL_VALUE_RE = re.compile(rf"({_QUALIFIED})?")
_LABEL_RE = re.compile(_LABEL)
_SUBDOMAIN_RE = re.compile(_SUBDOMAIN)
_LABEL_1035_RE = re.compile(_LABEL_1035)
_WILDCARD_RE = re.compile(_WILDCARD_SUBDOMAIN)
_CONFIG_KEY_RE = re.compile(_CONFIG_KEY)
# Without a dot in front, as most are: nothing more has to be looked at.
_UNDOTTED_KEY_RE = re.compile(r"[-_a-zA-Z0-9][-._a-zA-Z0-9]*")
_HEADER_RE = re.compile(_HEADER)
_PERCENT_RE = re.compile(_PERCENT)
_PORT_NAME_RE = re.compile(r"[-a-z0-9]+")

EMPTY = "must be non-empty"
NOT_NEGATIVE = "must be greater than or equal to 0"
POSITIVE = "must be greater than zero"
PORT_NUMBER = "must be between 1 and 65535, inclusive"
IMMUTABLE = "field is immutable"

_NAME_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character"
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
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


def too_long(limit: int, *, unit: str = "characters") -> str:
    """Labels count bytes, and names characters, in the words of upstream; both mean bytes."""
    return f"must be no more than {limit} {unit}"


def between(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


def by_pattern(rule: str, pattern: str, *examples: str) -> str:
    """A rule with its examples and its regular expression, punctuated as upstream does."""
    if not examples:
        return f"{rule} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{rule} (e.g. {shown}regex used for validation is '{pattern}')"


_NAME_PART = by_pattern(_NAME_RULE, _QUALIFIED, "MyName", "my.name", "123-abc")
_LABEL_VALUE_WRONG = by_pattern(_LABEL_VALUE_RULE, f"({_QUALIFIED})?", "MyValue", "my_value", "12345")
_LABEL_WRONG = by_pattern(_LABEL_RULE, _LABEL, "my-name", "123-abc")
_SUBDOMAIN_WRONG = by_pattern(_SUBDOMAIN_RULE, _SUBDOMAIN, "example.com")
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


def _checked(text: str, limit: int, pattern: re.Pattern[str], wrong: str, *, unit: str = "characters") -> list[str]:
    errors = []
    if len(text) > limit and (text.isascii() or len(text.encode()) > limit):
        errors.append(too_long(limit, unit=unit))
    if pattern.fullmatch(text) is None:
        errors.append(wrong)
    return errors


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
    return tuple(_checked(text, 63, _LABEL_VALUE_RE, _LABEL_VALUE_WRONG, unit="bytes"))


def label_value(text: str) -> list[str]:
    return list(_label_value(text))


def dns_label(text: str) -> list[str]:
    """RFC 1123 label: namespaces, containers, volumes."""
    return list(_dns_label(text))


@remembered(8192)
def _dns_label(text: str) -> tuple[str, ...]:
    errors = _checked(text, 63, _LABEL_RE, _LABEL_WRONG)
    if errors and errors[-1] == _LABEL_WRONG and _SUBDOMAIN_RE.fullmatch(text):
        errors[-1] = "must not contain dots"
    return tuple(errors)


def long_name(text: str) -> list[str]:
    """An RFC 1123 subdomain in the words of declarative validation, which counts bytes."""
    return _checked(text, 253, _SUBDOMAIN_RE, _SUBDOMAIN_WRONG, unit="bytes")


def dns_subdomain(text: str) -> list[str]:
    """RFC 1123 subdomain: what most objects may be called."""
    return _checked(text, 253, _SUBDOMAIN_RE, _SUBDOMAIN_WRONG)


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
    return _checked(text, 253, _UNDERSCORE_RE, _UNDERSCORE_WRONG)


def dns_1035_label(text: str) -> list[str]:
    """RFC 1035 label: Services."""
    return _checked(text, 63, _LABEL_1035_RE, _LABEL_1035_WRONG)


def wildcard_dns_subdomain(text: str) -> list[str]:
    return _checked(text, 253, _WILDCARD_RE, _WILDCARD_WRONG)


def path_segment(text: str) -> list[str]:
    """RBAC kinds may be called whatever can stand in a URL's path."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in text]


def config_key(text: str) -> list[str]:
    """A key of a ConfigMap or Secret; it can become a file's name."""
    if len(text) <= 253 and _UNDOTTED_KEY_RE.fullmatch(text) is not None:
        return []
    errors = _checked(text, 253, _CONFIG_KEY_RE, _CONFIG_KEY_WRONG)
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
