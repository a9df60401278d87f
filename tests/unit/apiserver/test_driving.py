"""Coroutines that are run to their end, whoever waits for them."""

from __future__ import annotations

import asyncio

import pytest

from kubecore.apiserver.transport.driving import to_its_end


async def test_what_it_comes_to_is_what_the_waiter_gets() -> None:
    async def work(number: int) -> int:
        await asyncio.sleep(0)
        if number < 0:
            raise ValueError(str(number))
        return number

    assert await to_its_end(work(1)) == 1
    with pytest.raises(ValueError, match="-1"):
        await to_its_end(work(-1))


async def test_it_goes_on_when_the_waiter_is_cancelled() -> None:
    go, over = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        over.set()

    waiting = asyncio.create_task(to_its_end(work()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    go.set()
    await over.wait()
