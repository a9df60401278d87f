from kubecore.clock import VirtualClock
from kubecore.controllers.workloads.replacement_backoff import ReplacementBackoff


async def test_the_first_comes_at_once_and_waits_double_up_to_the_maximum() -> None:
    clock = VirtualClock()
    backoff = ReplacementBackoff(clock, initial=1.0, maximum=3.0)
    assert backoff.remaining("a") == 0
    for wait in (1.0, 2.0, 3.0, 3.0):
        backoff.replaced("a")
        assert backoff.remaining("a") == wait
        assert backoff.remaining("b") == 0
        await clock.advance(wait)
        assert backoff.remaining("a") == 0


async def test_it_is_forgotten_after_twice_the_maximum() -> None:
    clock = VirtualClock()
    backoff = ReplacementBackoff(clock, initial=1.0, maximum=3.0)
    for _ in range(3):
        backoff.replaced("a")
    await clock.advance(6.5)
    backoff.replaced("a")
    assert backoff.remaining("a") == 1.0


async def test_a_timer_of_the_time_that_remains_is_enough_however_late_it_is() -> None:
    clock = VirtualClock()
    await clock.advance(1234567.1)
    for step in range(20):
        backoff = ReplacementBackoff(clock, initial=1.1 + step / 7, maximum=900.0)
        backoff.replaced("a")
        await clock.advance(backoff.remaining("a"))
        assert backoff.remaining("a") == 0
