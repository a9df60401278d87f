"""Work on threads of its own."""

from __future__ import annotations

import asyncio
import threading

import pytest

from kubecore.own_threads import on_own_thread


async def test_each_work_has_a_thread_that_the_program_s_end_does_not_wait_for() -> None:
    def told() -> tuple[threading.Thread, bool]:
        return threading.current_thread(), threading.current_thread().daemon

    (first, daemon), (second, _) = [await on_own_thread(told, "one") for _ in range(2)]
    assert first is not second
    assert first.name == "one"
    assert daemon


async def test_what_it_raises_is_raised() -> None:
    def fail() -> None:
        raise OSError(5, "broken")

    with pytest.raises(OSError, match="broken"):
        await on_own_thread(fail, "one")


async def test_many_that_do_not_end_keep_nobody_from_working() -> None:
    go_on = threading.Event()
    hung = [asyncio.create_task(on_own_thread(go_on.wait, "hung")) for _ in range(50)]
    try:
        assert await asyncio.wait_for(on_own_thread(lambda: "done", "another"), 60) == "done"
        assert not any(task.done() for task in hung)
        hung[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await hung[0]
    finally:
        go_on.set()
    assert await asyncio.gather(*hung[1:]) == [True] * 49
