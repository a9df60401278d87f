"""Tasks beside what started them."""

from __future__ import annotations

import asyncio
import logging

import pytest

from kubecore.background_tasks import BackgroundTasks

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
