"""URLs taken apart as Go's net/url does it, whose complaints clients see."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SCHEME_RE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PORT_RE = re.compile(r"(:[0-9]*)?")
_ESCAPE_RE = re.compile(r"%[0-9A-Fa-f]{2}")
_USERINFO_RE = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")
_NOT_IN_HOST_RE = re.compile(r"[^A-Za-z0-9\-_.~!$&'()*+,;=:\[\]<>\"%\u0080-\U0010ffff]")
# Characters of ASCII cannot be escaped in a host, but for the percent sign itself.
_ESCAPED_ASCII_RE = re.compile(r"%(?!25)[0-7][0-9A-Fa-f]")


class BadURL(ValueError):
    """The text is no URL; the message is Go's."""


@dataclass(frozen=True, slots=True)
class URL:
    """Parts as they were written; `user` is None when there is no `@`."""

    scheme: str
    host: str
    user: str | None
    query: str
    fragment: str


def parse(text: str) -> URL:
    """Raises BadURL."""
    rest, _, fragment = text.partition("#")
    try:
        found = _parse(rest, fragment)
    except _Wrong as wrong:
        raise BadURL(f'parse "{rest}": {wrong}') from None
    if wrong_escape := _bad_escape(fragment):
        raise BadURL(f'parse "{text}": {wrong_escape}')
    return found


class _Wrong(ValueError):
    pass


def _parse(rest: str, fragment: str) -> URL:
    if any(char < " " or char == "\x7f" for char in rest):
        raise _Wrong("net/url: invalid control character in URL")
    if rest.startswith(":"):
        raise _Wrong("missing protocol scheme")
    scheme = ""
    if found := _SCHEME_RE.match(rest):
        scheme, rest = found[0][:-1].lower(), rest[found.end() :]
    rest, _, query = rest.partition("?")
    host, user = "", None
    if not rest.startswith("/"):
        if not scheme and ":" in rest.partition("/")[0]:
            raise _Wrong("first path segment in URL cannot contain colon")
        if scheme:
            return URL(scheme, "", None, query, fragment)
    elif rest.startswith("//") and (scheme or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        host, user = _authority(authority)
        rest = slash + path
    if wrong := _bad_escape(rest):
        raise _Wrong(wrong)
    return URL(scheme, host, user, query, fragment)


def _authority(authority: str) -> tuple[str, str | None]:
    userinfo, at, host = authority.rpartition("@")
    if host.startswith("["):
        _, bracket, port = host.rpartition("]")
        if not bracket:
            raise _Wrong("missing ']' in host")
    else:
        port = host[host.rindex(":") :] if ":" in host else ""
    if _PORT_RE.fullmatch(port) is None:
        raise _Wrong(f'invalid port "{port}" after host')
    if wrong := _bad_escape(host):
        raise _Wrong(wrong)
    if found := _ESCAPED_ASCII_RE.search(host):
        raise _Wrong(f'invalid URL escape "{found[0]}"')
    if found := _NOT_IN_HOST_RE.search(host):
        raise _Wrong(f'invalid character "{found[0]}" in host name')
    if not at:
        return host, None
    if _USERINFO_RE.fullmatch(userinfo) is None:
        raise _Wrong("net/url: invalid userinfo")
    if wrong := _bad_escape(userinfo):
        raise _Wrong(wrong)
    return host, userinfo


def _bad_escape(text: str) -> str:
    """What is wrong with the first percent sign that escapes nothing."""
    start = text.find("%")
    while start >= 0:
        if _ESCAPE_RE.match(text, start) is None:
            return f'invalid URL escape "{text[start : start + 3]}"'
        start = text.find("%", start + 3)
    return ""
