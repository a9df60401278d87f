"""PEM as Go's encoding/pem reads it: what is no block is passed over."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

_BLOCK_RE = re.compile(
    rb"^-----BEGIN (?P<label>[^\n]*?)-----[ \t\r]*\n"
    rb"(?P<headers>(?:[^\n:]*:[^\n]*\n)*)"
    rb"(?P<body>[^-]*)"
    rb"^-----END (?P=label)-----[ \t\r]*$",
    re.MULTILINE,
)
_SPACE_RE = re.compile(rb"[\s]+")


@dataclass(frozen=True, slots=True)
class Block:
    label: str
    headers: bool
    content: bytes


def blocks(data: bytes) -> Iterator[Block]:
    position = 0
    while found := _BLOCK_RE.search(data, position):
        try:
            content = base64.b64decode(_SPACE_RE.sub(b"", found["body"]), validate=True)
        except binascii.Error:
            # Another one may begin inside.
            position = found.end("label")
            continue
        yield Block(found["label"].decode(errors="replace"), bool(found["headers"]), content)
        position = found.end()
