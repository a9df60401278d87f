"""Bodies of answers, of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp


async def up_to(largest: int, answer: aiohttp.ClientResponse) -> bytes:
    """All of the body, or its beginning: one read has only what has come so far, be it the first of many packets."""
    got = bytearray()
    while len(got) < largest and (more := await answer.content.read(largest - len(got))):
        got += more
    return bytes(got)
