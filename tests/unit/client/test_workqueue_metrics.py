"""What is told of workqueues, as client-go's users read it."""

from __future__ import annotations

from kubecore.client.workqueue import RateLimitingQueue
from kubecore.client.workqueue_metrics import workqueue_metrics
from kubecore.clock import VirtualClock
from kubecore.metrics import Metrics


def told(queue: RateLimitingQueue[str]) -> dict[str, float]:
    metrics = Metrics()
    metrics.add(*workqueue_metrics({"jobs": queue}))
    lines = [line for line in metrics.render().decode().splitlines() if not line.startswith("#")]
    found = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
    return {name.removeprefix("workqueue_").replace('{name="jobs"}', ""): value for name, value in found.items()}


async def test_keys_are_counted_once_until_they_are_given_out(clock: VirtualClock) -> None:
    queue = RateLimitingQueue[str](clock)
    for key in ("a", "a", "b"):
        queue.add(key)
    assert (told(queue)["adds_total"], told(queue)["depth"]) == (2, 2)
    await queue.get()
    queue.add("a")
    assert (told(queue)["adds_total"], told(queue)["depth"]) == (3, 1)


async def test_it_is_timed_how_long_keys_wait_and_are_worked_on(clock: VirtualClock) -> None:
    queue = RateLimitingQueue[str](clock)
    queue.add("a")
    await clock.advance(2)
    queue.done(await queue.get())
    queue.add("b")
    key = await queue.get()
    await clock.advance(3)
    queue.done(key)
    found = told(queue)
    assert (found["queue_duration_seconds_sum"], found["queue_duration_seconds_count"]) == (2, 2)
    assert (found["work_duration_seconds_sum"], found["work_duration_seconds_count"]) == (3, 2)


async def test_work_that_does_not_end_shows(clock: VirtualClock) -> None:
    queue = RateLimitingQueue[str](clock)
    queue.add("a")
    await queue.get()
    await clock.advance(10)
    queue.add("b")
    key = await queue.get()
    await clock.advance(5)
    found = told(queue)
    assert (found["unfinished_work_seconds"], found["longest_running_processor_seconds"]) == (20, 15)
    queue.done(key)
    assert told(queue)["unfinished_work_seconds"] == 15


async def test_keys_that_come_later_are_retries(clock: VirtualClock) -> None:
    queue = RateLimitingQueue[str](clock)
    queue.add_rate_limited("a")
    queue.add_after("b", 5)
    queue.add("c")
    assert told(queue)["retries_total"] == 2
