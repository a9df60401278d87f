"""Values worth trying in fields of a name, besides what the base objects have there."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

_ODD: dict[str, tuple[Any, ...]] = {
    "url": (
        "http://example.com",
        "https://me:secret@example.com/",
        "https://example.com/#top",
        "https://example.com/?a=b",
        "https://example.com:http/",
        "https://[::1",
        "https://exa mple.com/",
        "https://example.com/%zz",
        ":443",
        "a:443/x",
        "https:example.com",
        "//example.com",
    ),
    "addresses": ("10.0.0.01", "FD00::1", "::ffff:10.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1", "a.example.com."),
    "signerName": ("local/x", "example.com/a/b", "Example.com/x", "example.com/X", "kubernetes.io/legacy-unknown"),
    "nonResourceURLs": ("/", "/a b", "/a//b", "/a*", "/a/*", "/*/b/*"),
    "handSize": (11, 17),
    "verbs": ("*", "eat"),
}


def odd_values(*, certificate: str, request: str) -> Mapping[str, tuple[Any, ...]]:
    """`certificate` is PEM, `request` base64 of PEM."""
    encoded = base64.b64encode(certificate.encode()).decode()
    return {
        **_ODD,
        "certificate": (encoded, request),
        "trustBundle": ("nothing", certificate * 2, base64.b64decode(request).decode()),
    }
