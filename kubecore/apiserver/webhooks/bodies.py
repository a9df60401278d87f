"""Answers, of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict

if TYPE_CHECKING:
    import aiohttp


class _Limits(TypedDict):
    max_line_size: int
    max_field_size: int
    max_headers: int


# Go reads heads of up to 10 MiB, aiohttp by itself lines of 8 KiB.
HEADS: Final = _Limits(max_line_size=1 << 20, max_field_size=1 << 20, max_headers=1000)


async def up_to(largest: int, answer: aiohttp.ClientResponse) -> bytes:
    """All of the body, or its beginning: one read has only what has come so far, be it the first of many packets."""
    got = bytearray()
    while len(got) < largest and (more := await answer.content.read(largest - len(got))):
        got += more
    return bytes(got)
