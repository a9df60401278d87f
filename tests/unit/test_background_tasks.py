"""Tasks beside what started them."""

from __future__ import annotations

import asyncio
import logging

import pytest

from kubecore.background_tasks import BackgroundTasks, unless

log = logging.getLogger("kubecore.tests")


async def test_one_that_fails_is_told_of_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise ValueError("no")

    tasks = BackgroundTasks(log)
    with pytest.raises(ValueError, match="no"):
        await tasks.spawn(work(), "counting")
    [told] = caplog.records
    assert (told.getMessage(), told.levelname) == ("counting failed", "ERROR")


async def test_at_the_end_all_are_cancelled_and_waited_for_and_none_is_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    tasks = BackgroundTasks(log)
    started = [tasks.spawn(work(name), name) for name in ("a", "b")]
    await asyncio.sleep(0)
    await tasks.close()
    assert (sorted(ended), all(one.cancelled() for one in started), caplog.records) == (["a", "b"], True, [])


async def test_who_is_cancelled_twice_while_work_is_given_up_leaves_nothing_running() -> None:
    happened, ended = asyncio.Event(), list[str]()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await asyncio.Event().wait()  # it cleans up, which takes long
            finally:
                await asyncio.sleep(0)
                ended.append("work")

    waiting = asyncio.create_task(unless(happened, work()))
    await asyncio.sleep(0)
    happened.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == ["work"]
