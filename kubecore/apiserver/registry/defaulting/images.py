"""Image references, as far as defaulting must understand them."""

from __future__ import annotations

import re

from kubecore.api.remembering import remembered

_HOST = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_HOST}(?:\.{_HOST})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_TAG = r"[\w][\w.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
# After github.com/distribution/reference.
_REFERENCE = re.compile(rf"((?:{_DOMAIN}/)?{_PART}(?:/{_PART})*)(?::({_TAG}))?(?:@({_DIGEST}))?", re.ASCII)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")


@remembered(4096)
def image_tag(image: str) -> str:
    """The tag of a reference: `latest` when it has neither tag nor digest, "" when it has a digest only or is none."""
    reference = _REFERENCE.fullmatch(image)
    if reference is None or len(reference[1]) > 255 or _IDENTIFIER.fullmatch(image):
        return ""
    return reference[2] or ("" if reference[3] else "latest")


def default_pull_policy(image: str) -> str:
    return "Always" if image_tag(image) == "latest" else "IfNotPresent"
