from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest

from kubecore.clock import RealClock, VirtualClock

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def test_virtual_time_stands_still_until_it_is_advanced() -> None:
    clock = VirtualClock(START)
    assert clock.now() == START
    await clock.advance(90)
    assert clock.now() == START + timedelta(seconds=90)
    assert clock.monotonic() == 90


async def test_timers_fire_in_order_of_their_time_and_see_it() -> None:
    clock = VirtualClock(START)
    fired: list[tuple[str, float]] = []
    clock.call_later(5, lambda: fired.append(("five", clock.monotonic())))
    clock.call_later(2, lambda: fired.append(("two", clock.monotonic())))
    clock.call_later(2, lambda: fired.append(("two again", clock.monotonic())))
    clock.call_later(9, lambda: fired.append(("nine", clock.monotonic())))
    await clock.advance(8)
    assert fired == [("two", 2), ("two again", 2), ("five", 5)]


async def test_a_cancelled_timer_does_not_fire() -> None:
    clock = VirtualClock(START)
    fired: list[int] = []
    timer = clock.call_later(1, lambda: fired.append(1))
    timer.cancel()
    assert clock.next_timer() is None
    await clock.advance(2)
    assert fired == []


async def test_a_sleeper_that_sleeps_again_runs_within_one_advance() -> None:
    clock = VirtualClock(START)
    woken: list[float] = []

    async def sleeper() -> None:
        for _ in range(3):
            await clock.sleep(10)
            woken.append(clock.monotonic())

    task = asyncio.create_task(sleeper())
    await clock.advance(25)
    assert woken == [10, 20]
    await clock.advance(5)
    assert woken == [10, 20, 30]
    await task


async def test_woken_tasks_run_until_idle_before_advance_returns() -> None:
    clock = VirtualClock(START)
    queue: asyncio.Queue[int] = asyncio.Queue()
    seen: list[int] = []

    async def relay() -> None:
        while True:
            seen.append(await queue.get())

    task = asyncio.create_task(relay())
    clock.call_later(1, lambda: queue.put_nowait(7))
    await clock.advance(1)
    assert seen == [7]
    task.cancel()


async def test_a_timeout_cancels_the_body_and_raises_timeout_error() -> None:
    clock = VirtualClock(START)

    async def late() -> None:
        async with clock.timeout(3):
            await clock.sleep(10)

    task = asyncio.create_task(late())
    await clock.advance(3)
    with pytest.raises(TimeoutError):
        await task


async def test_a_timeout_in_time_leaves_no_timer() -> None:
    clock = VirtualClock(START)
    async with clock.timeout(3):
        await clock.sleep(0)
    assert clock.next_timer() is None


async def test_a_cancellation_from_outside_is_no_timeout() -> None:
    clock = VirtualClock(START)

    async def body() -> None:
        async with clock.timeout(3):
            await clock.sleep(10)

    task = asyncio.create_task(body())
    await clock.advance(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_failing_callback_is_reported_and_later_timers_still_fire() -> None:
    clock = VirtualClock(START)
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    fired: list[int] = []

    def fail() -> None:
        raise ValueError("boom")

    clock.call_later(1, fail)
    clock.call_later(2, lambda: fired.append(1))
    await clock.advance(3)
    assert fired == [1]
    assert isinstance(reported[0], ValueError)


async def test_the_real_clock_reads_aware_utc_and_runs_timers() -> None:
    clock = RealClock()
    assert clock.now().tzinfo is UTC
    called = asyncio.Event()
    clock.call_later(0, called.set)
    async with clock.timeout(5):
        await called.wait()
    with pytest.raises(TimeoutError):
        async with clock.timeout(0):
            await asyncio.Event().wait()


async def test_time_stands_still_while_another_thread_works_that_the_clock_was_told_of() -> None:
    clock = VirtualClock()
    loop = asyncio.get_running_loop()
    working, order = [True], []

    def done() -> None:
        working.clear()
        order.append(("work", clock.monotonic()))

    clock.heed(lambda: bool(working))
    clock.call_later(5, lambda: order.append(("timer", clock.monotonic())))
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(done))
    thread.start()
    await clock.advance(10)
    thread.join()
    assert order == [("work", 0.0), ("timer", 5.0)]


async def test_the_loops_thread_does_its_share_of_what_time_stands_still_for() -> None:
    clock = VirtualClock()
    left, order = [3], []

    def share() -> None:
        left[0] -= 1
        order.append((left[0], clock.monotonic()))

    clock.heed(lambda: left[0] > 0, share)
    clock.call_later(5, lambda: order.append(("timer", clock.monotonic())))
    await clock.advance(10)
    assert order == [(2, 0.0), (1, 0.0), (0, 0.0), ("timer", 5.0)]


async def test_work_is_driven_to_its_end_over_its_timers() -> None:
    clock = VirtualClock()

    async def work() -> str:
        await clock.sleep(0.5)
        return "done"

    assert await clock.drive(work()) == "done"
    assert clock.monotonic() >= 0.5


async def test_time_stands_still_while_a_program_outside_is_waited_for() -> None:
    clock = VirtualClock()
    asked, answered = asyncio.Event(), asyncio.Event()
    order: list[tuple[str, float]] = []

    async def ask() -> None:
        async with clock.outside(30):
            asked.set()
            await answered.wait()
        order.append(("answer", clock.monotonic()))
        await clock.sleep(1)
        order.append(("what follows", clock.monotonic()))

    clock.call_later(5, lambda: order.append(("timer", clock.monotonic())))
    asking = asyncio.create_task(ask())
    passing = asyncio.create_task(clock.advance(10))
    await asked.wait()
    for _ in range(300):
        await asyncio.sleep(0)
    assert (clock.monotonic(), order) == (0.0, [])
    answered.set()
    await passing
    await asking
    assert order == [("answer", 0.0), ("what follows", 1.0), ("timer", 5.0)]


@pytest.mark.parametrize("clock", [RealClock(), VirtualClock()], ids=["real", "virtual"])
async def test_who_never_answers_from_outside_is_given_up_in_real_time(clock: RealClock | VirtualClock) -> None:
    with pytest.raises(TimeoutError):
        async with clock.outside(0.01):
            await asyncio.Event().wait()
    if isinstance(clock, VirtualClock):
        assert clock.monotonic() == 0
        await clock.advance(1)


async def test_two_who_let_time_pass_wait_for_the_same_answer_and_one_may_give_up() -> None:
    clock = VirtualClock()
    answered = asyncio.Event()

    async def ask() -> None:
        async with clock.outside(30):
            await answered.wait()

    asking = asyncio.create_task(ask())
    first, second = asyncio.create_task(clock.advance(1)), asyncio.create_task(clock.advance(2))
    for _ in range(10):
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    answered.set()
    await asyncio.gather(asking, second)
    assert clock.monotonic() == 2
