"""Image references, as far as defaulting must understand them."""

from __future__ import annotations


def image_tag(image: str) -> str:
    """The tag of a reference: `latest` when it has neither tag nor digest, "" when it has a digest only."""
    name, _, digest = image.partition("@")
    # A colon before the last slash belongs to the registry's port.
    _, colon, tag = name.rpartition("/")[2].partition(":")
    if colon:
        return tag
    return "" if digest else "latest"


def default_pull_policy(image: str) -> str:
    return "Always" if image_tag(image) == "latest" else "IfNotPresent"
