import asyncio

import pytest

from kubecore.client.workqueue import RateLimitingQueue, RateLimits, ShutDown
from kubecore.clock import VirtualClock


async def test_a_key_added_twice_is_handed_out_once(clock: VirtualClock) -> None:
    queue = RateLimitingQueue[str](clock)
    queue.add("a")
    queue.add("a")
    assert await queue.get() == "a"
    assert len(queue) == 0


async def test_a_key_added_while_processed_comes_back_only_after_done(clock: VirtualClock) -> None:
    queue = RateLimitingQueue[str](clock)
    queue.add("a")
    await queue.get()
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"


async def test_a_waiting_worker_is_woken_by_add(clock: VirtualClock) -> None:
    queue = RateLimitingQueue[str](clock)
    waiting = asyncio.create_task(queue.get())
    await clock.settle()
    queue.add("a")
    assert await waiting == "a"


async def test_a_wake_up_of_a_cancelled_worker_goes_to_the_next(clock: VirtualClock) -> None:
    queue = RateLimitingQueue[str](clock)
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await clock.settle()
    queue.add("a")
    first.cancel()
    assert await second == "a"


async def test_a_key_added_while_a_worker_ends_is_for_the_next_and_no_error(clock: VirtualClock) -> None:
    queue = RateLimitingQueue[str](clock)
    waiting = asyncio.create_task(queue.get())
    await clock.settle()
    waiting.cancel()
    queue.add("a")
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await queue.get() == "a"


async def test_a_delayed_key_comes_when_its_time_has_come(clock: VirtualClock) -> None:
    queue = RateLimitingQueue[str](clock)
    queue.add_after("a", 10)
    await clock.advance(9)
    assert len(queue) == 0
    await clock.advance(1)
    assert await queue.get() == "a"


async def test_of_two_delays_the_earlier_counts(clock: VirtualClock) -> None:
    queue = RateLimitingQueue[str](clock)
    queue.add_after("a", 10)
    queue.add_after("a", 5)
    queue.add_after("a", 20)
    await clock.advance(5)
    assert len(queue) == 1
    await queue.get()
    queue.done("a")
    await clock.advance(60)
    assert len(queue) == 0


async def test_failures_of_a_key_double_its_back_off_up_to_the_maximum(clock: VirtualClock) -> None:
    queue = RateLimitingQueue[str](clock, RateLimits(base=1, maximum=4))
    for wait in (1, 2, 4, 4):
        queue.add_rate_limited("a")
        await clock.advance(wait - 0.1)
        assert len(queue) == 0
        await clock.advance(0.1)
        assert await queue.get() == "a"
        queue.done("a")
    queue.forget("a")
    queue.add_rate_limited("a")
    await clock.advance(1)
    assert len(queue) == 1


async def test_all_keys_share_one_bucket(clock: VirtualClock) -> None:
    queue = RateLimitingQueue[int](clock, RateLimits(base=0.001, rate=1, burst=2))
    for key in range(4):
        queue.add_rate_limited(key)
    await clock.advance(0.5)
    assert len(queue) == 2
    await clock.advance(1)
    assert len(queue) == 3
    await clock.advance(1)
    assert len(queue) == 4


async def test_shut_down_drains_and_then_ends_workers(clock: VirtualClock) -> None:
    queue = RateLimitingQueue[str](clock)
    queue.add("a")
    queue.shut_down()
    queue.add("b")
    assert await queue.get() == "a"
    with pytest.raises(ShutDown):
        await queue.get()
