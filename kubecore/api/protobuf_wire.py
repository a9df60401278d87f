"""Protobuf as it is on the wire, for messages whose classes no dependency of ours brings.

Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

_SMALL = [bytes((value,)) for value in range(0x80)]
_LENGTH_DELIMITED = 2


def varint(value: int) -> bytes:
    """Of a number that is not negative."""
    if value <= 0x7F:
        return _SMALL[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def head(number: int, length: int) -> bytes:
    """What stands before so many bytes of a text, bytes, or a message."""
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(length)


def message(number: int, content: bytes) -> bytes:
    return head(number, len(content)) + content
